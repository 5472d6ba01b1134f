"""What can be typed to look into a repository: by a job of the home, or with `--repository` by where it lies.

With a home the first word is the job. Without one there is no job to name: all words move up by one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from backup_ops.snapshot import VERIFY_LEVELS

# Those of backup_ops.job, which loads param: too much for a `--help`.
ENGINES = ("rclone", "restic")
_SNAPSHOT_HELP = "`latest`, an id or its beginning, or a time"


def plain(text: str) -> str:
    """Without the mark that keeps a word after `--` from being taken for an option (see parser)."""
    return text.removeprefix("\0")


def snapshots(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    _add_repository(parser)


def ls(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    parser.add_argument("snapshot", metavar="SNAP", nargs="?", type=plain, help=_SNAPSHOT_HELP)
    parser.add_argument("path", metavar="PATH", nargs="?", type=plain, help="only this and what is below it")
    _add_repository(parser)


def diff(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    parser.add_argument("before", metavar="A", nargs="?", type=plain, help=f"a snapshot: {_SNAPSHOT_HELP}")
    parser.add_argument("after", metavar="B", nargs="?", type=plain, help="the one to compare it with")
    _add_repository(parser)


def restore(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    parser.add_argument("paths", metavar="PATH", nargs="*", type=plain, help="only these, as `ls` shows them")
    parser.add_argument("--target", metavar="DIR", required=True, help="folder to restore into; made if missing")
    parser.add_argument(
        "--snapshot", metavar="SNAP", default=None, help="`latest` (default), an id or its beginning, or a time"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be restored; writes nothing")
    parser.add_argument("--overwrite", action="store_true", help="restore into a folder that is not empty")
    _add_repository(parser)


def verify(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    parser.add_argument(
        "--level", choices=VERIFY_LEVELS, default="list", metavar="LEVEL",
        help="`list` (default): all that describes the snapshots, and that each stored file is there with its size; "
        "`sample`: reads 50 files too, chosen by chance; `full`: reads all content once",
    )  # fmt: skip
    _add_repository(parser)


def settle_snapshots(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    _settle(parser, given, ())


def settle_ls(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    _settle(parser, given, ("snapshot", "path"), needed=("snapshot",))
    given.snapshot = "latest" if given.snapshot is None else given.snapshot
    given.path = given.path or ""


def settle_diff(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    _settle(parser, given, ("before", "after"), needed=("before", "after"), needed_at_repository=("before", "after"))


def settle_restore(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    _check_options(parser, given)
    if given.repository is not None:
        words = [word for word in (given.job, *given.paths) if word is not None]
        given.job = None
        if given.snapshot is None and words:
            given.snapshot, *words = words
        given.paths = words
    elif given.job is None:
        parser.error("the following arguments are required: JOB")
    given.snapshot = given.snapshot or "latest"


def settle_verify(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    _settle(parser, given, ())


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", nargs="?", type=plain, help="name of a job in jobs.yaml")


def _add_repository(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on a machine that has only the repository, instead of JOB")
    group.add_argument(
        "--repository", metavar="URL", help="where it lies, as `url` in jobs.yaml; needs no home and makes none"
    )
    group.add_argument("--engine", choices=ENGINES, metavar="ENGINE", help="what wrote it (rclone)")
    passwords = group.add_mutually_exclusive_group()
    passwords.add_argument("--password-env", metavar="NAME", help="environment variable that holds its password")
    passwords.add_argument("--password-file", metavar="FILE", help="file that holds its password")
    group.add_argument("--job", metavar="NAME", dest="only_job", help="of this job only, when it holds several")


def _check_options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if given.repository is not None:
        return
    for name, option in (
        ("engine", "--engine"), ("password_env", "--password-env"), ("password_file", "--password-file"),
        ("only_job", "--job"),
    ):  # fmt: skip
        if getattr(given, name) is not None:
            parser.error(f"{option} goes with --repository; a job of the home is named without an option.")


def _settle(
    parser: argparse.ArgumentParser,
    given: argparse.Namespace,
    names: Sequence[str],
    *,
    needed: Sequence[str] = (),
    needed_at_repository: Sequence[str] = (),
) -> None:
    """Moves the words up when there is no job among them, and says which are missing."""
    _check_options(parser, given)
    titles = {action.dest: str(action.metavar) for action in parser._actions if not action.option_strings}
    if given.repository is None:
        missing = [name for name in ("job", *needed) if getattr(given, name) is None]
    else:
        words = [word for word in (getattr(given, name) for name in ("job", *names)) if word is not None]
        if len(words) > len(names):
            parser.error(f"there is no argument '{words[-1]}' here. With --repository a job is named by --job.")
        given.job = None
        for place, name in enumerate(names):
            setattr(given, name, words[place] if place < len(words) else None)
        missing = [name for name in needed_at_repository if getattr(given, name) is None]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(titles[name] for name in missing)}")
