import json

import pytest

from backup_ops.errors import UsageError
from backup_ops.job import (
    Guard,
    Hooks,
    Job,
    Limits,
    Notify,
    Repository,
    Schedule,
    SecretReference,
    Setting,
    Settings,
    config_version,
    job_as_data,
    job_from_data,
    local_folder,
    name_problem,
)

REPOSITORY = Repository(
    name="mirror", url="/mnt/mirror", password=SecretReference("command", ("pass", "show", "mirror"))
)
JOB = Job(
    name="photos",
    source=["/srv/photos"],
    repository="mirror",
    exclude=["*.tmp"],
    schedule=Schedule(every_s=3600.0),
    limits=Limits(timeout_s=60.0, priority=9),
    guard=Guard(min_files=0),
    hooks=Hooks(before=[["/usr/bin/true", "x"]]),
)


def all_settings(kind: type[Setting] = Setting) -> list[type[Setting]]:
    return [found for below in kind.__subclasses__() for found in (below, *all_settings(below))]


@pytest.mark.parametrize("kind", all_settings())
def test_every_parameter_says_what_it_does_and_cannot_be_changed(kind):
    assert kind.attributes
    for name in kind.attributes:
        parameter = kind.param[name]
        assert parameter.doc, f"{kind.__name__}.{name} has no doc"
        assert parameter.constant, f"{kind.__name__}.{name} can be changed"


def test_a_setting_cannot_be_changed():
    with pytest.raises(TypeError, match="Constant parameter"):
        JOB.name = "pictures"
    with pytest.raises(TypeError, match="Constant parameter"):
        JOB.limits.priority = 3


def test_a_job_survives_the_way_through_json():
    data = json.loads(json.dumps(job_as_data(JOB, REPOSITORY)))
    job, repository = job_from_data(data)
    assert job_as_data(job, repository) == data
    assert job.limits.priority == 9
    assert job.hooks.before == [["/usr/bin/true", "x"]]
    assert repository.password == SecretReference("command", ("pass", "show", "mirror"))


def test_the_data_holds_the_defaults_of_today():
    assert job_as_data(Job(name="x"), None)["job"]["retry"] == {"max_retries": 2, "delay_s": 60.0, "max_delay_s": 900.0}
    assert job_from_data(job_as_data(Job(name="x"), None))[1] is None


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"job": 3},
        {"job": {"nmae": "x"}},
        {"job": {"limits": {"priority": 99}}},
        {"job": {"limits": 3}},
        {"job": {"source": [3]}},
        {"job": {}, "repository": 3},
        {"job": {}, "repository": {"password": {"plain": "x"}}},
        {"job": {}, "repository": {"password": {}}},
        {"job": {}, "repository": {"password": "x"}},
        {"job": {"schedule": {"cron": []}}},
    ],
)
def test_data_of_another_make_is_refused_in_a_sentence(data):
    with pytest.raises(UsageError) as caught:
        job_from_data(data)
    assert caught.value.hint


def test_a_job_without_uid_has_its_name_as_uid():
    assert Job(name="photos").job_uid == "photos"
    assert Job(name="photos", job_uid="pictures").job_uid == "pictures"


def test_config_version_changes_with_what_is_backed_up_and_where_to_and_with_nothing_else():
    version = config_version(JOB, REPOSITORY)
    assert len(version) == 12
    assert int(version, 16) >= 0

    def changed(**more):
        return config_version(Job(**{**{name: getattr(JOB, name) for name in Job.attributes}, **more}), REPOSITORY)

    assert changed() == version
    assert changed(limits=Limits(priority=1), guard=Guard(), line=99, name="pictures", schedule=None) == version
    assert changed(source=["/srv/photos", "/srv/films"]) != version
    assert changed(source=["/b", "/a"]) == changed(source=["/a", "/b"])
    assert changed(exclude=[]) != version
    assert changed(engine="restic") != version
    assert config_version(JOB, Repository(name="mirror", url="/mnt/other")) != version
    assert config_version(JOB, None) != version
    assert config_version(Job(name="x", source=["/\udcff"]), None)


@pytest.mark.parametrize("name", ["photos", "orders-db", "a", "7", "x.y_z", "Büro", "写真", "कखग", "é", "a" * 64])
def test_names_that_are_one_word_everywhere(name):
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            "a  b",
            "a ",
            "-x",
            ".x",
            "_x",
            "a/b",
            "a#b",
            "a?b",
            "a%b",
            "a\n",
            "a\0",
            "a\x7f",
            "a$b",
            "a'b",
            "a\\b",
            "a~",
        ),
        *("a:b", "a*", "a" * 65, "a\u200bb", "a\u202eb", "\u0301x", "a\ud800", "😀", "20261124T095501-3f9a2c"),
    ],
)
def test_names_that_are_not(name):
    assert name_problem(name)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("/mnt/x", "/mnt/x"),
        ("local:/mnt/x", "/mnt/x"),
        (":local:/mnt/x", "/mnt/x"),
        ("sftp:nas:/x", None),
        ("s3:x", None),
    ],
)
def test_a_repository_is_a_folder_here_or_elsewhere(url, folder):
    assert local_folder(url) == folder
    assert Repository(url=url).folder == folder


def test_defaults_are_not_shared_between_objects():
    one = Job(name="one")
    one.source.append("/x")
    assert Job(name="two").source == []
    Settings().engines["rclone"] = "/x"
    assert Settings().engines == {}


def test_a_notify_rule_says_where_its_address_is_and_never_the_address():
    assert str(Notify(url=SecretReference("env", "APPRISE_URL")).url) == "env APPRISE_URL"
