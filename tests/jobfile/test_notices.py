from texts import EVERYTHING

from backup_ops import jobfile
from backup_ops.job import Setting
from backup_ops.jobfile import layout
from backup_ops.jobfile.layout import Section
from backup_ops.jobfile.notices import NOT_YET


def test_what_this_version_does_not_act_on_is_told_with_its_line_and_what_happens_meanwhile():
    notices = jobfile.parse(EVERYTHING.encode()).notices
    assert [(notice.line, notice.message.partition(" is read")[0]) for notice in notices] == [
        (3, "'restore_roots'"),
        (6, "'engine: restic' of repository 'vault'"),
        (11, "'schedule' of job 'photos' (and 1 more)"),
        (12, "'retention' of job 'photos'"),
        (15, "'retry' of job 'photos'"),
        (17, "'hooks' of job 'photos'"),
        (18, "'drill' of job 'photos'"),
        (20, "'command' of job 'orders-db'"),
        (23, "'heartbeat' of job 'nas-own'"),
        (24, "'notify'"),
    ]
    assert str(notices[3]) == (
        "jobs.yaml:12: 'retention' of job 'photos' is read, and this version does not act on it yet. "
        "Nothing is deleted."
    )


def test_a_file_of_what_this_version_acts_on_gives_no_notice():
    file = jobfile.parse(
        b"version: 1\nsettings: {max_running: 2, engines: {rclone: /usr/bin/rclone}}\nrepositories: {m: {url: /m},"
        b" far: {url: 'nas:x', password: {env: X}}}\n"
        b"jobs: {p: {source: /a, repository: m, uid: x, exclude: ['*.tmp'], guard: {min_files: 2},"
        b" retry: {max_retries: 0}, limits: {timeout: 2h, bandwidth: 20M, priority: 1}}}"
    )
    assert file.notices == ()


def test_every_line_of_the_list_names_a_setting_that_exists():
    names = {f"job.{name}" for name in layout.JOB.names} | {f"settings.{name}" for name in layout.SETTINGS.names}
    names |= {"notify", "repository.engine: restic"}
    assert NOT_YET.keys() <= names


def test_the_layout_sets_every_parameter_there_is_and_no_other():
    derived = {"Job": {"name", "engine", "line"}, "Repository": {"name", "line"}}
    sections = [value for value in vars(layout).values() if isinstance(value, Section) and not value.is_group]
    for section in sections:
        setting = section.setting
        written = set(section.attributes())
        assert written == set(setting.attributes) - derived.get(setting.__name__, set()), setting
    classes = {kind for kind in Setting.__subclasses__() if kind.__module__ == Setting.__module__}
    assert {section.setting for section in sections} == classes


def test_durations_and_sizes_have_their_unit_in_the_name():
    def keys(section):
        for key in section.keys:
            yield from keys(key.kind) if isinstance(key.kind, Section) else [key]

    for section in (layout.JOB, layout.SETTINGS):
        for key in keys(section):
            if key.kind.written == "duration":
                assert key.attribute.endswith("_s")
            if key.kind.written == "size":
                assert "_bytes" in key.attribute
