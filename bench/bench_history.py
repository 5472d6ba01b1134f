"""Large and old homes: files, bytes, cold and warm reads, folding, compaction and rebuild.

What is asked of a home is asked in new processes, whose memory and start are their own. `--quick` takes a thirtieth of
everything; `--only` one or some of the parts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from backup_ops.home import Home
from history_maker import DAY, seal_segments, write_journals
from table import publish

PARTS = ("ended", "years", "folding", "rebuild")
JOBS = 100
MONTH = timedelta(days=30)
MEGABYTE = 1 << 20
ROUNDS = 9
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "job_cards": ("job_cards", {}),
    "runs, the newest 50": ("runs", {"limit": 50}),
    "errors, the newest 50": ("errors", {"limit": 50}),
    "errors, the newest 50 unresolved": ("errors", {"limit": 50, "unresolved": True}),
    "severity_breakdown": ("severity_breakdown", {}),
    "error_statistics": ("error_statistics", {}),
}

Figures = dict[str, Any]

# --- steps: what a new process does with a home. They import inside, for that is a part of what is measured.


def ask(home: Home) -> Figures:
    begun = time.perf_counter()
    from backup_ops.history import History

    history = History(home)
    imported = time.perf_counter()
    history.rows("job_cards")
    answered = time.perf_counter()
    warm = {}
    for name, (question, filters) in QUESTIONS.items():
        took, begun_cpu = [], time.process_time()
        for _ in range(ROUNDS):
            asked = time.perf_counter()
            history.rows(question, **filters)
            took.append(time.perf_counter() - asked)
        warm[name] = statistics.median(took), (time.process_time() - begun_cpu) / ROUNDS
    return {"import_s": imported - begun, "first_s": answered - imported, "warm": warm}


def ingest(home: Home) -> Figures:
    from backup_ops.history import History

    return _timed(lambda: History(home).ingest(force=True))


def compact(home: Home) -> Figures:
    from backup_ops.history import History

    return _timed(lambda: History(home).compact())


def rebuild(home: Home) -> Figures:
    from backup_ops.history import History

    def events() -> int:
        rebuilt = History(home).rebuild()
        assert rebuilt is not None
        return rebuilt.events

    return _timed(events)


def one_more(home: Home) -> Figures:
    """Ingests of one more run, one after another; the first, which starts DuckDB, is not counted."""
    from backup_ops.history import History

    history, took = History(home), []
    for number in range(ROUNDS + 1):
        at = datetime.now(UTC) - DAY + timedelta(minutes=number)
        write_journals(home, at, at + DAY, 1, Random(number))
        begun = time.perf_counter()
        assert history.ingest(force=True)
        took.append(time.perf_counter() - begun)
    return {"median_s": statistics.median(took[1:])}


STEPS: dict[str, Callable[[Home], Figures]] = {
    step.__name__: step for step in (ask, ingest, compact, rebuild, one_more)
}


def _timed(call: Callable[[], int]) -> Figures:
    begun, begun_cpu = time.perf_counter(), time.process_time()
    result = call()
    return {"result": result, "s": time.perf_counter() - begun, "cpu_s": time.process_time() - begun_cpu}


def in_new_process(step: Callable[[Home], Figures], home: Home) -> Figures:
    done = subprocess.run(
        [sys.executable, __file__, "--step", step.__name__, str(home.path)], stdout=subprocess.PIPE, check=True
    )
    told: Figures = json.loads(done.stdout)
    return told


def _peak_mb() -> float:
    """Of this process only: `ru_maxrss` would begin at what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


# --- what a home looks like


def forget_cached(home: Home) -> None:
    """Out of the system's cache, so that the next reader waits for the disk."""
    os.sync()
    for path in home.path.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def sizes(home: Home) -> Figures:
    def of(paths: Iterable[Path]) -> str:
        each = [path.stat().st_size for path in paths if path.is_file()]
        return f"{len(each):,} of {sum(each) / MEGABYTE:,.1f} MB"

    return {
        "journals": of(home.journal.iterdir()),
        "segments": of(home.segments.iterdir() if home.segments.exists() else ()),
        "history.duckdb": of([home.history]),
        "all files of the home": of(home.path.rglob("*")),
    }


def shell_s(home: Home) -> float:
    """A shell call from start to end, in a home that is in the system's cache; no upkeep is due in it."""
    (home.locks / "upkeep.lock").touch()
    argv = [sys.executable, "-m", "backup_ops", "--home", str(home.path), "runs", "--limit", "20", "--json"]
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def column(home: Home) -> Figures:
    """What one home has and how fast it answers, by name."""
    forget_cached(home)
    cold = in_new_process(ask, home)
    again = in_new_process(ask, home)
    figures = sizes(home)
    figures["new process, first question, files not in the cache"] = _ms(cold["first_s"])
    figures["new process, first question, files in the cache"] = _ms(again["first_s"])
    figures["new process, import"] = _ms(again["import_s"])
    figures["peak memory of that process"] = f"{again['peak_mb']:,.0f} MB"
    figures["`runs --limit 20 --json` from start to end"] = _ms(shell_s(home))
    figures |= {f"warm: {name}": f"{_ms(took)}, {_ms(cpu)} CPU" for name, (took, cpu) in again["warm"].items()}
    return figures


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


# --- the parts


def ended(home: Home, scale: int) -> tuple[dict[str, Figures], str]:
    """Ended journals, as a home without upkeep would heap them up, and the same home compacted."""
    today = datetime.now(UTC)
    count = write_journals(home, today - 100 * DAY // scale, today, JOBS, Random(1))
    forget_cached(home)
    first = in_new_process(ask, home)
    columns = {f"{count:,} ended journals": column(home)}
    done = in_new_process(compact, home)
    columns["the same, compacted"] = column(home)
    return columns, (
        f"{count:,} ended journals of ten events: the very first question, which makes the index, takes"
        f" {_ms(first['first_s'])}. Compaction: {done['result']:,} journals in {done['s']:,.1f} s"
        f" ({done['cpu_s']:,.1f} s CPU), {done['peak_mb']:,.0f} MB at its peak."
    )


def years(home: Home, scale: int) -> tuple[dict[str, Figures], str]:
    """Ten years of a run a day for each job, folded in and compacted month by month."""
    from backup_ops.history import History

    count, folding_s, compaction_s, most_files = 0, [], [], 0
    last = datetime.now(UTC) - 2 * DAY
    begin = last - 3650 * DAY // scale
    with closing(History(home)) as history:
        while begin < last:
            end = min(begin + MONTH, last)
            count += write_journals(home, begin, end, JOBS, Random(begin.isoformat()))
            began = time.perf_counter()
            assert history.ingest(force=True)
            folding_s.append(time.perf_counter() - began)
            most_files = max(most_files, sum(1 for path in home.path.rglob("*") if path.is_file()))
            began = time.perf_counter()
            history.compact()
            compaction_s.append(time.perf_counter() - began)
            begin = end
            print(f"\r{count:,} runs", end="", file=sys.stderr)
    print(file=sys.stderr)
    columns = {f"{count:,} runs in {len(folding_s) / 12.17:.1f} years": column(home)}
    more = in_new_process(one_more, home)
    write_journals(home, last, last + DAY, JOBS, Random(2))
    in_new_process(ingest, home)
    day = in_new_process(compact, home)
    return columns, (
        f"{count:,} runs: a month of {JOBS} jobs is folded in in {_ms(statistics.median(folding_s))} and compacted in"
        f" {_ms(statistics.median(compaction_s))} (medians; the last ones {_ms(folding_s[-1])} and"
        f" {_ms(compaction_s[-1])}; {sum(folding_s):,.0f} s and {sum(compaction_s):,.0f} s altogether); never more than"
        f" {most_files:,} files. At the end, one more run is ingested in {_ms(more['median_s'])}, and a day"
        f" ({day['result']} journals) is compacted in {_ms(day['s'])}, {day['peak_mb']:,.0f} MB at its peak."
    )


def folding(home: Home, scale: int) -> tuple[dict[str, Figures], str]:
    today = datetime.now(UTC)
    write_journals(home, today - 20 * DAY, today, 1000 // scale, Random(3))
    lines = b"".join(path.read_bytes() for path in home.journal.iterdir())
    for path in home.journal.iterdir():
        path.unlink()
    count = lines.count(b"\n")
    (home.journal / "some.jsonl").write_bytes(lines)
    done = in_new_process(ingest, home)
    return {}, (
        f"Folding {count:,} events of one journal ({len(lines) / MEGABYTE:,.0f} MB) into a new index:"
        f" {done['s']:,.1f} s, {count / done['s']:,.0f} events/s; {done['cpu_s']:,.1f} s CPU,"
        f" {done['peak_mb']:,.0f} MB at its peak."
    )


def rebuilds(folder: Path, scale: int) -> list[str]:
    sentences = []
    for events in (1_000_000 // scale, 10_000_000 // scale):
        with tempfile.TemporaryDirectory(dir=folder) as path:
            home = _made(Path(path))
            seal_segments(home, events)
            done = in_new_process(rebuild, home)
            count, sized = done["result"], sizes(home)
        sentences.append(
            f"Rebuild of {count:,} events from segments ({sized['segments']}): {done['s']:,.1f} s,"
            f" {count / done['s']:,.0f} events/s; {done['cpu_s']:,.1f} s CPU, {done['peak_mb']:,.0f} MB at its peak;"
            f" history.duckdb {sized['history.duckdb'].removeprefix('1 of ')}."
        )
        print(sentences[-1], file=sys.stderr)
    return sentences


def _made(path: Path) -> Home:
    home = Home(path / "home")
    home.make()
    return home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--step", nargs=2, metavar=("STEP", "HOME"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step, path = given.step
        print(json.dumps(STEPS[step](Home(path)) | {"peak_mb": _peak_mb()}))
        return
    scale = 30 if given.quick else 1
    columns: dict[str, Figures] = {}
    sentences: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in (ended, years, folding):
            if part.__name__ in given.only:
                with tempfile.TemporaryDirectory(dir=folder) as path:
                    more, said = part(_made(Path(path)), scale)
                columns |= more
                sentences.append(said)
        if "rebuild" in given.only:
            sentences += rebuilds(Path(folder), scale)
    names = list(next(iter(columns.values()), {}))
    publish(
        "history",
        "Large and old homes",
        ("a home with", *columns),
        [(name, *(figures[name] for figures in columns.values())) for name in names],
        "\n\n".join(sentences)
        + f"\n\nWarm: median of {ROUNDS}, and the mean of the CPU time, which DuckDB spends on two threads. Load"
        f" average at the end {os.getloadavg()[0]:.1f}; above {os.cpu_count()} the times are those of a busy"
        " machine, the CPU times less so.",
    )


if __name__ == "__main__":
    main()
