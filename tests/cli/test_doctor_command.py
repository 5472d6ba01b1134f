import grp
import json
import os
import stat

import pytest

from tests.cli.conftest import listing

GROUP = grp.getgrgid(os.getegid()).gr_name


def test_a_line_for_each_finding_and_the_exit_code(shell, filled):
    done = shell("doctor")
    assert done.returncode == 3, done.stderr  # no other command has made the folders yet
    assert "! " in done.stdout and "rights: " in done.stdout and "queue is missing.\n   The next command" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 problems, ")
    assert shell("runs").returncode == 0
    before = listing(filled.home)
    done = shell("doctor")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert {line[:3] for line in done.stdout.splitlines()} == {"ok "}
    assert "\x1b" not in done.stdout
    assert listing(filled.home) == before


def test_json_is_an_array_of_findings(shell, filled):
    shell("runs")
    (filled.home / "jobs.yaml").write_text("jobs: [")
    done = shell("doctor", "--json")
    assert done.returncode == 1 and done.stderr == ""
    found = json.loads(done.stdout)
    assert {tuple(finding) for finding in found} == {("subject", "state", "sentence", "hint")}
    assert {finding["subject"] for finding in found if finding["state"] == "problem"} == {"jobs.yaml"}


def test_an_umask_that_shuts_out_the_owner(shell, filled):
    shell("runs")
    found = json.loads(shell("doctor", "--json", umask=0o777).stdout)
    [problem] = [finding for finding in found if finding["state"] != "ok"]
    assert problem["sentence"] == "the umask 0777 takes rights from the owner."


def test_no_home(shell, tmp_path):
    done = shell("doctor", "--home", tmp_path / "none")
    assert done.returncode == 1
    assert f"x  home: there is no home at {tmp_path / 'none'}.\n   Make one with `backup-ops init`" in done.stdout
    assert not (tmp_path / "none").exists()


def test_sharing_and_taking_back(shell, filled):
    done = shell("doctor", "--share", GROUP)
    assert done.returncode == 0
    assert f"is shared with group {GROUP}: its members may look and write nothing." in done.stdout
    assert stat.S_IMODE(filled.home.stat().st_mode) == 0o2750
    assert shell("doctor", "--share", os.getegid()).returncode == 0  # by number too
    assert f"the members of group {GROUP} may look" in shell("doctor").stdout
    done = shell("doctor", "--unshare")
    assert (done.returncode, done.stdout) == (0, f"home {filled.home} is its owner's alone.\n")
    assert stat.S_IMODE(filled.home.stat().st_mode) == 0o700


def test_sharing_answers_in_json_too(shell, filled):
    assert shell.data("doctor", "--share", GROUP) == {"home": str(filled.home), "shared_with": GROUP}
    assert shell.data("doctor", "--unshare") == {"home": str(filled.home), "shared_with": None}


def test_a_folder_that_is_no_home_is_left_alone(shell, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("")
    before = listing(tmp_path)
    done = shell("doctor", "--home", tmp_path / "letters")
    assert done.returncode == 1 and "letters is not a home: " in done.stdout and "chmod" not in done.stdout
    assert listing(tmp_path) == before


@pytest.mark.parametrize("words", [["--share", "no-such-group"], ["--share", "4294967294"], ["--share", "9" * 40]])
def test_a_group_that_is_not_there(shell, filled, words):
    done = shell("doctor", *words)
    assert done.returncode == 2
    assert f"there is no group '{words[1]}'." in done.stderr


def test_not_both_at_once(shell):
    assert shell("doctor", "--share", GROUP, "--unshare").returncode == 2


def test_rebuild_says_what_it_made(shell, filled):
    shell("run", "photos")
    done = shell("rebuild")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("made anew: ") and " events of " in done.stdout and " journals and " in done.stdout
    made = shell.data("rebuild")
    assert made["events"] > 0 and made["journals"] > 0 and made["damaged_segments"] == made["missing_segments"] == []
    assert [run["outcome"] for run in shell.data("runs")] == ["succeeded"]


def test_rebuild_names_what_is_lost(shell, filled):
    shell("run", "photos")
    assert shell.data("runs")
    import backup_ops as bo

    with bo.open(filled.home) as ops:
        ops.manager.history.ingest(force=True)
        assert ops.manager.history.compact(everything=True) > 0
    [segment] = (filled.home / "segments").glob("*.parquet")
    segment.write_bytes(segment.read_bytes()[:-100])
    done = shell("rebuild")
    assert done.returncode == 1
    assert f"segment {segment.name} is damaged" in done.stderr
    segment.unlink()
    done = shell("rebuild")
    assert done.returncode == 1
    assert f"segment {segment.name} is missing" in done.stderr
