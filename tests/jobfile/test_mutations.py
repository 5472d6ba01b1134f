"""No text makes `load` do anything but return a JobFile or raise ConfigInvalid with sentences.

`BACKUP_OPS_SCALE` multiplies the counts; a failure names the seed that gives the same text again.
"""

import copy
import json
import os
import random
import time

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from texts import EVERYTHING

from backup_ops import jobfile
from backup_ops.errors import ConfigInvalid
from backup_ops.job import job_as_data, job_from_data

SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))
VALIDATOR = jsonschema.Draft202012Validator(jobfile.json_schema())
GOOD = EVERYTHING.encode()
SIGNS = [
    "\t",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a ",
    "!x ",
    "|",
    ">",
    "'",
    '"',
    "#",
    "%",
    "@",
    "`",
    "---\n",
    "...\n",
    "? ",
]
SIGNS += ["<<: ", "~", "\n", "  ", "\0", "\x85", "\ufeff", "\u2028", "é", "😀", "\\", "!!int ", "!!binary ", "9" * 5000]
VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    " ",
    "x",
    "/",
    "~",
    "..",
    "/a",
]
VALUES += [
    "é",
    "\0",
    "\ud800",
    "\n",
    "-5s",
    "9" * 300,
    "5 T",
    "1d",
    "2024-01-01",
    [],
    [[]],
    [None],
    ["x"],
    ["/a", "/a"],
    [[["x"]]],
]
VALUES += [
    {},
    {"": ""},
    {"env": None},
    {"env": "X"},
    {"cron": "* * * * *"},
    {"every": "1d"},
    "0 2 * * *",
    "mirror",
    "HIGH",
    "9" * 100_000,
]


def check(data: bytes) -> bool:
    """True when the text loads; raises AssertionError when it does neither that nor give sentences."""
    file, problems = None, ()
    started = time.monotonic()
    try:
        file = jobfile.parse(data)
    except ConfigInvalid as error:
        problems = error.problems
    assert time.monotonic() - started < 20
    for problem in problems:
        line = str(problem)
        assert line.startswith("jobs.yaml")
        assert len(line.splitlines()) == 1
        assert problem.line <= sum(data.count(sign) for sign in (b"\n", b"\r", b"\xc2\x85", b"\xe2\x80")) + 1
        assert line.encode()  # it can be printed
    if file is None:
        assert problems
        return False
    for job in file.jobs.values():
        written = json.loads(json.dumps(job_as_data(job, file.repositories.get(job.repository or ""))))
        assert job_as_data(*job_from_data(written)) == written
        assert json.dumps(written, ensure_ascii=False).encode()
    for notice in file.notices:
        assert notice.line > 0
    return True


def cut(text: bytes, chance: random.Random) -> bytes:
    return text[: chance.randrange(len(text))]


def flip(text: bytes, chance: random.Random) -> bytes:
    changed = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def insert(text: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(text))
        text = text[:place] + chance.choice(SIGNS).encode() + text[place:]
    return text


def move_lines(text: bytes, chance: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    for _ in range(chance.randint(1, 3)):
        line = lines.pop(chance.randrange(len(lines)))
        if chance.random() < 0.7:
            lines.insert(chance.randrange(len(lines)), chance.choice([b"", b" ", b"  "]) + line)
        if chance.random() < 0.3:
            lines.insert(chance.randrange(len(lines)), line)
    return b"".join(lines)


@pytest.mark.parametrize("mutate", [cut, flip, insert, move_lines])
def test_a_damaged_file_is_told_in_sentences(mutate):
    outcomes = set()
    for seed in range(300 * SCALE):
        data = mutate(GOOD, random.Random(seed))
        try:
            outcomes.add(check(data))
        except BaseException as error:
            raise AssertionError(f"{mutate.__name__}, seed {seed}: {data!r}") from error
    assert outcomes == {True, False}  # else the damage is too small or too big to find anything


def places(document, path=()):
    for key, value in list(document.items() if isinstance(document, dict) else enumerate(document)):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def read(data):
    return YAML(typ="safe", pure=True).load(data)


def swapped(document, chance):
    document = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        *above, last = chance.choice(list(places(document)))
        place = document
        for key in above:
            place = place[key]
        what = chance.random()
        if what < 0.8:
            place[last] = copy.deepcopy(chance.choice(VALUES))
        elif what < 0.9 and isinstance(place, dict):
            place[str(chance.choice(VALUES))[:200]] = place.pop(last)
        else:
            del place[last]
        if not document:
            break
    return document


def test_a_value_of_another_kind_is_told_in_sentences_and_what_loads_is_good_by_the_schema():
    good = read(GOOD)
    loaded = 0
    for seed in range(600 * SCALE):
        document = swapped(good, random.Random(seed))
        data = json.dumps(document).encode()
        try:
            if check(data):
                loaded += 1
                assert not [error.message for error in VALIDATOR.iter_errors(read(data))]
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {data[:2000]!r}") from error
    assert loaded > 10 * SCALE


@settings(max_examples=150 * SCALE, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_told_in_sentences(data):
    check(data)


@settings(max_examples=150 * SCALE, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`,?~ \n\t\\01.<="), max_size=120))
def test_any_text_of_signs_is_told_in_sentences(text):
    check(b"version: 1\njobs:\n" + text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nsettings: {logs: {cap: " + "9" * 100_000 + "}}",
        "version: 1\njobs: {p: {limits: {timeout: '" + "9" * 200_000 + "'}}}",
        "version: 1\nsettings: {logs: {cap: '" + "9" * 100_000 + "P'}}",
        "version: " + "1" * 10_000,
        "version: 1\n" + "x" * 1_000_000 + ": 1",
        "version: 1\njobs: {" + "a" * 100_000 + ": {}}",
        "version: 1\njobs:\n" + "".join(f"  j{number}: {{sorce: x}}\n" for number in range(500)),
        "version: 1\njobs: {a: {source: " + "[" * 200 + "]" * 200 + "}}",
        "version: 1\nnotify: &a [*a, *a]",
        "version: 1\njobs: &a {b: &b {source: *a, limits: *b}}",
        "a: &a [x,x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(20)),
        "version: 1\njobs: {p: {source: '" + "/a" * 50_000 + "', repository: m}}",
        "version: 1\njobs: {p: {schedule: {cron: '" + "1," * 50_000 + " * * * *'}}}",
        "version: 1\njobs: {p: {schedule: {cron: '* * * * *', timezone: '" + "A/" * 5000 + "'}}}",
        "%YAML 1.1\n---\nversion: 1\njobs: {on: {heartbeat: yes}}",
        "%YAML 9.9\n---\nversion: 1\n",
        "version: 1\rjobs: {}\r",
    ],
    ids=lambda text: text[:40],
)
def test_monsters_are_told_in_sentences_and_in_time(text):
    check(text.encode())
