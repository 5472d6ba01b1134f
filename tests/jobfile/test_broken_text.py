"""What is no YAML, no text or no file at all."""

import os

import pytest

from backup_ops import jobfile
from backup_ops.errors import ConfigInvalid
from backup_ops.jobfile import layout
from backup_ops.jobfile.document import LARGEST_BYTES

FIRST_LINE = "Write `version: 1` as its first line, or make a first file with `backup-ops init`."


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", f": the file is empty. {FIRST_LINE}"),
        (b"\n\n# nothing\n", f": the file is empty. {FIRST_LINE}"),
        (b"---\n", f": the file is empty. {FIRST_LINE}"),
        (b"~", f": the file is empty. {FIRST_LINE}"),
        (b"- a", f":1: the file holds a list, and it must hold settings. {FIRST_LINE}"),
        (b"\nhello", f":2: the file holds 'hello', and it must hold settings. {FIRST_LINE}"),
        (b"version: 1\n# caf\xe9\n", ":2: byte 0xe9 is not UTF-8. Save the file as UTF-8."),
        ("version: 1".encode("utf-16"), ":1: the file is UTF-16. Save it as UTF-8."),
        (b"version: 1\n\n\0", ":3: a NUL byte stands in the file. Remove it: jobs.yaml is text."),
        (b"version: 1\n\x1b[31m", ":2: the control character U+001B stands in the file. Remove it: jobs.yaml is text."),
        (b"version: 1\njobs:\nsettings: {logs:\n}\n", ":3: settings.logs has no value. Write one, or remove the line."),
        (b"[" * 20_000, ": lists or mappings are nested too deeply to be a jobs.yaml. Write it flatter."),
    ],
)
def test_what_is_no_text_for_us(problems, data, said):
    assert problems(data) == [f"jobs.yaml{said}"]


def test_a_list_that_holds_itself_does_no_harm(problems):
    assert problems("version: 1\njobs: &a {x: *a}\nsettings: {restore_roots: &b [*b]}") == [
        f"jobs.yaml:2: job 'x' has no setting 'x'. It has {', '.join(layout.JOB.names)}.",
        (
            "jobs.yaml:2: job 'x' has none of source, command and heartbeat. "
            "Write what to back up, such as source: /srv/photos."
        ),
        "jobs.yaml:3: settings.restore_roots must be text, not a list.",
    ]


def test_a_file_that_is_missing_a_folder_a_pipe_or_closed_is_told_as_such(tmp_path):
    def said(path):
        with pytest.raises(ConfigInvalid) as caught:
            jobfile.load(path)
        return str(caught.value)

    path = tmp_path / "jobs.yaml"
    assert said(path) == f"jobs.yaml: there is no {path}. Write a first one with `backup-ops init`."
    assert said(path / "x" / "jobs.yaml") == (
        f"jobs.yaml: there is no {path}/x/jobs.yaml. Write a first one with `backup-ops init`."
    )
    path.mkdir()
    assert said(path) == f"jobs.yaml: {path} is a folder, not a file. Put a jobs.yaml there."
    path.rmdir()
    os.mkfifo(path)
    assert said(path) == f"jobs.yaml: {path} is not a file. Put a jobs.yaml there."
    path.unlink()
    path.symlink_to(path)
    assert "cannot be read: Too many levels of symbolic links." in said(path)
    assert "cannot be read" in said("nul\0byte")
    path.unlink()
    path.write_bytes(b"#" * (LARGEST_BYTES + 1))
    assert f"is {LARGEST_BYTES + 1:,} bytes long" in said(path)
    path.write_text("not a folder", encoding="utf-8")
    assert "cannot be read: Not a directory." in said(path / "jobs.yaml")
