"""The sample folders, and what people do to them in five days. Same seed, same files."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from backup_ops.demo import content

DAYS = 5
_ALBUMS = ("2024-07 Lisbon", "2024-12 Snow", "2025-05 Garden", "2025-08 Coast", "2026-02 Carnival", "2026-06 Wedding")
_CABINETS = ("contracts", "house", "insurance", "letters", "minutes")


@dataclass(frozen=True)
class DayStory:
    """What happened to the files on one simulated day."""

    number: int
    date: datetime
    added: int
    edited: int
    renamed: int
    deleted: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        changes = [
            f"{count} {name}"
            for name in ("added", "edited", "renamed", "deleted")
            if (count := int(getattr(self, name)))
        ]
        return f"day {self.number} of {DAYS}, {self.date:%a %d %b}: files {', '.join(changes)}"


class SampleFiles:
    """The folders below `root`. `begin` writes the first day, `advance` the next one.

    A file's time is a moment of its simulated day; `today` is the last of them.
    """

    def __init__(self, root: Path, *, seed: int, today: datetime) -> None:
        self.root = root
        self.random = Random(seed)
        self.today = today.replace(hour=0, minute=0, second=0, microsecond=0)
        self.number = 0
        self._counts: Counter[str] = Counter()
        self._notes: list[str] = []

    def date(self, number: int) -> datetime:
        return self.today - timedelta(days=DAYS - number)

    @property
    def day(self) -> datetime:
        """The day it is."""
        return self.date(self.number)

    def begin(self) -> DayStory:
        """Everything that was there before the first backup."""
        self.number = 1
        for number, album in enumerate(reversed(_ALBUMS)):
            month = self.today.replace(year=int(album[:4]), month=int(album[5:7]), day=1)
            for picture in range(20):
                at = self._moment(month + timedelta(days=picture))
                self._put(f"photos/{album}/IMG_{1000 + number * 100 + picture}.png", content.picture(self.random), at)
        for cabinet in _CABINETS:
            for letter in range(24):
                at = self._moment(self.date(1) - timedelta(days=self.random.randint(1, 700)))
                self._put(
                    f"documents/{cabinet}/{at:%Y-%m-%d} no {letter + 1:03}.txt", content.letter(self.random, at), at
                )
        for months_ago in range(24):
            at = self._moment(self.date(1) - timedelta(days=30 * months_ago))
            rows = content.ledger(self.random, at, self.random.randint(150, 500))
            self._put(f"accounts/ledger-{at:%Y-%m}-{months_ago:02}.csv", rows, at)
        for number in range(40):
            at = self._moment(self.date(1) - timedelta(days=5 * number))
            self._put(f"accounts/invoices/{at:%Y}/invoice-{2040 - number}.txt", content.letter(self.random, at), at)
        self._trade(600)
        self._website()
        for number in range(150):
            self._mail(self.date(1) - timedelta(hours=5 * number))
        for number in range(90):
            at = self._moment(self.date(1) - timedelta(days=number))
            folder = ("plans", "drafts", "pictures")[number % 3]
            data = content.picture(self.random, 60, 40) if folder == "pictures" else content.letter(self.random, at)
            suffix = "png" if folder == "pictures" else "txt"
            self._put(f"team/{folder}/{number:03}.{suffix}", data, at)
        for number in range(24):
            at = self._moment(self.date(1) - timedelta(days=9 * number))
            self._put(f"scans/scan-{number:03}.pdf", b"%PDF-1.4\n" + self.random.randbytes(40_000), at)
        for number in range(30):
            at = self._moment(self.date(1) - timedelta(hours=number))
            self._put(f"camera-card/DCIM/100CAM/CAM_{number:04}.png", content.picture(self.random), at)
        for number in range(3):
            self._film(f"birthday part {number + 1}.mkv", 600_000)
        for number in range(1, 7):
            at = self._moment(self.date(1) - timedelta(days=7 * number))
            self._put(f"web-logs/access.log.{number}.gz", b"\x1f\x8b" + self.random.randbytes(70_000), at)
        self._log_lines(9_000)
        for number in range(40):
            at = self._moment(self.date(1) - timedelta(days=number))
            self._put(f"research/series-{number:02}.csv", content.ledger(self.random, at, 200), at)
        return self._story()

    def advance(self) -> DayStory:
        """One day later. From the third day on things happen that backups have to cope with."""
        self.number += 1
        for path in self._some("photos/**/*.png", 6):
            self._edit(path, content.picture(self.random))
        for _ in range(5):
            self._put(
                f"photos/{self.day:%Y-%m} New/IMG_{self.random.randint(3000, 9999)}.png",
                content.picture(self.random),
            )
        for path in self._some("documents/**/*.txt", 8):
            self._edit(path, path.read_bytes() + content.letter(self.random, self.day))
        for path in self._some("documents/**/*.txt", 4):
            self._rename(path, path.with_name(f"{path.stem} (signed).txt"))
        for path in self._some("documents/minutes/*.txt", 2):
            self._delete(path)
        for path in self._some("accounts/*.csv", 2):
            self._edit(path, path.read_bytes() + content.ledger(self.random, self.day, 20).partition(b"\n")[2])
        self._trade(80)
        for path in self._some("website/src/*.*", 7):
            self._edit(path, content.code(self.random, path.name))
        for _ in range(9):
            self._mail(self.day)
        for path in self._some("mail/new/*", 6):
            self._rename(path, path.parents[1] / "cur" / f"{path.name}:2,S")
        for path in self._some("team/drafts/*.txt", 5):
            self._edit(path, content.letter(self.random, self.day))
        self._log_lines(400)
        for path in self._some("research/*.csv", 5):
            self._edit(path, content.ledger(self.random, self.day, 220))
        {2: self._second_day, 3: self._third_day, 4: self._fourth_day, 5: self._fifth_day}[self.number]()
        return self._story()

    def _second_day(self) -> None:
        album = self.root / "photos" / _ALBUMS[0]
        self._rename(album, album.with_name(f"{_ALBUMS[0]} and Sintra"))
        self._notes.append("an album of photos was renamed")

    def _third_day(self) -> None:
        for path in sorted(self.root.glob("scans/*.pdf"))[:3]:
            path.chmod(0)
        self._notes.append("3 scans were made unreadable")
        # What was a file is a folder now: a tree that only copies would stumble over it.
        plan = min(self.root.glob("team/plans/*.txt"))
        self._delete(plan)
        self._put(f"team/plans/{plan.name}/page 1.txt", content.letter(self.random, self.date(3)))
        self._film("holiday.mkv", 900_000)

    def _fourth_day(self) -> None:
        shutil.rmtree(self.root / "camera-card")
        self._notes.append("the camera card was pulled out")
        self._film("wedding, uncut.mkv", 9_000_000)
        self._notes.append("a film larger than the room left on the stick was added")

    def _fifth_day(self) -> None:
        gone = sorted(path for path in self.root.glob("team/**/*") if path.is_file())[:70]
        for path in gone:
            self._delete(path)
        self._notes.append(f"somebody deleted {len(gone)} of the team's files")

    def _trade(self, orders: int) -> None:
        database = self.root / "shop" / "shop.sqlite"
        known = database.exists()
        database.parent.mkdir(parents=True, exist_ok=True)
        content.add_orders(database, self.random, self.day, orders)
        self._stamp(database, self._moment())
        self._counts["edited" if known else "added"] += 1
        self._put(
            f"shop/exports/orders-{self.day:%Y-%m-%d}.csv",
            content.ledger(self.random, self.day, orders),
        )

    def _website(self) -> None:
        for number in range(48):
            name = f"{('page', 'part', 'style', 'task')[number % 4]}{number}.{('html', 'js', 'css', 'py')[number % 4]}"
            at = self._moment(self.date(1) - timedelta(days=3 * number))
            self._put(f"website/src/{name}", content.code(self.random, name), at)
        for number in range(30):
            self._put(f"website/build/chunk-{number}.js", self.random.randbytes(9_000))
        deploy = self._put("website/bin/deploy", b"#!/bin/sh\nexec rsync -a src/ web@example.org:/srv/www/\n")
        deploy.chmod(0o755)
        (self.root / "website/current").symlink_to("src")
        (self.root / "website/bin/publish").hardlink_to(deploy)
        (self.root / "website/uploads").mkdir()

    def _mail(self, day: datetime) -> None:
        at = self._moment(day)
        folder = "new" if self.random.random() < 0.3 else "cur"
        name = f"{int(at.timestamp())}.{self.random.getrandbits(32):08x}.example.org"
        self._put(f"mail/{folder}/{name}", content.mail(self.random, at), at)

    def _film(self, name: str, size_bytes: int) -> None:
        self._put(f"films/{name}", self.random.randbytes(size_bytes))

    def _log_lines(self, count: int) -> None:
        at = self.day
        lines = (
            f"192.0.2.{self.random.randint(1, 254)} - - [{at:%d/%b/%Y}:{i % 24:02}:{i % 60:02}:00 +0000] "
            f'"GET /page{self.random.randint(1, 48)}.html HTTP/1.1" 200 {self.random.randint(400, 90_000)}\n'
            for i in range(count)
        )
        path = self.root / "web-logs" / "access.log"
        old = path.read_bytes() if path.exists() else b""
        self._put("web-logs/access.log", old + "".join(lines).encode())

    def _moment(self, day: datetime | None = None) -> datetime:
        day = day or self.day
        return day.replace(hour=self.random.randint(7, 21), minute=self.random.randint(0, 59)) + timedelta(
            microseconds=self.random.randint(0, 59_999_999)
        )

    def _put(self, name: str, data: bytes, at: datetime | None = None) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._counts["edited" if path.exists() else "added"] += 1
        path.write_bytes(data)
        self._stamp(path, at or self._moment())
        return path

    def _edit(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self._stamp(path, self._moment())
        self._counts["edited"] += 1

    def _rename(self, path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._counts["renamed"] += sum(1 for _ in _files(path))
        path.rename(target)

    def _delete(self, path: Path) -> None:
        path.unlink()
        self._counts["deleted"] += 1

    def _some(self, pattern: str, count: int) -> list[Path]:
        found = sorted(path for path in self.root.glob(pattern) if path.is_file() and not path.is_symlink())
        return sorted(self.random.sample(found, min(count, len(found))))

    def _stamp(self, path: Path, at: datetime) -> None:
        nanoseconds = int(at.timestamp() * 1_000_000) * 1_000 + self.random.randint(0, 999)
        os.utime(path, ns=(nanoseconds, nanoseconds))

    def _story(self) -> DayStory:
        story = DayStory(
            number=self.number,
            date=self.day,
            added=self._counts["added"],
            edited=self._counts["edited"],
            renamed=self._counts["renamed"],
            deleted=self._counts["deleted"],
            notes=tuple(self._notes),
        )
        self._counts.clear()
        self._notes.clear()
        return story


def _files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else (inner for inner in path.rglob("*") if inner.is_file())


def counted(root: Path, measure: Callable[[Path], int] = lambda _: 1) -> int:
    """How many files lie below `root`; with `measure`, the sum of it."""
    return sum(measure(path) for path in root.rglob("*") if path.is_file() and not path.is_symlink())
