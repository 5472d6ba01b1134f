"""`init`, `validate`, `jobs`."""

import json
import stat

from tests.cli.conftest import listing


def test_init_writes_a_file_that_validates_and_runs(shell, place):
    place.fill()
    place.home.rmdir()
    done = shell("init", "--source", "source", "--repository", place.repository, cwd=place.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"wrote {place.home}/jobs.yaml"
    assert "unencrypted" in done.stdout
    assert "restic" in done.stdout
    assert stat.S_IMODE(place.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((place.home / "jobs.yaml").stat().st_mode) == 0o600
    assert shell("validate").stdout == "2 jobs, 1 repository: no problems.\n"
    assert [row["source"] for row in shell.data("jobs") if row["job"] == "source"] == [[str(place.source)]]
    assert shell("run", "source").returncode == 0
    assert shell("run", shell.data("jobs")[1]["job"]).returncode in (0, 3)  # the home itself, which is in use


def test_init_without_folders_writes_comments_to_fill_in(shell, place):
    done = shell("init")
    assert done.returncode == 0
    assert "comments" in done.stdout
    assert shell("validate").stdout == "0 jobs, 0 repositories: no problems.\n"
    assert shell("jobs").stderr == f"{place.home}/jobs.yaml holds no job yet.\n"
    assert shell.data("jobs") == []


def test_init_never_overwrites(shell, filled):
    before = listing(filled.home)
    done = shell("init", "--source", filled.source, "--repository", filled.repository)
    assert done.returncode == 2
    assert done.stderr.startswith(f"backup-ops: {filled.home}/jobs.yaml is there already; it was left as it is.")
    assert listing(filled.home) == before


def test_init_leaves_a_dangling_link_alone(shell, place):
    (place.home / "jobs.yaml").symlink_to("elsewhere")
    assert shell("init").returncode == 2
    assert not (place.home / "elsewhere").exists()


def test_init_names_a_folder_that_is_not_there_and_makes_no_home(shell, place):
    place.home.rmdir()
    for words in (["--source", place.folder / "gone"], ["--repository", place.folder / "gone" / "repository"]):
        done = shell("init", *words)
        assert done.returncode == 2
        assert f"{words[0]} {words[1]}" in done.stderr
    assert not place.home.exists()


def test_init_refuses_a_repository_in_its_source_before_anything_is_written(shell, place):
    place.home.rmdir()
    done = shell("init", "--source", place.source, "--repository", place.source / "repository")
    assert done.returncode == 2
    assert done.stderr.startswith("jobs.yaml:")
    assert not place.home.exists()


def test_validate_names_every_problem_with_its_line(shell, place):
    place.write_jobs("music: {sorce: /srv/music, repository: mirrr}\n")
    done = shell("validate")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert "jobs.yaml:7: job 'music' has no setting 'sorce'. Did you mean 'source'?" in lines
    assert any(line.startswith("jobs.yaml:7: ") and "'mirrr'" in line for line in lines)
    problems = json.loads(shell("validate", "--json").stdout)
    assert {(row["file"], row["line"], row["kind"]) for row in problems} == {("jobs.yaml", 7, "problem")}


def test_settings_not_acted_on_yet_are_notices(shell, place):
    place.write_jobs(f"music: {{source: {place.source}, repository: mirror, retention: {{last: 3}}}}\n")
    done = shell("validate")
    assert done.returncode == 0
    assert done.stdout == "2 jobs, 1 repository: no problems.\n"
    assert "retention" in done.stderr
    assert [row["kind"] for row in json.loads(shell("validate", "--json").stdout)] == ["notice"]
    assert shell("validate", "-q").stderr == ""


def test_jobs_are_listed_in_the_order_of_the_file(shell, place):
    place.write_jobs(
        f"b: {{source: {place.source}, repository: mirror}}\na: {{source: [/x, /y], repository: mirror}}\n"
    )
    done = shell("jobs")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["JOB", "photos", "b", "a"]
    assert done.stdout.splitlines()[3].endswith("/x, /y")
