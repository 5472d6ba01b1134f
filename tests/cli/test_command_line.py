"""What can be typed, and where."""

import itertools
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from backup_ops.cli.keeping import ENGINES
from backup_ops.cli.parser import COMMANDS, parse, since
from backup_ops.job import REPOSITORY_ENGINES

ONE_OF_EACH = {
    "demo": [], "init": [], "validate": [], "jobs": [], "run": ["photos"], "cancel": ["photos"], "status": [],
    "runs": [], "errors": [], "resolve": ["abc"], "logs": ["abc"],
    "snapshots": ["photos"], "ls": ["photos", "latest"], "restore": ["photos", "--target", "x"],
    "diff": ["photos", "a", "b"], "verify": ["photos"],
    "export": ["runs", "f.csv"], "sql": ["SELECT 1"], "serve": [], "doctor": ["--share", "staff"], "rebuild": [],
}  # fmt: skip


def refused(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_global_options_stand_before_and_after_every_command(command):
    words = ONE_OF_EACH[command]
    options = [["--home", "/a"], ["--json"], ["-q"], ["-v"]]
    for places in itertools.product((True, False), repeat=len(options)):
        before = [word for option, is_before in zip(options, places, strict=True) if is_before for word in option]
        after = [word for option, is_before in zip(options, places, strict=True) if not is_before for word in option]
        found = parse([*before, command, *words, *after])
        assert (found.home, found.json, found.quiet, found.verbose, found.command) == ("/a", True, True, True, command)


def test_global_options_stand_between_the_words_of_a_command():
    found = parse(["restore", "photos", "--home", "/a", "x", "--target", "t", "y", "--json"])
    assert (found.home, found.job, found.paths, found.target, found.json) == ("/a", "photos", ["x", "y"], "t", True)


def test_global_options_not_given_have_their_defaults():
    found = parse(["jobs"])
    assert (found.home, found.json, found.quiet, found.verbose) == (None, False, False, False)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_function_that_does_it(command):
    assert callable(getattr(import_module(f"backup_ops.cli.{command.room}"), command.name))


def test_without_a_home_the_words_move_up():
    at = ["--repository", "/r"]
    found = parse(["ls", *at, "latest", "sub"])
    assert (found.job, found.snapshot, found.path) == (None, "latest", "sub")
    found = parse(["ls", *at])
    assert (found.snapshot, found.path) == ("latest", "")
    found = parse(["restore", *at, "--target", "t", "20261124", "a", "b"])
    assert (found.job, found.snapshot, found.paths) == (None, "20261124", ["a", "b"])
    found = parse(["restore", *at, "--target", "t", "--snapshot", "latest", "a", "b"])
    assert (found.snapshot, found.paths) == ("latest", ["a", "b"])
    found = parse(["restore", *at, "--target", "t"])
    assert (found.snapshot, found.paths) == ("latest", [])
    found = parse(["diff", *at, "a", "b"])
    assert (found.before, found.after) == ("a", "b")
    assert parse(["snapshots", *at, "--job", "photos"]).only_job == "photos"
    assert parse(["verify", *at]).level == "list"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", "photos"], "required: SNAP"),
        (["ls"], "required: JOB, SNAP"),
        (["snapshots"], "required: JOB"),
        (["restore", "--target", "t"], "required: JOB"),
        (["diff", "photos", "a"], "required: B"),
        (["diff", "--repository", "/r", "a"], "required: B"),
        (["snapshots", "--repository", "/r", "photos"], "With --repository a job is named by --job"),
        (["verify", "photos", "--job", "music"], "--job goes with --repository"),
        (["verify", "photos", "--password-env", "X"], "--password-env goes with --repository"),
        (["verify", "--repository", "/r", "--password-env", "X", "--password-file", "f"], "not allowed with"),
        (["verify", "photos", "--level", "deep"], "invalid choice: 'deep'"),
        (["run", "photos", "--take-over", "--dry-run"], "not allowed with"),
    ],
)
def test_words_that_are_missing_or_too_many_are_named(capsys, words, said):
    assert said in refused(capsys, *words)


def test_the_engines_that_can_be_named_are_those_of_jobs_yaml():
    assert ENGINES == REPOSITORY_ENGINES


def test_paths_that_look_like_options_follow_two_dashes():
    found = parse(["restore", "photos", "a", "--target", "t", "--", "--json", "-x", "--"])
    assert (found.paths, found.json) == (["a", "--json", "-x", "--"], False)
    assert parse(["cancel", "--", "-x"]).job_or_run == "-x"
    assert parse(["run", "--", "-a", "--force"]).jobs == ["-a", "--force"]


def test_a_select_may_begin_with_a_comment():
    assert parse(["sql", "-- runs of today\nSELECT 1"]).select == "-- runs of today\nSELECT 1"


def test_unknown_command_is_named_with_a_suggestion(capsys):
    said = refused(capsys, "statsu")
    assert said == "backup-ops: there is no command 'statsu'. Did you mean 'status'?\n"


def test_unknown_option_is_named_with_a_suggestion(capsys):
    assert "there is no argument '--dryrun' here. Did you mean '--dry-run'?" in refused(capsys, "run", "a", "--dryrun")
    assert "there is no argument 'extra' here." in refused(capsys, "jobs", "extra")


def test_options_are_not_abbreviated(capsys):
    assert "'--lim'" in refused(capsys, "runs", "--lim", "3")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "99999999999", "٣"])
def test_limit_is_a_whole_number_from_one_on(capsys, text):
    assert "--limit" in refused(capsys, "runs", f"--limit={text}")


@pytest.mark.parametrize("text", ["65536", "-1", "http"])
def test_port_is_a_port(capsys, text):
    assert "--port" in refused(capsys, "serve", f"--port={text}")


@pytest.mark.parametrize("text", ["yesterday", "7x", "", "2026-13-01", "99999999999999d", "nan", "1e9"])
def test_since_names_what_it_cannot_read(capsys, text):
    assert "--since" in refused(capsys, "runs", f"--since={text}")


def test_since_is_a_duration_before_now():
    assert abs(since("7d") - (datetime.now(UTC) - timedelta(days=7))) < timedelta(minutes=1)
    assert abs(since("1d 12h") - (datetime.now(UTC) - timedelta(hours=36))) < timedelta(minutes=1)


def test_since_is_a_date_in_local_time_unless_it_names_a_zone():
    assert since("2026-11-24") == datetime(2026, 11, 24).astimezone()
    assert since("2026-11-24T10:00Z") == datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_severity_is_read_in_any_case():
    assert parse(["errors", "--severity", "high"]).severity == "HIGH"


def test_dry_run_and_detach_exclude_each_other(capsys):
    assert "not allowed with" in refused(capsys, "run", "a", "--dry-run", "--detach")


def test_an_empty_home_is_refused(capsys):
    assert "the name of the home is empty" in refused(capsys, "--home", "", "jobs")


def test_no_command_at_all_shows_the_help_and_is_a_usage_error(capsys):
    from backup_ops.cli import main

    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "usage: backup-ops" in said.err


@pytest.mark.parametrize("words", [["--version"], ["runs", "--version"], ["--help"], ["restore", "--help"]])
def test_help_and_version_succeed_everywhere(capsys, words):
    from backup_ops.cli import main

    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out
    assert said.err == ""
