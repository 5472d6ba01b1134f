"""`verify` and `diff`, and all that works on a repository without a home."""

import json
import os
import random
import shutil
import signal

import psutil
import pytest
from servers import serving

import backup_ops as bo
from backup_ops.errors import HistoryBusy
from tests.cli.conftest import Shell, listing
from tests.conftest import Place, wait_until


@pytest.fixture
def saved(place):
    """Two snapshots of `photos`; between them a file changed, one moved, one went, one came."""
    place.fill()
    place.write_jobs()
    shell = Shell(place.home)
    (place.source / "note.txt").write_bytes(b"first")
    assert shell("run", "photos").returncode == 0
    (place.source / "note.txt").write_bytes(b"second!")
    (place.source / "file-0.bin").rename(place.source / "renamed.bin")
    (place.source / "file-1.bin").unlink()
    (place.source / "new.txt").write_bytes(b"new")
    assert shell("run", "photos").returncode == 0
    return place


@pytest.fixture
def bare(shell, tmp_path):
    """The command on a machine that has nothing: no home, and none may come of it."""
    folder = tmp_path / "nobody"
    folder.mkdir()
    made = Shell(folder / "home")
    made.environment["HOME"] = str(folder)
    yield made
    assert list(folder.iterdir()) == [], "something was made"


def spoil(place, name):
    file = next((place.repository / "runs").rglob(name))
    data = bytearray(file.read_bytes())
    data[random.randrange(len(data))] ^= 1
    file.write_bytes(data)


def test_diff_says_what_changed(shell, saved):
    newest, oldest = (row["snapshot_id"] for row in shell.data("snapshots", "photos"))
    done = shell("diff", "photos", oldest, newest)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "- file-1.bin  (0.98 KiB)",
        "+ new.txt  (3 B)",
        "~ note.txt  (5 B -> 7 B)",
        "> file-0.bin -> renamed.bin  (0.98 KiB)",
        "4 changes: 1 new, 1 deleted, 1 changed, 1 moved.",
    ]
    rows = shell.data("diff", "photos", oldest, "latest")
    assert [(row["change"], row["path"]) for row in rows] == [
        ("deleted", "file-1.bin"), ("new", "new.txt"), ("changed", "note.txt"), ("moved", "renamed.bin"),
    ]  # fmt: skip
    assert rows[0]["mtime_before"].endswith("Z") and rows[0]["mtime_after"] is None
    assert shell("diff", "photos", "latest", "latest").stdout == "Nothing changed.\n"


def test_diff_gives_a_frame(saved):
    with bo.open(saved.home) as ops:
        newest, oldest = ops.snapshots("photos")
        frame = ops.diff("photos", oldest.snapshot_id, newest.snapshot_id)
    assert list(frame.columns) == [
        "change", "path", "kind", "path_before", "bytes_before", "bytes_after", "mtime_before", "mtime_after",
    ]  # fmt: skip
    assert frame.groupby("change").size().to_dict() == {"deleted": 1, "new": 1, "changed": 1, "moved": 1}
    row = frame.set_index("path").loc["note.txt"]
    assert (row.bytes_before, row.bytes_after) == (5, 7)
    assert row.mtime_after.value == (saved.source / "note.txt").stat().st_mtime_ns


@pytest.mark.parametrize("level", ["list", "sample", "full"])
def test_verify_of_a_sound_repository(shell, saved, level):
    done = shell("verify", "photos", "--level", level)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"repository {saved.repository} is sound: 2 snapshots, 8 stored files")
    event = shell.data("sql", "SELECT job, data FROM events WHERE kind = 'repository_verified'")[0]
    told = event["data"] if isinstance(event["data"], dict) else json.loads(event["data"])
    assert event["job"] == "photos"
    assert (told["level"], told["snapshots"], told["files"], told["damages_total"]) == (level, 2, 8, 0)
    assert told["files_read"] == (0 if level == "list" else 8)


def reads_content(pid):
    try:
        return any("hashsum" in tool.cmdline() for tool in psutil.Process(pid).children())
    except psutil.Error:  # one that has just ended
        return False


def test_ctrl_c_ends_a_verification(shell, place):
    place.fill(20, 50_000)
    place.write_jobs()
    assert shell("run", "photos").returncode == 0
    place.write_jobs(f"slow: {{uid: photos, source: {place.source}, repository: mirror, limits: {{bandwidth: 20K}}}}\n")
    text = (place.home / "jobs.yaml").read_text()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("  photos:")]
    (place.home / "jobs.yaml").write_text("".join(lines))
    process = shell.start("verify", "slow", "--level", "full")
    wait_until(lambda: reads_content(process.pid), what="rclone to read")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "backup-ops: interrupted.\n")


def test_verify_names_what_is_damaged_and_records_it(shell, saved):
    newest, oldest = (row["snapshot_id"] for row in shell.data("snapshots", "photos"))
    spoil(saved, "file-2.bin")
    assert shell("verify", "photos").returncode == 0
    done = shell("verify", "photos", "--level", "full")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == (
        f"file-2.bin: runs/{oldest}/file-2.bin is not what was stored (sha256 differs) (in {newest}, {oldest})"
    )
    assert "is damaged: 1 of its files, in 2 of 2 snapshots (level full)." in done.stdout
    error = shell.data("errors", "--job", "photos")[0]
    assert (error["error_type"], error["severity"]) == ("repository_corrupt", "CRITICAL")
    assert "file-2.bin" in error["details"]
    as_data = json.loads(shell("verify", "photos", "--level", "full", "--json").stdout)
    assert (as_data["is_sound"], as_data["damages"][0]["snapshots"]) == (False, [newest, oldest])


def forget_snapshot(place, snapshot_id):
    for name in (f"{snapshot_id}.json", f"{snapshot_id}.parquet"):
        (place.repository / "snapshots" / name).unlink()
    shutil.rmtree(place.repository / "runs" / snapshot_id)


def test_verify_names_a_snapshot_that_the_history_knows_and_the_repository_lost(shell, saved):
    newest, oldest = (row["snapshot_id"] for row in shell.data("snapshots", "photos"))
    forget_snapshot(saved, newest)
    done = shell("verify", "photos", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    verified = json.loads(done.stdout)
    assert (verified["snapshots"], verified["snapshots_damaged"], verified["damages_total"]) == (2, 1, 1)
    [damage] = verified["damages"]
    assert (damage["path"], damage["snapshots"]) == (f"snapshots/{newest}.json", [newest])
    assert damage["what"].startswith(f"snapshot {newest} of 20")
    assert " is gone: its seal is not there, and the history knows that it was made here" in damage["what"]
    error = shell.data("errors", "--job", "photos")[0]
    assert newest in error["details"] and oldest not in error["details"]
    assert "only from another copy of the repository" in error["remedy"]


def test_verify_misses_no_snapshot_that_went_to_another_url(saved):
    with bo.open(saved.home) as ops:
        before = [snapshot.snapshot_id for snapshot in ops.snapshots("photos")]
        jobs = saved.home / "jobs.yaml"
        elsewhere = saved.folder / "elsewhere"
        jobs.write_text(jobs.read_text().replace(f"url: {saved.repository}", f"url: {elsewhere}"))
        run = ops.run("photos")
        assert run.outcome == "succeeded" and ops.verify("photos").is_sound
        jobs.write_text(jobs.read_text().replace(f"url: {elsewhere}", f"url: {saved.repository}"))
        assert ops.verify("photos").is_sound  # what went elsewhere in between is not missed here
        forget_snapshot(saved, before[0])
        verified = ops.verify("photos")
    assert [damage.snapshots for damage in verified.damages] == [(before[0],)]


def test_what_no_history_knows_is_not_missed(saved, monkeypatch):
    with bo.open(saved.home) as ops:
        newest, oldest = (snapshot.snapshot_id for snapshot in ops.snapshots("photos"))
        forget_snapshot(saved, newest)
        (saved.repository / "snapshots" / f"{oldest}.json").write_bytes(b"{}")
        named = [damage.path for damage in ops.verify("photos").damages]
        assert named == [f"snapshots/{newest}.json", f"snapshots/{oldest}.json"]  # a damaged seal is there: told once
        monkeypatch.setattr(type(ops.manager.history), "rows", busy)
        verified = ops.verify("photos")
        assert verified.damages_total == 1
        assert verified.notes[-1].endswith("the history could not be asked: somebody holds it.")
        monkeypatch.undo()
    for path in (saved.home / "history.duckdb", saved.home / "journal", saved.home / "segments"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with bo.open(saved.home) as ops:
        verified = ops.verify("photos")
    assert (verified.damages_total, verified.notes) == (1, ())


def busy(*_, **__):
    raise HistoryBusy("somebody holds it.")


def test_a_damaged_seal_hides_no_other_snapshot(shell, saved, tmp_path):
    newest, oldest = (row["snapshot_id"] for row in shell.data("snapshots", "photos"))
    (saved.repository / "snapshots" / f"{newest}.json").write_bytes(b"{}")
    done = shell("snapshots", "photos")
    assert done.returncode == 1
    assert newest in done.stderr and oldest in done.stdout
    done = shell("restore", "photos", "--target", tmp_path / "t")
    assert done.returncode == 1
    assert newest in done.stderr and "Name a sound snapshot by its id" in done.stderr
    assert shell("restore", "photos", "--target", tmp_path / "t", "--snapshot", oldest).returncode == 0
    assert (tmp_path / "t" / "note.txt").read_bytes() == b"first"


def test_without_a_home_everything_is_there(bare, saved, tmp_path):
    before = listing(saved.repository)
    at = ["--repository", saved.repository]
    rows = bare.data("snapshots", *at)
    assert [list(row) for row in rows] == [["snapshot_id", "job", "created_at", "files", "bytes"]] * 2
    assert [row["job"] for row in rows] == ["photos", "photos"]
    oldest = rows[1]["snapshot_id"]
    assert "JOB" in bare("snapshots", *at).stdout
    assert [row["path"] for row in bare.data("ls", *at, oldest, "note.txt")] == ["note.txt"]
    done = bare("restore", *at, "--target", tmp_path / "old", oldest, "note.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "old" / "note.txt").read_bytes() == b"first"
    assert os.listdir(tmp_path / "old") == ["note.txt"]
    assert bare("restore", *at, "--target", tmp_path / "new", "--job", "photos").returncode == 0
    assert (tmp_path / "new" / "note.txt").read_bytes() == b"second!"
    assert bare("verify", *at, "--level", "full").returncode == 0
    assert "4 changes" in bare("diff", *at, oldest, "latest").stdout
    assert listing(saved.repository) == before


def test_without_a_home_a_relative_folder_will_do(bare, saved):
    assert len(json.loads(bare("snapshots", "--repository", "repository", "--json", cwd=saved.folder).stdout)) == 2


def test_several_jobs_in_one_repository_are_told_apart(bare, place, tmp_path):
    place.fill()
    other = place.folder / "other"
    place.fill(2, folder=other)
    place.write_jobs(f"music: {{source: {other}, repository: mirror}}\n")
    assert Shell(place.home)("run", "photos", "music").returncode == 0
    at = ["--repository", place.repository]
    done = bare("restore", *at, "--target", tmp_path / "t")
    assert done.returncode == 2
    assert "holds snapshots of 2 jobs: music, photos. Say of which: --job music" in done.stderr
    assert bare("restore", *at, "--target", tmp_path / "t", "--job", "music").returncode == 0
    assert len(list((tmp_path / "t").iterdir())) == 2
    assert [row["job"] for row in bare.data("snapshots", *at, "--job", "music")] == ["music"]
    done = bare("snapshots", *at, "--job", "musik")
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no snapshot of a job 'musik'. Did you mean 'music'?" in done.stderr


def test_without_a_home_errors_are_sentences(bare, saved, tmp_path):
    done = bare("snapshots", "--repository", tmp_path / "nowhere" / "at-all")
    assert done.returncode == 1
    assert done.stderr.startswith("backup-ops: there is no repository at ")
    done = bare("ls", "--repository", saved.repository, "nope")
    assert done.returncode == 2
    assert f"repository {saved.repository} has no snapshot 'nope'" in done.stderr
    assert f"`backup-ops snapshots --repository {saved.repository}` lists them" in done.stderr
    spoil(saved, "file-2.bin")
    assert bare("verify", "--repository", saved.repository, "--level", "full").returncode == 1


def test_an_encrypted_repository_on_a_remote_is_read_without_a_home(bare, place, tmp_path):
    place.fill()
    password = place.folder / "password"
    password.write_text("open sesame\n")
    password.chmod(0o600)
    with serving("webdav", place.folder / "served") as server:
        text = f"far: {{engine: rclone, url: '{server.url}', password: {{file: {password}}}}}\n"
        place.write_jobs(f"out: {{source: {place.source}, repository: far}}\n", repositories=text)
        done = Shell(place.home)("run", "out", env=server.variables)
        assert done.returncode == 0, done.stderr + done.stdout
        at = ["--repository", server.url]
        key = ["--password-file", password]
        for words in (["snapshots", *at, *key], ["verify", *at, *key, "--level", "full"], ["ls", *at, *key, "latest"]):
            done = bare(*words, env=server.variables)
            assert done.returncode == 0, done.stderr
        done = bare(
            "restore",
            *at,
            "--password-env",
            "KEY",
            "--target",
            tmp_path / "t",
            env=server.variables | {"KEY": "open sesame"},
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "t" / "file-0.bin").read_bytes() == (place.source / "file-0.bin").read_bytes()
        wrong = bare("snapshots", *at, "--password-env", "KEY", env=server.variables | {"KEY": "open says me"})
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "the password (env KEY) does not open repository" in wrong.stderr
        none = bare("snapshots", *at, env=server.variables)
        assert none.returncode == 1
        assert "is encrypted, and no password is given for it" in none.stderr
        assert "open sesame" not in wrong.stderr + none.stderr


def test_another_home_is_refused_until_it_takes_over(shell, saved, tmp_path):
    second = Place(tmp_path / "second") if (tmp_path / "second").mkdir() is None else None
    second.fill()
    second.repository = saved.repository
    second.write_jobs()
    theirs = Shell(second.home)
    refused = theirs("run", "photos")
    assert refused.returncode == 1
    assert "belongs to another home" in refused.stdout
    assert "--take-over" in refused.stdout
    done = theirs("run", "photos", "--take-over")
    assert done.returncode == 0, done.stderr
    with bo.open(saved.home) as ops:
        first_id = ops.home.identity()
    assert f"its repository belonged to home {first_id} on host" in done.stderr
    rows = theirs.data(
        "sql", "SELECT job, data->>'from_home_id' AS whose FROM events WHERE kind = 'repository_taken_over'"
    )
    assert rows == [{"job": "photos", "whose": first_id}]
    assert "take" not in theirs("run", "photos", "--take-over").stderr, "it is theirs already"
    assert shell("run", "photos").returncode == 1, "the first home is refused now"
    assert len(shell.data("snapshots", "photos")) >= 2, "and can still read"
    assert shell("verify", "photos", "--level", "full").returncode == 0
