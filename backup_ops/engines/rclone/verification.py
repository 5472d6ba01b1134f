"""A verification: is what the snapshots consist of there, and is it what was stored?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from backup_ops.engines.rclone.binary import ABSENT, as_list
from backup_ops.engines.rclone.copying import error_of, parsed
from backup_ops.engines.rclone.manifest import in_memory
from backup_ops.engines.rclone.marker import MARKER, missing
from backup_ops.engines.rclone.repository import SNAPSHOT_ID, Repository
from backup_ops.errors import EngineError
from backup_ops.failure import Failure, classify
from backup_ops.progress import Progress
from backup_ops.quantity import format_count
from backup_ops.snapshot import Damage, Verified, VerifyLevel

MAX_DAMAGES = 10_000
_LISTED = 10
_TELL_EVERY = 500
# What rclone says of a file when nothing is known of it: the way to the repository is at fault, not the file.
_OF_THE_WAY = frozenset(
    {"network_error", "auth_failed", "tls_error", "rate_limited", "server_error", "timeout", "out_of_memory"}
)
# One row for each content that a manifest names: where it lies, and what it must be. Two manifests that disagree give
# two rows. `place` is what rclone calls it below the folder of all runs.
_TABLES = """
    CREATE TABLE stored (place VARCHAR, bytes BIGINT, sha256 VARCHAR);
    CREATE TABLE bad (place VARCHAR, bytes BIGINT, sha256 VARCHAR, what VARCHAR);
    CREATE TABLE hit (path BLOB, place VARCHAR, what VARCHAR, snapshot VARCHAR);
"""
_CONTENT = """
    (SELECT path, coalesce(stored_run || '/' || stored_path, '') AS place, bytes, sha256 FROM read_parquet($file)
     WHERE kind IN ('file', 'hardlink'))
"""
_ADD = f"""
    INSERT INTO stored SELECT DISTINCT place, bytes, sha256 FROM {_CONTENT}
    EXCEPT SELECT place, bytes, sha256 FROM stored
"""
_LISTED_WRONG = """
    INSERT INTO bad SELECT s.place, s.bytes, s.sha256,
        CASE WHEN l.place IS NULL THEN 'is not there'
             ELSE format('holds {} bytes, and {} were stored', l.bytes, s.bytes) END
    FROM stored s LEFT JOIN listed l ON s.place = l.place WHERE l.bytes IS DISTINCT FROM s.bytes
"""
_READ_WRONG = """
    INSERT INTO bad SELECT s.place, s.bytes, s.sha256,
        CASE WHEN r.place IS NULL THEN 'cannot be read' ELSE 'is not what was stored (sha256 differs)' END
    FROM chosen s LEFT JOIN read r ON s.place = r.place WHERE r.sha256 IS DISTINCT FROM s.sha256
"""
_HITS = f"""
    INSERT INTO hit SELECT c.path, c.place, b.what, $snapshot FROM {_CONTENT} c
    JOIN bad b ON c.place = b.place AND c.bytes = b.bytes AND c.sha256 = b.sha256
"""
_DAMAGES = f"""
    SELECT path, place, what, list(snapshot ORDER BY snapshot DESC) FROM hit GROUP BY path, place, what
    ORDER BY path, place LIMIT {MAX_DAMAGES}
"""


def verify(repository: Repository, level: VerifyLevel, *, job_uid: str | None, sample_files: int) -> Verified:
    """Looks at the snapshots of the job, or of all. Raises EngineError when the repository cannot be asked."""
    with in_memory() as database:
        return _Verifying(repository, level, job_uid, sample_files, database).perform()


def marker_damaged(repository: str, level: VerifyLevel, failure: Failure) -> Verified:
    """What there is to say when not even the marker can be believed."""
    return Verified(
        level=level,
        repository=repository,
        snapshots=0,
        snapshots_damaged=0,
        files=0,
        bytes=0,
        files_read=0,
        bytes_read=0,
        damages=(Damage(path=MARKER, what=failure.message),),
        damages_total=1,
        duration_s=0.0,
        notes=("Without its marker nothing else in the repository was looked at.",),
    )


class _Verifying:
    def __init__(
        self,
        repository: Repository,
        level: VerifyLevel,
        job_uid: str | None,
        sample_files: int,
        database: duckdb.DuckDBPyConnection,
    ) -> None:
        self._repository = repository
        self._rclone = repository.rclone
        self._context = repository.rclone.context
        self._level = level
        self._job_uid = job_uid
        self._sample_files = sample_files
        self._database = database
        self._damages: list[Damage] = []
        self._sound: list[dict[str, Any]] = []
        self._said: dict[str, str] = {}
        """What rclone said of files it could not read."""

    def perform(self) -> Verified:
        started = time.monotonic()
        self._database.execute(_TABLES)
        self._read_seals()
        self._read_manifests()
        self._name_gone()
        if self._damages:
            self._check_there()
        self._list()
        files_read, bytes_read = (0, 0) if self._level == "list" else self._read()
        total = self._name_damages() + len(self._damages)
        files, size = self._count("stored")
        return Verified(
            level=self._level,
            repository=str(self._repository.location),
            snapshots=len(self._sound) + len(self._damages),
            snapshots_damaged=len({name for damage in self._damages for name in damage.snapshots} | self._hit()),
            files=files,
            bytes=size,
            files_read=files_read,
            bytes_read=bytes_read,
            damages=tuple([*self._damages, *self._content_damages()][:MAX_DAMAGES]),
            damages_total=total,
            duration_s=time.monotonic() - started,
            notes=self._notes(),
        )

    # --- what describes the snapshots

    def _read_seals(self) -> None:
        def damaged(name: str, failure: Failure) -> None:
            if failure.error_type != "repository_corrupt":  # of a newer format, for one
                raise EngineError(failure)
            self._damages.append(Damage(path=f"snapshots/{name}.json", what=failure.message, snapshots=(name,)))

        described = self._repository.described()
        self._heads = list(self._repository.heads(damaged, described[".json"]))
        self._manifests = described[".parquet"]

    def _known(self) -> set[str]:
        """Snapshots that have a seal, though it may be damaged, and those that are known to have lost it."""
        return {head["snapshot_id"] for head in self._heads} | {name for d in self._damages for name in d.snapshots}

    def _read_manifests(self) -> None:
        heads = self._heads_of_the_job()
        for number, head in enumerate(heads):
            self._context.check()
            self._context.on_progress(Progress(phase="proving manifests", files_done=number, files_total=len(heads)))
            try:
                with self._repository.manifest(head) as file:
                    self._database.execute(_ADD, {"file": str(file)})
            except EngineError as error:
                if error.failure.error_type != "repository_corrupt":
                    raise
                name = head["snapshot_id"]
                path = f"snapshots/{name}.parquet"
                self._damages.append(Damage(path=path, what=error.failure.message, snapshots=(name,)))
            else:
                self._sound.append(head)

    def _heads_of_the_job(self) -> list[dict[str, Any]]:
        return [head for head in self._heads if self._job_uid in (None, head["job_uid"])]

    def _name_gone(self) -> None:
        """Snapshots that others were made from, and that are not there: nothing ever takes one away.

        A run that was killed, or that goes on, is none of them: it has no seal yet, and so nobody was made from it.
        """
        pairs = [(head.get("parent"), head["snapshot_id"]) for head in self._heads_of_the_job()]
        parents = {parent: name for parent, name in pairs if isinstance(parent, str)}
        for name in sorted({*parents, *self._runs()} - self._known(), reverse=True):
            why = f"snapshot {parents[name]} was compared with it" if name in parents else "others hold content of it"
            path = f"snapshots/{name}.json"
            what = f"snapshot {name} is gone: its seal {path} is not there, and {why}"
            self._damages.append(Damage(path=path, what=what, snapshots=(name,)))

    # --- content

    def _list(self) -> None:
        """Size by size, one call for all run folders that a snapshot names."""
        total, _ = self._count("stored")
        with self._table("listed", "bytes", "BIGINT") as add:
            done = 0

            def take(line: bytes) -> None:
                nonlocal done
                size, _, name = line.partition(b"\t")
                add(name, size)
                done += 1
                if done % _TELL_EVERY == 0:
                    self._context.on_progress(Progress(phase="listing", files_done=done, files_total=total))

            if total:
                self._rclone.quietly(
                    "lsf", "-R", "--files-only", "--format", "sp", "--separator", "\t", "--include-from", "-",
                    self._repository.runs, stdin=self._patterns(), on_stdout=take,
                )  # fmt: skip
        self._database.execute(_LISTED_WRONG)
        if self._count("bad")[0]:
            self._check_there()

    def _read(self) -> tuple[int, int]:
        """Reads what is to be read, once, and compares its sums. Returns how many files and bytes were read."""
        some = f" USING SAMPLE reservoir({self._sample_files} ROWS)" if self._level == "sample" else ""
        self._database.execute(
            f"CREATE TABLE chosen AS SELECT * FROM (FROM stored ANTI JOIN bad USING (place, bytes, sha256)){some}"
        )
        total, size = self._count("chosen")
        if not total:
            return 0, 0
        which, names = ["--include-from", "-"], self._patterns()
        if self._level == "sample":
            places = [row[0] for row in self._database.execute("SELECT DISTINCT place FROM chosen").fetchall()]
            which, names = ["--files-from-raw", "-", "--no-traverse"], as_list(places)
        limit = self._context.limits.bandwidth_bytes_s
        with self._table("read", "sha256", "VARCHAR") as add:
            done = 0

            def take(line: bytes) -> None:
                nonlocal done
                digest, _, name = line.partition(b"  ")
                add(name, digest)
                done += 1

            # --download: the content itself is read and summed here, whatever the storage says of its sums.
            ended = self._rclone.call(
                "hashsum", "SHA256", "--download", *which, "--transfers", "4", "--checkers", "8",
                *(() if limit is None else ("--bwlimit", f"{limit}B")),
                "--stats", "500ms", "--stats-log-level", "NOTICE", self._repository.runs,
                stdin=names, on_stdout=take, on_stderr=lambda line: self._hear(line, done, total, size),
            )  # fmt: skip
        for said in self._said.values():
            if classify(engine="rclone", exit_code=1, output=said).error_type in _OF_THE_WAY:
                raise self._rclone.error(ended)
        if ended.exit_code not in (0, *ABSENT) and not self._said:
            raise self._rclone.error(ended)
        before = self._count("bad")[0]
        self._database.execute(_READ_WRONG)
        if self._count("bad")[0] > before:
            self._check_there()
        return self._count("(FROM chosen SEMI JOIN read USING (place))")

    def _hear(self, line: bytes, files_done: int, files_total: int, bytes_total: int) -> None:
        self._context.on_log(line)
        said = parsed(line)
        stats = said.get("stats")
        if isinstance(stats, dict):
            bytes_done, speed = min(int(stats.get("bytes") or 0), bytes_total), float(stats.get("speed") or 0)
            self._context.on_progress(
                Progress(
                    phase="reading",
                    files_done=files_done,
                    files_total=files_total,
                    bytes_done=bytes_done,
                    bytes_total=bytes_total,
                    speed_bytes_s=speed,
                    eta_s=(bytes_total - bytes_done) / speed if speed else None,
                )
            )
        elif (told := error_of(said)) is not None:
            self._said.setdefault(*told)

    def _patterns(self) -> bytes:
        """So that one call enters the run folders that snapshots name, and no other."""
        return as_list([f"/{run}/**" for run in self._runs()])

    def _runs(self) -> list[str]:
        """The runs that stored what the snapshots hold."""
        runs = self._database.execute("SELECT DISTINCT split_part(place, '/', 1) FROM stored ORDER BY 1").fetchall()
        return [run for (run,) in runs if SNAPSHOT_ID.fullmatch(run)]

    def _check_there(self) -> None:
        """Before single files are blamed: a repository that went away has lost them all, and none is damaged."""
        try:
            self._repository.check_same()
        except EngineError as error:
            if error.failure.error_type != "repository_missing":
                raise
            raise missing(
                f"repository {self._repository.location} went away, or became another one, while it was verified:"
                " nothing can be said of it.",
                "Mount or connect it, and verify again.",
            ) from None

    # --- what came of it

    def _name_damages(self) -> int:
        """Finds whose the bad content is; only if there is any, because it reads the manifests again."""
        if not self._count("bad")[0]:
            return 0
        for head in self._sound:
            with self._repository.manifest(head) as file:
                self._database.execute(_HITS, {"file": str(file), "snapshot": head["snapshot_id"]})
        found = self._database.execute("SELECT count(*) FROM (SELECT DISTINCT path, place, what FROM hit)").fetchall()
        return int(found[0][0])

    def _content_damages(self) -> Iterator[Damage]:
        for path, place, what, snapshots in self._database.execute(_DAMAGES).fetchall():
            why = self._said.get(place, "") if what == "cannot be read" else ""
            yield Damage(
                path=os.fsdecode(path),
                what=f"runs/{place} {what}{f': {why}' if why else ''}",
                stored=f"runs/{place}",
                snapshots=tuple(snapshots),
            )

    def _hit(self) -> set[str]:
        return {row[0] for row in self._database.execute("SELECT DISTINCT snapshot FROM hit").fetchall()}

    def _notes(self) -> tuple[str, ...]:
        notes = []
        known = self._known()
        unsealed = sorted({*self._manifests} - known)
        if unsealed:
            # A run that was killed at its end leaves the same to the byte. Who keeps a history knows which it is.
            count = "1 manifest has" if len(unsealed) == 1 else f"{format_count(len(unsealed))} manifests have"
            notes.append(
                f"{count} no seal, of runs that go on, that were killed at their very end, or whose seal was lost:"
                f" {_listed(unsealed)}."
            )
        if self._job_uid is None:
            folders = self._rclone.lines("lsf", "--dirs-only", self._repository.runs) or []
            found = {line.decode("utf-8", "replace").strip("/") for line in folders}
            stray = sorted(found - known - {*unsealed})
            if stray:
                count = format_count(len(stray))
                notes.append(
                    f"{count} folders below runs have no seal, of runs that go on or were killed: {_listed(stray)}."
                )
        return tuple(notes)

    # --- the tables

    @contextmanager
    def _table(self, name: str, value: str, kind: str) -> Iterator[Callable[[bytes, bytes], None]]:
        """Fills a table of places and a value each: through a file, which DuckDB reads a hundred times faster."""
        file = self._context.scratch / f"{name}.csv"
        try:
            with file.open("w", encoding="ascii") as stream:

                def add(place: bytes, found: bytes) -> None:
                    # As hex digits there is nothing in it to quote. What is no UTF-8 is no name that we store under.
                    if _is_text(place):
                        stream.write(f"{place.hex()},{found.hex()}\n")

                yield add
            self._database.execute(
                f"CREATE TABLE {name} AS SELECT decode(unhex(place)) AS place,"
                f" try_cast(decode(unhex(found)) AS {kind}) AS {value}"
                " FROM read_csv($file, header = false, auto_detect = false, delim = ',',"
                " columns = {'place': 'VARCHAR', 'found': 'VARCHAR'})",
                {"file": str(file)},
            )
        finally:
            file.unlink(missing_ok=True)

    def _count(self, table: str) -> tuple[int, int]:
        """Stored files, and bytes of content: each once, however many manifests name it."""
        rows: Sequence[tuple[int, int]] = self._database.execute(
            f"SELECT count(*), coalesce(sum(bytes), 0)::BIGINT FROM"
            f" (SELECT place, max(bytes) AS bytes FROM {table} GROUP BY place)"
        ).fetchall()
        return rows[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" and more" if len(names) > _LISTED else "")


def _is_text(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
