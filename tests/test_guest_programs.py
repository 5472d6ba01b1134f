"""A guest of a shared home runs no program that the owner names, be it for a password or in an address."""

from __future__ import annotations

import pytest

from backup_ops import open as open_home
from backup_ops.errors import UsageError
from tests.conftest import Place

OWNERS = "password: {{command: [/bin/sh, -c, 'touch {proof}; echo abc']}}"


@pytest.fixture
def guest(place: Place):
    """The Ops of a home that is another's; `test_sharing` has real users, and root to make them."""
    place.fill()
    proof = place.folder / "proof"
    place.write_jobs(
        "".join(f"{name}: {{source: {place.source}, repository: {name}}}\n" for name in ("locked", "far", "near")),
        repositories=(
            f"locked: {{engine: rclone, url: {place.folder}/locked, {OWNERS.format(proof=proof)}}}\n"
            f"far: {{engine: rclone, url: ':sftp,md5sum_command=\"touch {proof}\",host=localhost,port=1:/x'}}\n"
            f"near: {{engine: rclone, url: ':sftp,host=localhost,port=1:/x'}}\n"
        ),
    )
    with open_home(place.home) as ops:
        ops.home.is_guest = True
        yield ops
    assert not proof.exists()


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("locked", r"repository 'locked' would have you run a program .*: its password is printed .*--password-file"),
        ("far", r"repository 'far' would have you run a program .*: its url names one \(md5sum_command\)"),
    ],
)
def test_a_guest_is_refused_in_a_sentence(guest, tmp_path, job, said) -> None:
    for ask in (
        lambda: guest.snapshots(job), lambda: list(guest.ls(job)), lambda: guest.verify(job),
        lambda: guest.preview(job), lambda: guest.find_snapshot(job),
        lambda: guest.restore(job, target=tmp_path / "restored"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            ask()


def test_what_names_no_program_is_still_asked(guest) -> None:
    assert guest.kept("photos").repository.name == "mirror"
    assert guest.kept("near").repository.name == "near"


def test_the_owner_runs_his_own(guest) -> None:
    guest.home.is_guest = False
    assert guest.kept("locked").repository.password.kind == "command"
    assert guest.kept("far").repository.name == "far"
