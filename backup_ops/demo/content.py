"""What is in the sample files: pictures, letters, ledgers, mails, a shop's database. Same seed, same bytes."""

from __future__ import annotations

import math
import sqlite3
import struct
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

_WORDS = (
    "the harbour budget window agreed delivery Monday garden invoice copy signed meeting corrected second draft "
    "proposal quarter roof repair answer small figures northern team letter please attached before after because "
    "light winter bridge paper water opened closed almost never always measured again table river colour bread morning "
    "train early"
).split()
_PEOPLE = ("Ada Holm", "Jonas Weber", "Mira Okafor", "Lucía Prado", "Tomás Řezník", "Yuki Tanaka", "Élodie Marchand")
_PRODUCTS = ("teapot", "lamp", "notebook", "wool blanket", "map of the coast", "oak stool", "enamel mug")


def picture(random: Random, width: int = 176, height: int = 132) -> bytes:
    """A PNG of hills under a sky, with grain as film has it, so that it does not compress: about 60 KiB."""
    sky, hill = [[random.randrange(40, 216) for _ in range(3)] for _ in range(2)]
    phase, slope = random.uniform(0, 6), random.uniform(0.01, 0.05)
    horizon = [int(height * (0.55 + 0.2 * math.sin(phase + x * slope))) for x in range(width)]
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        grain = random.randbytes(width * 3)
        for x in range(width):
            base = sky if y < horizon[x] else hill
            shade = y // 3
            for channel in range(3):
                rows.append((base[channel] + shade + grain[x * 3 + channel] % 40) % 256)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 1)), (b"IEND", b""))
    )


def letter(random: Random, day: datetime) -> bytes:
    """A text of a few hundred words."""
    paragraphs = []
    for _ in range(random.randint(3, 9)):
        sentences = []
        for _ in range(random.randint(3, 7)):
            words = random.choices(_WORDS, k=random.randint(6, 14))
            sentences.append(" ".join(words).capitalize() + ".")
        paragraphs.append(" ".join(sentences))
    head = f"{day:%d %B %Y}\n\nDear {random.choice(_PEOPLE)},\n\n"
    return (head + "\n\n".join(paragraphs) + f"\n\nWith regards,\n{random.choice(_PEOPLE)}\n").encode()


def ledger(random: Random, day: datetime, rows: int) -> bytes:
    """A CSV of bookings, one a row."""
    lines = ["date,account,text,amount"]
    for row in range(rows):
        date = day - timedelta(days=(rows - row) % 28)
        amount = f"{random.randint(-90_000, 120_000) / 100:.2f}"
        lines.append(f"{date:%Y-%m-%d},{random.randint(1000, 8999)},{random.choice(_PRODUCTS)},{amount}")
    return ("\n".join(lines) + "\n").encode()


def mail(random: Random, day: datetime) -> bytes:
    """A message as a mail server stores it; every fifth or so with something attached."""
    sender, receiver = random.sample(_PEOPLE, 2)
    body = letter(random, day).decode()
    if random.random() < 0.2:
        body += "\n-- attachment.bin\n" + random.randbytes(random.randint(4_000, 24_000)).hex() + "\n"
    return (
        f"From: {sender} <{sender.split()[0].lower()}@example.org>\n"
        f"To: {receiver} <{receiver.split()[0].lower()}@example.org>\n"
        f"Date: {day:%a, %d %b %Y %H:%M:%S} +0000\nSubject: {' '.join(random.choices(_WORDS, k=4))}\n"
        f"Message-ID: <{random.getrandbits(64):016x}@example.org>\n\n{body}"
    ).encode()


def code(random: Random, name: str) -> bytes:
    """A small program that does nothing much, in the comment style of its kind."""
    mark = {"css": "/*", "html": "<!--", "js": "//", "py": "#"}[name.rsplit(".", 1)[1]]
    end = {"/*": " */", "<!--": " -->"}.get(mark, "")
    lines = [f"{mark} {name}: {' '.join(random.choices(_WORDS, k=6))}{end}"]
    for _ in range(random.randint(20, 120)):
        first, second = random.choices(_WORDS, k=2)
        lines.append(
            {
                "css": f".{first} {{ margin: {random.randint(0, 40)}px; }}",
                "html": f"<p class='{first}'>{second}</p>",
                "js": f"export const {first}{random.randint(1, 99)} = '{second}'",
                "py": f"{first}_{random.randint(1, 99)} = {second!r}",
            }[name.rsplit(".", 1)[1]]
        )
    return ("\n".join(lines) + "\n").encode()


def add_orders(database: Path, random: Random, day: datetime, count: int) -> None:
    """A day of trade in the shop's SQLite database; made when it is not there."""
    connection = sqlite3.connect(database)
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS customers (id INTEGER PRIMARY KEY, name TEXT, since TEXT)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS orders"
            " (id INTEGER PRIMARY KEY, customer INTEGER, product TEXT, pieces INTEGER, at TEXT)"
        )
        connection.executemany(
            "INSERT INTO customers (name, since) VALUES (?, ?)",
            [(f"{random.choice(_PEOPLE)} {random.randint(1, 999)}", f"{day:%Y-%m-%d}") for _ in range(count // 4)],
        )
        connection.executemany(
            "INSERT INTO orders (customer, product, pieces, at) VALUES (?, ?, ?, ?)",
            [
                (
                    random.randint(1, 500),
                    random.choice(_PRODUCTS),
                    random.randint(1, 5),
                    f"{day:%Y-%m-%d}T{hour:02}:00:00Z",
                )
                for hour in (random.randrange(24) for _ in range(count))
            ],
        )
        connection.commit()
    finally:
        connection.close()
