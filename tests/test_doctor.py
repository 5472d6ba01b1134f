"""The doctor on homes that really are in the state it is to name."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from backup_ops import outcome
from backup_ops.doctor import disk, examine
from backup_ops.home import Home
from backup_ops.journal import Journal
from backup_ops.queue import Queue, Request
from backup_ops.repositories import remember, repository_key
from tests.conftest import wait_until
from tests.network_mount import dead_mount, rclone_mount

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="to mount a disk needs root: run the tests as root")


@pytest.fixture(autouse=True)
def any_disk_will_do(monkeypatch):
    """How full the disk of the tests is must not decide."""
    monkeypatch.setattr(disk, "WARN_BELOW_BYTES", 0)
    monkeypatch.setattr(disk, "WARN_BELOW_SHARE", 0.0)


@pytest.fixture
def home(place):
    """A home that was used: jobs.yaml, a journal and an index."""
    place.write_jobs()
    place.repository.mkdir()
    made = Home(place.home)
    made.make()
    made.identity()
    journal = Journal(made.journal)
    outcome.record_error(journal, {"message": "m", "severity": "LOW", "component": "other", "error_type": "unknown"})
    journal.close()
    from backup_ops.history import History

    with contextlib.closing(History(made)) as history:
        history.ingest(force=True)
    return made


def amiss(home: Home) -> list[tuple[str, str]]:
    """State and sentence of what is not well."""
    return [
        (finding.state, f"{finding.subject}: {finding.sentence}") for finding in examine(home) if finding.state != "ok"
    ]


def only(home: Home) -> tuple[str, str]:
    [found] = amiss(home)
    return found


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (status.st_mode, status.st_size, status.st_mtime_ns)
        for path in [folder, *sorted(folder.rglob("*"))]
        if (status := path.lstat())
    }


@contextlib.contextmanager
def small_disk(point: Path, *options: str, size: str = "8m"):
    point.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", point])
    if done.returncode:
        pytest.skip("the kernel refuses a mount")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


@contextlib.contextmanager
def another_process(script: str, *arguments: object):
    """A process that says a line when it is there, and stays."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys, time\n{script}\nprint('there', flush=True)\ntime.sleep(60)",
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_a_healthy_home_is_looked_at_all_over_and_left_as_it_is(home):
    before = listing(home.path)
    found = list(examine(home))
    assert {finding.state for finding in found} == {"ok"}, [f for f in found if f.state != "ok"]
    assert [*dict.fromkeys(finding.subject for finding in found)] == [
        "engine", "home", "rights", "sharing", "jobs.yaml", "disk", "clock", "queue", "locks",
        "journals", "segments", "history", "leftovers",
    ]  # fmt: skip
    rclone = next(finding.sentence for finding in found if finding.subject == "engine")
    path = rclone.split(", ")[1]
    assert f"sha256 {subprocess.check_output(['sha256sum', path], text=True).split()[0]}." in rclone
    assert rclone.split()[1].rstrip(",") in subprocess.check_output([path, "version"], text=True)
    assert "mode 0700, on " in next(finding.sentence for finding in found if finding.subject == "home")
    assert listing(home.path) == before


def test_every_sentence_ends(home):
    (home.jobs_yaml).write_text("version: 1\njobs: {a: 3}\n")
    for finding in examine(home):
        assert finding.sentence.endswith(".") and finding.sentence[0] != " ", finding


def test_where_there_is_no_home_nothing_is_made(tmp_path):
    assert only(Home(tmp_path / "none")) == ("problem", f"home: there is no home at {tmp_path / 'none'}.")
    (tmp_path / "file").write_text("")
    assert only(Home(tmp_path / "file")) == ("problem", f"home: home {tmp_path / 'file'} is a file, not a folder.")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_no_home_is_called_that_and_nothing_else(tmp_path):
    (tmp_path / "letters").mkdir(mode=0o755)
    (tmp_path / "letters" / "one.txt").write_text("")
    before = listing(tmp_path)
    assert only(Home(tmp_path / "letters")) == (
        "problem",
        f"home: {tmp_path / 'letters'} is not a home: other things lie in it, and nothing of a home.",
    )
    assert not any("chmod" in finding.hint for finding in examine(Home(tmp_path / "letters")))
    assert listing(tmp_path) == before


def test_a_home_on_a_disk_that_does_not_answer(place, monkeypatch):
    monkeypatch.setattr(disk, "ANSWER_WITHIN_S", 0.3)
    began = time.monotonic()
    with dead_mount(place.home):
        for path in (place.home, place.home / "below"):
            assert only(Home(path)) == ("problem", f"home: home: {path} does not answer within 0 s.")
    assert time.monotonic() - began < 10


def test_a_look_that_fails_in_whatever_way_is_a_finding_and_the_rest_is_looked_at(home, monkeypatch):
    from backup_ops.history import History

    for error in (duckdb.Error("broken\nall over"), ValueError("odd"), OSError("no disk")):
        monkeypatch.setattr(History, "inspect", lambda *_, error=error: (_ for _ in ()).throw(error))
        [(state, said)] = amiss(home)
        assert state == "problem" and said.startswith("store: it could not be looked at: ") and said.endswith(".")
        assert [finding.subject for finding in examine(home)][-1] == "leftovers"


def test_missing_folders_are_named_and_not_made(place):
    place.write_jobs()
    place.repository.mkdir()
    found = amiss(Home(place.home))
    assert ("warning", f"rights: {place.home / 'queue'} is missing.") in found
    assert [path.name for path in place.home.iterdir()] == ["jobs.yaml"]


def test_broken_jobs_yaml_is_named_with_its_lines_and_the_rest_is_looked_at(home):
    home.jobs_yaml.write_text("version: 1\njobs:\n  photos: {sorce: /x}\n")
    found = amiss(home)
    assert all(state == "problem" and said.startswith("jobs.yaml: line 3: ") for state, said in found), found
    home.jobs_yaml.unlink()
    assert only(home)[1].startswith("jobs.yaml: ")


def test_an_index_of_a_newer_version_is_named(home):
    with duckdb.connect(home.history) as connection:
        connection.execute("UPDATE meta SET value = '9999' WHERE key = 'schema_version'")
    state, said = only(home)
    assert state == "problem" and said.startswith("history: ") and "newer backup-ops" in said


def test_a_home_that_is_open_to_others(home):
    home.path.chmod(0o755)
    state, said = only(home)
    assert state == "warning" and "mode 0755" in said and said.endswith("open to others.")
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o755


@needs_root
def test_a_home_of_another_user(home):
    os.chown(home.path, 65534, 65534)
    assert ("problem", "rights: user root may not use the home of user nobody.") in amiss(home)


@needs_root
@pytest.mark.parametrize("of_another", ["home", "home/jobs.yaml"])
def test_a_program_that_another_user_names_is_not_run(place, home, of_another):
    proof, program = place.folder / "proof", place.folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {proof}\necho rclone v1.2.3\n")
    program.chmod(0o755)
    place.write_jobs(settings=f"{{engines: {{rclone: {program}}}}}")
    assert list(examine(home)) and proof.exists()
    proof.unlink()
    os.chown(place.folder / of_another, 65534, 65534)
    engines = [finding.sentence for finding in examine(home) if finding.subject == "engine"]
    assert not proof.exists()
    assert engines[0] == f"settings.engines, which another user wrote, names {program}; it is not run here."
    assert engines[1].startswith("rclone ")  # the one of who asks


@needs_root
def test_a_home_that_is_read_only(place):
    with small_disk(place.home):
        home = Home(place.home)
        home.make()
        place.write_jobs()
        place.repository.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", place.home], check=True)
        found = amiss(home)
        assert ("problem", f"rights: {place.home} is not writable by user root; its file system is read-only.") in found
        assert "history" not in {said.split(":")[0] for state, said in found if state == "problem"}


@needs_root
def test_a_full_disk_and_a_disk_without_inodes(place, home):
    full, crowded = place.folder / "full", place.folder / "crowded"
    place.write_jobs(repositories=f"full: {{engine: rclone, url: {full}}}\ncrowded: {{engine: rclone, url: {crowded}}}")
    with small_disk(full), small_disk(crowded, "nr_inodes=2", size="2g"):
        (crowded / "last").write_text("")
        found = amiss(home)
        assert [state for state, _ in found] == ["problem", "problem"]
        assert "disk: repository full: 8 MiB free of 8 MiB" in found[0][1] and "all but full" in found[0][1]
        assert "repository crowded" in found[1][1] and "inodes are used up" in found[1][1]


@needs_root
def test_a_disk_with_little_room(place, home, monkeypatch):
    monkeypatch.setattr(disk, "WARN_BELOW_BYTES", 1 << 30)
    with small_disk(place.repository, size="500m"):
        [(state, said)] = [found for found in amiss(home) if "repository" in found[1]]
        assert state == "warning" and "repository mirror: 500 MiB free" in said and "that is little" in said


def test_a_repository_that_was_there_and_is_gone(place, home):
    place.repository.rmdir()
    assert amiss(home) == []
    remember(home, str(place.repository), "r", "photos")
    assert only(home) == (
        "problem",
        f"disk: repository mirror is not at {place.repository}, where runs have committed before.",
    )


def test_a_repository_whose_disk_does_not_answer(place, home, monkeypatch):
    monkeypatch.setattr(disk, "ANSWER_WITHIN_S", 0.3)
    began = time.monotonic()
    with dead_mount(place.repository):
        state, said = only(home)
    assert state == "problem" and f"repository mirror: {place.repository} does not answer" in said
    assert time.monotonic() - began < 20


def test_a_home_on_a_network_file_system(tmp_path):
    with rclone_mount(tmp_path) as (point, _):
        (point / "home").mkdir(mode=0o700)
        said = [said for state, said in amiss(Home(point / "home")) if state == "problem" and said.startswith("home:")]
        assert len(said) == 1 and "fuse.rclone" in said[0] and "every other command refuses" in said[0]


def test_events_and_files_from_the_future(home):
    later = datetime.now(UTC) + timedelta(hours=3)
    times = [datetime.now(UTC), later]
    journal = Journal(home.journal, now=lambda: times.pop(0))
    for _ in range(2):
        outcome.record_error(journal, {"message": "m", "severity": "LOW", "component": "other"})
    journal.close()
    state, said = only(home)
    assert state == "warning" and f"clock: the newest event of journal {journal.path.name} is " in said
    assert "2 h 59 min in the future" in said or "3 h in the future" in said
    journal.path.unlink()
    os.utime(home.locks / "gate.lock", (later.timestamp(), later.timestamp()))
    state, said = only(home)
    assert state == "warning" and "the newest file of the home was written " in said


def a_request(run_id: str, queued_at: datetime, repository: Path) -> Request:
    return Request(
        run_id=run_id, job_name="photos", job_uid="photos", engine="rclone", repository_name="mirror",
        repository_url=str(repository), priority=3, trigger="manual", by="me", queued_at=queued_at,
        config_version="0", max_running=4, engine_path=None, force=False, config={},
        repository_key=repository_key(str(repository)),
    )  # fmt: skip


def test_runs_that_wait_for_days_and_damaged_requests(place, home):
    now = datetime.now(UTC)
    Queue(home).submit(a_request("20261101T000000-000000", now - timedelta(days=2), place.repository))
    Queue(home).submit(a_request("20261101T000000-000001", now - timedelta(hours=2), place.repository))
    (home.queue / "20261101T000000-000002.json").write_text("{")
    (home.queue / "20261101T000000-000003.damaged").write_text("{")
    found = amiss(home)
    assert [state for state, _ in found] == ["warning"] * 3
    assert "run 20261101T000000-000000 of job 'photos' waits since 2 d: nothing is in its way" in found[0][1]
    assert "20261101T000000-000002.json is damaged" in found[1][1]
    assert "20261101T000000-000003.damaged is damaged" in found[2][1]
    assert "queue: running: 0, queued: 2." in [f"{f.subject}: {f.sentence}" for f in examine(home)]


TAKE = "from pathlib import Path; from backup_ops import lock; lock.take(Path(sys.argv[1]))"


def test_who_holds_a_lock_for_long_is_named(home):
    with another_process(TAKE, home.locks / "ingest.lock") as process:
        state, said = only(home)
        assert state == "warning"
        assert said == f"locks: process {process.pid} ({comm(process.pid)}) holds ingest.lock for more than 1 s."
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text(), what="it to stop")
        state, said = only(home)
        assert state == "problem"
        assert f"process {process.pid} ({comm(process.pid)}) is stopped and holds {home.locks / 'ingest.lock'}" in said


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_lock_that_is_held_for_a_moment_is_nothing(home):
    with another_process(
        f"{TAKE}; print('there', flush=True); time.sleep(0.7); sys.exit()", home.locks / "ingest.lock"
    ):
        assert amiss(home) == []


def test_a_foreign_connection_is_named(home):
    with another_process("import duckdb; held = duckdb.connect(sys.argv[1], read_only=True)", home.history) as process:
        found = amiss(home)
        assert (
            "warning",
            f"locks: process {process.pid} ({comm(process.pid)}) has {home.history} open for more than 1 s.",
        ) in found


@needs_root
@pytest.mark.parametrize(
    "name", ["journal/run-20261101T000000-000000.jsonl", "locks/repository-0.lock", "locks/slot-0.lock"]
)
def test_a_lock_that_another_user_holds_is_named(home, name):
    path = home.path / name
    path.write_text("")
    script = """
import fcntl, os
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
os.setresuid(*[int(sys.argv[2])] * 3)
"""
    with another_process(script, path, 0):  # a run of the owner holds them for hours
        assert amiss(home) == []
    with another_process(script, path, 65534) as process:
        [(state, said)] = amiss(home)
        assert state == "problem"
        assert f"process {process.pid} ({comm(process.pid)}) of user nobody holds {path} for more than 1 s;" in said


def test_readers_of_ours_are_no_foreign_connection(home):
    script = "import backup_ops as bo; reading = bo.open(sys.argv[1]).reading(); cursor = reading.__enter__()"
    with another_process(script, home.path) as process:
        locks = [finding.sentence for finding in examine(home) if finding.subject == "locks"]
        assert locks == [f"process {process.pid} ({comm(process.pid)}) reads under db.lock for more than 1 s."]


def test_an_engine_that_is_missing_and_one_that_is_something_else(place, home):
    place.write_jobs(settings="{engines: {rclone: /no/such/rclone}}")
    found = amiss(home)
    assert ("problem", "engine: rclone is not at /no/such/rclone, which settings.engines names.") in found
    assert any(
        finding.subject == "engine" and finding.sentence.startswith("found, not used: rclone")
        for finding in examine(home)
    )
    fake = place.folder / "rclone"
    fake.write_text("#!/bin/sh\necho no such thing >&2\nexit 3\n")
    fake.chmod(0o755)
    place.write_jobs(settings=f"{{engines: {{rclone: {fake}}}}}")
    assert ("problem", f"engine: {fake} is no rclone that works: no such thing.") in amiss(home)


def test_what_was_left_lying(home):
    (home.path / "history.broken-20261101T000000-abcdef.duckdb").write_bytes(bytes(2048))
    for name, age_s in (("history.new-old.duckdb", 7200), ("history.new-young.duckdb", 60)):
        (home.path / name).write_text("")
        os.utime(home.path / name, (time.time() - age_s, time.time() - age_s))
    found = amiss(home)
    assert [state for state, _ in found] == ["warning", "warning"]
    assert "kept aside: 1, 2 KiB (history.broken-20261101T000000-abcdef.duckdb)" in found[0][1]
    assert "killed processes: 1, 0 B (history.new-old.duckdb)" in found[1][1]


def test_findings_come_as_they_are_made(home):
    findings = examine(home)
    assert next(findings).subject == "engine"
    findings.close()


def test_it_can_be_asked_in_python(home):
    import backup_ops as bo

    with bo.open(home.path) as ops, ops.reading():
        found = ops.doctor()
    [locks] = [finding.sentence for finding in found if finding.subject == "locks"]
    assert locks == f"process {os.getpid()} ({comm(os.getpid())}) reads under db.lock for more than 1 s."
    assert {finding.state for finding in found} == {"ok"}
