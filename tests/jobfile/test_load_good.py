import json
from pathlib import Path

import pytest
from texts import EVERYTHING, HEAD, PHOTOS

from backup_ops import jobfile
from backup_ops.job import SecretReference, Settings, job_as_data, job_from_data


def test_everything_a_file_can_say_is_read_in_seconds_bytes_and_full_paths(tmp_path):
    path = tmp_path / "jobs.yaml"
    path.write_text(EVERYTHING, encoding="utf-8")
    file = jobfile.load(path)
    assert file.path == path
    assert list(file.jobs) == ["photos", "orders-db", "nas-own"]
    photos = file.jobs["photos"]
    assert (photos.name, photos.job_uid, photos.source, photos.repository) == (
        "photos",
        "photos",
        ["/srv/photos"],
        "mirror",
    )
    assert (photos.schedule.cron, photos.schedule.timezone) == ("0 2 * * *", "Europe/Berlin")
    assert photos.retention.as_data() == {"last": 3, "hourly": 0, "daily": 7, "weekly": 4, "monthly": 12, "yearly": 0}
    assert photos.exclude == ["*.tmp"]
    assert (photos.limits.timeout_s, photos.limits.bandwidth_bytes_s, photos.limits.priority) == (7200, 20 << 20, 5)
    assert (photos.retry.max_retries, photos.retry.delay_s, photos.retry.max_delay_s) == (2, 60, 900)
    assert (photos.guard.min_files, photos.guard.max_delete_percent) == (1, 50)
    assert (photos.hooks.before, photos.hooks.after, photos.hooks.timeout_s) == ([["/usr/bin/true"]], [], 300)
    assert (photos.drill.every_s, photos.drill.sample) == (604800, 20)
    orders = file.jobs["orders-db"]
    assert (orders.command, orders.output) == (["pg_dump", "--format=custom", "orders"], "orders.dump")
    assert file.jobs["nas-own"].heartbeat is True
    assert file.jobs["nas-own"].schedule.grace_s == 7200
    assert file.repositories["mirror"].folder == "/mnt/disk/mirror"
    assert file.repositories["vault"].password == SecretReference("env", "VAULT_PASSWORD")
    assert file.settings.as_data() == {
        "max_running": 4,
        "restore_roots": ["/srv/restores"],
        "logs_keep": 30,
        "logs_cap_bytes": 5 << 30,
        "engines": {"rclone": "/usr/bin/rclone"},
    }
    assert [(rule.url, rule.min_severity) for rule in file.notify] == [(SecretReference("env", "APPRISE_URL"), "HIGH")]


def test_the_engine_of_a_job_is_that_of_its_repository_or_what_it_is():
    file = jobfile.parse(EVERYTHING.encode())
    assert [job.engine for job in file.jobs.values()] == ["rclone", "command", "heartbeat"]
    restic = jobfile.parse(
        b"version: 1\nrepositories: {v: {engine: restic, url: 'b2:x'}}\njobs: {j: {source: /a, repository: v}}"
    )
    assert restic.jobs["j"].engine == "restic"


def test_jobs_and_repositories_know_their_line():
    file = jobfile.parse(EVERYTHING.encode())
    assert [job.line for job in file.jobs.values()] == [8, 19, 23]
    assert [repository.line for repository in file.repositories.values()] == [5, 6]


def test_what_is_read_survives_the_way_through_a_queue_file():
    file = jobfile.parse(EVERYTHING.encode())
    for job in file.jobs.values():
        data = json.loads(json.dumps(job_as_data(job, file.repositories.get(job.repository or ""))))
        assert job_as_data(*job_from_data(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "version: 1",
        "version: 1\njobs:\n",
        "version: 1\njobs: {}\nrepositories:\nsettings:\nnotify:\n",
        "\ufeffversion: 1\r\n",
    ],
)
def test_a_file_may_have_no_jobs_yet(text):
    file = jobfile.parse(text.encode())
    assert (file.jobs, file.repositories, file.notify, file.notices) == ({}, {}, (), ())
    assert file.settings.as_data() == Settings().as_data()


def test_home_is_expanded_and_paths_are_tidied(monkeypatch):
    monkeypatch.setenv("HOME", "/home/mads")
    file = jobfile.parse(
        b"version: 1\nrepositories: {m: {url: ~/m/}, l: {url: 'local:~/l'}}\n"
        b"jobs: {a: {source: [~/photos/, //srv///x/./y], repository: m}}"
    )
    assert file.repositories["m"].url == "/home/mads/m"
    assert file.repositories["l"].folder == "/home/mads/l"
    assert file.jobs["a"].source == ["/home/mads/photos", "/srv/x/y"]


def test_a_name_is_found_in_either_spelling_of_its_letters():
    file = jobfile.parse(
        "version: 1\nrepositories: {Bu\u0308ro: {url: /m}}\n"
        "jobs: {bu\u0308cher: {source: /a, repository: B\u00fcro}}".encode()
    )
    assert list(file.jobs) == ["b\u00fccher"]
    assert file.jobs["b\u00fccher"].repository == "B\u00fcro"


def test_names_and_words_may_look_like_numbers_or_answers():
    file = jobfile.parse(
        (HEAD + "  2024: {source: /a, repository: mirror, uid: 7}\n  no: {command: [echo, 5, '']}\n").encode()
    )
    assert list(file.jobs) == ["2024", "no"]
    assert file.jobs["2024"].job_uid == "7"
    assert file.jobs["no"].command == ["echo", "5", ""]


def test_an_alias_reuses_a_value():
    file = jobfile.parse(
        (HEAD + "  a: {source: /a, repository: mirror, limits: &l {priority: 9}}\n"
         "  b: {source: /a, repository: mirror, limits: *l}\n").encode()
    )  # fmt: skip
    assert file.jobs["b"].limits.priority == 9


def test_an_anchor_may_be_used_again_without_a_warning(recwarn):
    jobfile.parse((HEAD + PHOTOS + "    limits: &x {priority: 9}\n    guard: &x {min_files: 0}\n").encode())
    assert not recwarn.list


@pytest.mark.parametrize(
    "cron", ["0 2 * * *", "*/5 * * * *", "0 0 1,15 jan-mar MON", "0 9-17/2 * * 1-5", "0 0 L * 5#2", "0 0 * * 7"]
)
def test_cron_fields_as_people_write_them(cron):
    file = jobfile.parse((HEAD + PHOTOS + f"    schedule: {{cron: '{cron}'}}\n").encode())
    assert file.jobs["photos"].schedule.cron == cron


def test_a_source_beside_its_repository_is_not_in_it():
    file = jobfile.parse((HEAD + "  p: {source: [/mnt/mirror2, /mn], repository: mirror}\n").encode())
    assert file.jobs["p"].source == ["/mnt/mirror2", "/mn"]


def test_a_command_may_do_all_by_itself():
    file = jobfile.parse(b"version: 1\njobs: {borg: {command: [borg, create]}}")
    assert (file.jobs["borg"].engine, file.jobs["borg"].repository) == ("command", None)


def test_secrets_are_referred_to_in_four_ways(monkeypatch):
    monkeypatch.setenv("HOME", "/home/mads")
    text = "version: 1\nrepositories:\n" + "".join(
        f"  r{number}: {{engine: restic, url: 'b2:{number}', password: {reference}}}\n"
        for number, reference in enumerate(
            ["{env: A_B}", "{file: ~/pw}", "{command: [pass, show, x]}", "{keyring: backup-ops/vault}"]
        )
    )
    passwords = [repository.password for repository in jobfile.parse(text.encode()).repositories.values()]
    assert passwords == [
        SecretReference("env", "A_B"),
        SecretReference("file", "/home/mads/pw"),
        SecretReference("command", ("pass", "show", "x")),
        SecretReference("keyring", "backup-ops/vault"),
    ]


def test_loading_needs_no_more_than_the_file(tmp_path):
    path = tmp_path / "jobs.yaml"
    path.write_text(EVERYTHING, encoding="utf-8")
    assert jobfile.load(str(path)).jobs.keys() == jobfile.load(Path(path)).jobs.keys()
    assert [entry.name for entry in tmp_path.iterdir()] == ["jobs.yaml"]
