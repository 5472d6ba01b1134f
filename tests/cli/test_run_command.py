"""`run` and `cancel`: exit codes, the line of verdict, several jobs, and what starts nothing."""

import json
import re
import shutil

from tests.cli.conftest import is_running, listing
from tests.conftest import wait_until

RUN_ID = r"\d{8}T\d{6}-[0-9a-f]{6}"


def test_verdict_of_a_run_counts_what_it_saved_and_names_the_snapshot(shell, filled):
    done = shell("run", "photos")
    assert done.returncode == 0
    assert re.fullmatch(rf"photos: saved 4\.88 KiB \(5 new\) in [\d.]+ s, snapshot {RUN_ID}\.\n", done.stdout)
    assert done.stderr == ""


def test_verdict_counts_new_changed_and_deleted_files(shell, filled):
    shell("run", "photos")
    (filled.source / "file-0.bin").unlink()
    (filled.source / "file-1.bin").write_bytes(b"other")
    (filled.source / "more.bin").write_bytes(b"more")
    assert "(1 new, 1 changed, 1 deleted)" in shell("run", "photos").stdout
    assert "saved, nothing had changed (5 files," in shell("run", "photos").stdout


def test_failed_run_says_why_and_what_to_do(shell, filled):
    shutil.rmtree(filled.source)
    done = shell("run", "photos")
    assert done.returncode == 1
    assert re.match(rf"photos: failed after [\d.]+ s: source {filled.source} .*What to do: ", done.stdout)
    assert len(done.stdout.splitlines()) == 1


def test_several_jobs_exit_with_the_worst_and_a_job_named_twice_runs_once(shell, place):
    place.fill()
    place.write_jobs(f"gone: {{source: {place.folder}/gone, repository: mirror}}\n")
    done = shell("run", "photos", "gone", "photos")
    assert done.returncode == 1
    assert sorted(line.split(":")[0] for line in done.stdout.splitlines()) == ["gone", "photos"]


def test_unknown_job_among_others_starts_nothing(shell, filled):
    shell("runs")  # makes what every command makes
    before = listing(filled.home)
    done = shell("run", "photos", "phots")
    assert done.returncode == 2
    assert done.stderr == "backup-ops: no job is named 'phots'. Did you mean 'photos'?\n"
    assert done.stdout == ""
    assert listing(filled.home) == before
    assert not filled.repository.exists()


def test_job_of_an_engine_that_cannot_run_yet_starts_nothing(shell, place):
    place.fill()
    place.write_jobs("nas: {heartbeat: true, schedule: {every: 1d}}\n")
    done = shell("run", "photos", "nas")
    assert done.returncode == 2
    assert "heartbeat" in done.stderr
    assert not place.repository.exists()


def test_json_gives_the_rows_of_the_runs_and_words_go_to_stderr(shell, filled):
    done = shell("run", "photos", "--json")
    (row,) = json.loads(done.stdout)
    assert (row["job"], row["outcome"], row["files_total"]) == ("photos", "succeeded", 5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["finished_at"])
    assert done.stderr.startswith("photos: saved")


def test_quiet_says_nothing_of_a_run_that_succeeded(shell, filled):
    done = shell("run", "photos", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shutil.rmtree(filled.source)
    assert shell("-q", "run", "photos").stdout.startswith("photos: failed")


def test_dry_run_says_what_would_happen_and_writes_nothing(shell, filled):
    shell("run", "photos")
    (filled.source / "file-0.bin").unlink()
    (filled.source / "file-1.bin").write_bytes(b"other")
    (filled.source / "more.bin").write_bytes(b"more")
    before = listing(filled.folder)
    done = shell("run", "photos", "--dry-run")
    assert done.returncode == 0
    assert done.stdout == (
        "photos: a run would save 9 B (1 new, 1 changed, 1 deleted); "
        "the source holds 5 files, 2.94 KiB. Nothing was written.\n"
        "  + more.bin\n  ~ file-1.bin\n  - file-0.bin\n"
    )
    assert listing(filled.folder) == before


def test_dry_run_before_the_first_run_makes_no_repository(shell, filled):
    done = shell("run", "photos", "--dry-run")
    assert done.stdout.startswith("photos: a run would save 4.88 KiB (5 new, 0 changed, 0 deleted);")
    assert not filled.repository.exists()


def test_dry_run_of_a_job_that_would_fail_fails(shell, filled):
    shutil.rmtree(filled.source)
    done = shell("run", "photos", "--dry-run")
    assert done.returncode == 1
    assert done.stderr.startswith(f"backup-ops: photos: source {filled.source}")


def test_detached_run_prints_its_id_at_once_and_goes_on(shell, filled):
    done = shell("run", "photos", "--detach")
    assert done.returncode == 0
    assert re.fullmatch(rf"{RUN_ID}\n", done.stdout)
    ended = wait_until(lambda: [row for row in shell.data("runs") if row["finished_at"]])
    assert [(row["run_id"], row["outcome"]) for row in ended] == [(done.stdout.strip(), "succeeded")]


def test_same_job_again_is_skipped_and_says_as_what_it_runs(shell, slow):
    run_id = shell("run", "slow", "--detach").stdout.strip()
    for words in (["run", "slow"], ["run", "slow", "--detach"]):
        done = shell(*words)
        assert done.returncode == 75
        assert re.match(rf"slow: skipped: already \w+ as {run_id}\.", done.stdout + done.stderr)
    assert [row["outcome"] for row in shell.data("runs", "--outcome", "skipped")] == ["skipped", "skipped"]
    shell("cancel", "slow")


def test_run_that_would_wait_says_why_or_is_skipped_with_no_wait(shell, slow):
    shell("run", "slow", "--detach")
    wait_until(lambda: is_running(shell, "slow"))
    skipped = shell("run", "photos", "--no-wait")
    assert skipped.returncode == 75
    assert skipped.stdout == "photos: skipped: waits for repository mirror, which another run is using.\n"
    waiting = shell.start("run", "photos")
    wait_until(lambda: shell.data("status")["queued"])
    (queued,) = shell.data("status")["queued"]
    assert queued["waits_for"] == "waits for repository mirror, which another run is using"
    shell("cancel", "slow")
    said, heard = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert said.startswith("photos: saved")
    assert heard == "photos: waits for repository mirror, which another run is using.\n"


def test_cancel_ends_a_run_and_a_queued_one(shell, slow):
    running = shell.start("run", "slow")
    wait_until(lambda: is_running(shell, "slow"))
    queued = shell.start("run", "photos")
    wait_until(lambda: shell.data("status")["queued"])
    for process, job in ((queued, "photos"), (running, "slow")):
        done = shell("cancel", job)
        assert done.returncode == 0
        assert re.fullmatch(rf"run {RUN_ID} was asked to stop; it ends as cancelled by itself\.\n", done.stdout)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.startswith(f"{job}: cancelled by ")


def test_cancel_of_what_does_not_run_is_a_usage_error(shell, filled):
    done = shell("cancel", "photos")
    assert done.returncode == 2
    assert done.stderr == (
        "backup-ops: 'photos' is neither a job nor a run that is queued or running. "
        "`backup-ops status` shows what is.\n"
    )
