"""Causes that rclone's output names; the sentences are what rclone 1.75 said when it was made to fail."""

import errno

import pytest

from backup_ops.failure import ERROR_TYPES, SEVERITIES, classify, failure_of, failure_of_os_error

NO_ROOM = '{"level":"error","msg":"preallocate: file too big for remaining disk space","object":"f1"}'


@pytest.mark.parametrize(
    ("exit_code", "output", "error_type"),
    [
        (3, '{"level":"error","msg":"error reading source root directory: directory not found"}', "source_missing"),
        (
            1,
            '{"level":"error","object":"a","msg":"failed to open source object: open /s/a: permission denied"}',
            "permission_denied",
        ),
        (1, NO_ROOM, "disk_full"),
        (1, '{"level":"error","object":"a","msg":"mkdir /r: read-only file system"}', "read_only"),
        (
            1,
            '{"level":"critical","msg":"dial tcp 127.0.0.1:9: connect: connection refused"}',
            "network_error",
        ),
        (1, "ssh: unable to authenticate, attempted methods [none password]: EOF", "auth_failed"),
        (1, "401 Unauthorized", "auth_failed"),
        (6, "can't copy - source file is being updated (size changed from 1 to 2)", "source_changed"),
        (1, "read /s/a: input/output error", "io_error"),
        (1, "file name too long", "name_invalid"),
        (7, "--max-delete threshold reached", "too_many_deletes"),
        (10, '{"level":"error","msg":"max transfer duration reached as set by --max-duration"}', "timeout"),
        (2, "Error: unknown flag: --nonsense", "config_invalid"),
        (-9, "", "interrupted"),
        (130, "", "cancelled"),
        (1, "something nobody has seen before", "unknown"),
        (0, "", "none"),
        (None, b"caf\xe9: no space left on device", "disk_full"),
    ],
)
def test_cause_is_named(exit_code, output, error_type):
    failure = classify(engine="rclone", exit_code=exit_code, output=output)
    assert failure.error_type == error_type
    assert failure.message


def test_cause_beats_consequence_and_progress_lines_are_no_errors():
    output = (
        '{"level":"info","msg":"timeout is 5m"}\n' + NO_ROOM + '\n{"level":"error","msg":"connection reset by peer"}'
    )
    failure = classify(engine="rclone", exit_code=1, output=output)
    assert (failure.error_type, failure.message) == (
        "disk_full",
        "f1: preallocate: file too big for remaining disk space",
    )


@pytest.mark.parametrize(
    "output", ["{", "{}", "[" * 100_000, "\x00", "null", '{"msg": {"a": 1}}', '{"message": null}', "é" * 10_000]
)
def test_no_output_makes_it_raise(output):
    assert classify(engine="odd", exit_code=1, output=output).error_type in ERROR_TYPES


@pytest.mark.parametrize(
    ("number", "error_type"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EACCES, "permission_denied"),
        (errno.EROFS, "read_only"),
        (errno.EIO, "io_error"),
        (9999, "unknown"),
    ],
)
def test_plain_os_errors_have_types(number, error_type):
    assert failure_of_os_error(OSError(number, "x"), "it failed").error_type == error_type


def test_every_type_says_how_bad_and_what_to_do():
    for name, error_type in ERROR_TYPES.items():
        assert error_type.severity in SEVERITIES
        assert error_type.remedy or name == "none"
        assert failure_of(name, "x").component == error_type.component
