import os

import pytest
from texts import HEAD, PHOTOS

from backup_ops import jobfile


@pytest.mark.parametrize(
    "source", [None, "/srv/photos", '/srv/My fotos & ü\n"x" #1: {a}', "/srv/-x", "/a/20261124T095501-3f9a2c"]
)
@pytest.mark.parametrize("repository", [None, "/mnt/disk/backups", "/mnt/a b'c\\d\u2028😀", "sftp:nas:/vault"])
@pytest.mark.parametrize("home", [None, "/home/mads/.local/share/backup-ops"])
def test_the_first_file_loads_and_says_what_was_given(source, repository, home):
    file = jobfile.parse(jobfile.template(source=source, repository=repository, home=home).encode())
    assert [place.url for place in file.repositories.values()] == ([repository] if repository else [])
    sources = [job.source for job in file.jobs.values()]
    assert sources == ([[source]] if source and repository else []) + ([[home]] if home and repository else [])


@pytest.mark.parametrize(("source", "name"), [("/", "files"), ("/a/My fotos!", "My-fotos"), ("/a/.config", "config")])
def test_the_job_is_called_after_its_source(source, name):
    file = jobfile.parse(jobfile.template(source=source, repository="nas:/x").encode())
    assert list(file.jobs) == [name]


def test_a_relative_path_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = jobfile.parse(jobfile.template(source="photos/", repository="../mirror").encode())
    assert file.jobs["photos"].source == [str(tmp_path / "photos")]
    assert file.repositories["backups"].url == str(tmp_path.parent / "mirror")


def test_without_the_signs_in_front_the_comments_are_a_file_that_loads():
    lines = jobfile.template(home="/home/mads/.backup-ops").splitlines()
    text = "\n".join(
        line.replace("  # ", "  ", 1) for line in lines if not line.startswith(("  # The history", "  # Left out is"))
    )
    file = jobfile.parse(text.encode())
    assert list(file.jobs) == ["photos", "backup-ops-home"]
    assert file.jobs["photos"].limits.timeout_s == 7200
    assert file.notices == ()


def test_an_editor_is_told_of_the_schema_when_there_is_one():
    assert jobfile.template(schema="jobs.schema.json").splitlines()[0] == (
        "# yaml-language-server: $schema=jobs.schema.json"
    )
    assert "schema" not in jobfile.template()


def test_a_path_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="surrogates"):
        jobfile.template(source=os.fsdecode(b"/srv/caf\xe9"), repository="/mnt/x")


def test_the_job_of_the_home_keeps_out_of_the_way_of_a_source_of_that_name():
    file = jobfile.parse(jobfile.template(source="/a/backup-ops-home", repository="/m", home="/home/x").encode())
    assert list(file.jobs) == ["backup-ops-home", "backup-ops-own-home"]


def test_the_head_of_these_tests_is_good():
    assert list(jobfile.parse((HEAD + PHOTOS).encode()).jobs) == ["photos"]
