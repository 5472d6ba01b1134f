"""Bad input: a sentence that names the thing, its value and what to do; the exit code; and nothing else changed."""

import os
import shutil
import subprocess

import pytest

import backup_ops as bo
from backup_ops.cli import main
from tests.cli.conftest import listing

COMMANDS_ON_A_HOME = [
    ["validate"], ["jobs"], ["run", "photos"], ["cancel", "photos"], ["status"], ["runs"], ["errors"], ["resolve", "x"],
    ["logs", "x"], ["snapshots", "photos"], ["ls", "photos", "latest"], ["restore", "photos", "--target", "t"],
    ["export", "runs", "f.csv"], ["sql", "SELECT 1"], ["serve", "--port", "0"],
]  # fmt: skip


def refused(done, *parts, code=2):
    """One sentence on stderr with all the parts, nothing on stdout, no trace."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for part in parts:
        assert str(part) in done.stderr
    return done


@pytest.mark.parametrize("words", COMMANDS_ON_A_HOME, ids=lambda words: words[0])
def test_home_that_is_not_there_is_not_made(shell, place, words):
    place.home.rmdir()
    before = listing(place.folder)
    done = refused(shell(*words, cwd=place.folder), f"there is no home at {place.home}.", "`backup-ops init`")
    assert len(done.stderr.splitlines()) == 1
    assert listing(place.folder) == before


@pytest.mark.parametrize("words", [["status"], ["init"]])
def test_folder_of_other_things_is_no_home_and_stays_as_it_is(shell, place, words):
    folder = place.folder / "music"
    folder.mkdir(mode=0o755)
    (folder / "song.ogg").write_text("la")
    before = listing(place.folder)
    refused(shell("--home", folder, *words), f"{folder} is not a home", "--home")
    assert listing(place.folder) == before
    assert folder.stat().st_mode & 0o777 == 0o755


def test_file_in_the_place_of_the_home(shell, place):
    refused(shell("--home", "/etc/hostname", "runs"), "home /etc/hostname is a file, not a folder.")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root: run the tests as root")
def test_home_of_another_user(shell, filled):
    os.chown(filled.home, 65534, 65534)
    before = listing(filled.home)
    refused(shell("run", "photos"), f"home {filled.home} belongs to user nobody, and this is user root.")
    assert listing(filled.home) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only mount needs root: run the tests as root")
def test_home_that_cannot_be_written(shell, filled):
    script = 'mount -t tmpfs none "$1" && mkdir "$1/home" && mount -o remount,ro "$1" && shift && exec "$@"'
    disk = filled.folder / "disk"
    disk.mkdir()
    command = [shell.python, "-m", "backup_ops", "--home", str(disk / "home"), "run", "photos"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(disk), *command],
        capture_output=True, text=True, env=shell.environment, timeout=60,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip("mount namespaces are not allowed here")
    refused(done, f"home {disk}/home", "mounted read-only")


def test_unknown_job(shell, filled):
    shell("runs")
    before = listing(filled.folder)
    for words in (
        ["run", "phots"],
        ["snapshots", "phots"],
        ["ls", "phots", "latest"],
        ["restore", "phots", "--target", "t"],
    ):
        refused(shell(*words, cwd=filled.folder), "no job is named 'phots'.", "Did you mean 'photos'?")
    assert listing(filled.folder) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\njobs:\n\tphotos: {}\n", "jobs.yaml:3: "),
        ("version: 1\njobs: {photos: {source: /x, repository: mirror}}\n", "jobs.yaml:2: "),
        ("", "jobs.yaml: the file is empty."),
        ("version: 1\njobs: \xff\n", "jobs.yaml:2: "),
    ],
)
def test_broken_yaml(shell, filled, text, said):
    shell("runs")
    (filled.home / "jobs.yaml").write_bytes(text.encode("latin-1"))
    before = listing(filled.folder)
    for words in (["validate"], ["run", "photos"], ["jobs"], ["snapshots", "photos"]):
        done = refused(shell(*words), said)
        assert all(line.startswith("jobs.yaml") for line in done.stderr.splitlines())
    assert listing(filled.folder) == before


def test_jobs_yaml_that_is_not_there(shell, place):
    refused(shell("run", "photos"), f"there is no {place.home}/jobs.yaml", "backup-ops init")


def run_fails(shell, place, *parts):
    done = shell("run", "photos")
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("photos: failed")
    for part in parts:
        assert str(part) in line
    assert "What to do: " in line
    assert [row["outcome"] for row in shell.data("runs")] == ["failed"]
    assert len(shell.data("errors", "--job", "photos")) == 1


def test_source_missing(shell, filled):
    shutil.rmtree(filled.source)
    run_fails(shell, filled, filled.source)
    assert not filled.repository.exists()


def test_source_empty(shell, filled):
    shutil.rmtree(filled.source)
    filled.source.mkdir()
    run_fails(shell, filled, filled.source, "guard.min_files")


def test_source_that_is_a_file_is_backed_up_or_named(shell, filled):
    shutil.rmtree(filled.source)
    filled.source.write_text("a file")
    done = shell("run", "photos")
    assert done.returncode in (0, 1)
    assert "photos: saved 6 B (1 new)" in done.stdout or str(filled.source) in done.stdout


@pytest.mark.parametrize("inside", ["source in destination", "destination in source"])
def test_source_and_destination_inside_each_other(shell, place, inside):
    place.fill()
    place.repository = place.source / "repository" if inside == "destination in source" else place.source.parent
    place.write_jobs()
    before = listing(place.source)
    refused(shell("run", "photos"), "jobs.yaml:", "photos", place.source)
    assert listing(place.source) == before


def test_destination_in_source_by_a_link_is_not_backed_up_into_itself(shell, place):
    place.fill()
    (place.folder / "link").symlink_to(place.source)
    place.repository = place.folder / "link" / "repository"
    place.write_jobs()
    assert "(5 new)" in shell("run", "photos").stdout
    assert "saved, nothing had changed (5 files," in shell("run", "photos").stdout


def test_rclone_missing(shell, filled):
    filled.write_jobs(settings="{engines: {rclone: /nowhere/rclone}}")
    shell("runs")
    before = listing(filled.folder)
    refused(shell("run", "photos"), "/nowhere/rclone", "settings.engines")
    assert listing(filled.folder) == before


@pytest.mark.parametrize(
    "select",
    [
        "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "COPY runs TO 'out.csv'",
        "COPY (SELECT 1) TO 'out.csv'", "ATTACH 'out.duckdb'", "INSTALL httpfs", "LOAD httpfs", "SET threads = 1",
        "RESET threads", "PRAGMA database_list", "CREATE TABLE x (y INT)", "INSERT INTO runs SELECT * FROM runs",
        "DELETE FROM runs", "DROP VIEW runs", "SELECT 1; SELECT 2", "EXPORT DATABASE 'out'", "selec 1", "",
        "SELECT getenv('HOME')", "SELECT * FROM glob('/*')", "CALL pragma_version()",
    ],
)  # fmt: skip
def test_sql_that_is_not_one_select(past_home, tmp_path, monkeypatch, capsys, select):
    monkeypatch.chdir(tmp_path)
    before = listing(past_home.folder)
    assert main(["--home", str(past_home.home), "sql", select]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("backup-ops: ")
    assert "Traceback" not in said.err
    assert listing(past_home.folder) == before
    assert list(tmp_path.iterdir()) == []
    with bo.open(past_home.home) as ops:
        assert len(ops.runs()) == 4


def test_defect_is_one_sentence_and_a_trace_only_with_verbose(shell, filled, monkeypatch, capsys):
    from backup_ops.manager import JobManager

    def broken(_):
        raise KeyError("x")

    monkeypatch.setattr(JobManager, "jobfile", broken)
    assert main(["--home", str(filled.home), "jobs"]) == 1
    said = capsys.readouterr().err
    assert (
        said == "backup-ops: a defect of backup-ops stopped it (KeyError: 'x'). The same command with -v shows where.\n"
    )
    assert main(["--home", str(filled.home), "jobs", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err
