"""One sentence for each fault, word by word: what it says, of which thing, with which value, and what to do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from texts import HEAD, PHOTOS

from backup_ops import jobfile
from backup_ops.errors import ConfigInvalid


def test_all_problems_come_at_once_in_the_order_of_the_lines(problems):
    assert problems(
        "version: 1\n"
        "setings: {}\n"
        "repositories:\n"
        "  mirror: {url: /mnt/mirror, engin: rclone}\n"
        "jobs:\n"
        "  photos:\n"
        "    sorce: /srv/photos\n"
        "    repository: miror\n"
        "    limits: {timout: 2h, priority: 12, bandwidth: fast}\n"
        "  films:\n"
        "    source: films\n"
        "    repository: mirror\n"
    ) == [
        "jobs.yaml:2: the file has no setting 'setings'. Did you mean 'settings'?",
        "jobs.yaml:4: repository 'mirror' has no setting 'engin'. Did you mean 'engine'?",
        "jobs.yaml:7: job 'photos' has no setting 'sorce'. Did you mean 'source'?",
        "jobs.yaml:8: job 'photos' has the repository 'miror', which is not in the file. Did you mean 'mirror'?",
        "jobs.yaml:9: job 'photos': limits has no setting 'timout'. Did you mean 'timeout'?",
        "jobs.yaml:9: job 'photos': limits.bandwidth must be a size, not 'fast'. Write it like 500K, 20M, 5G.",
        "jobs.yaml:9: job 'photos': limits.priority must be at most 9, not 12.",
        (
            "jobs.yaml:11: job 'films': source 'films' is a relative path, and a run starts in no folder of yours. "
            f"Write the whole path, such as {os.path.expanduser('~')}/films."
        ),
    ]


def faults() -> Iterator[tuple[str, list[str]]]:
    """Text and what is said of it, of each block of faults.txt."""
    before = {"@jobs": HEAD, "@photos": HEAD + PHOTOS, "@file": ""}
    blocks = (Path(__file__).parent / "faults.txt").read_text(encoding="utf-8").split("\n\n")
    for block in blocks[1:]:
        lines = block.strip("\n").split("\n")
        text = "".join(f"{line}\n" for line in lines[1:] if not line.startswith("=> "))
        yield before[lines[0]] + text, [f"jobs.yaml:{line[3:]}" for line in lines if line.startswith("=> ")]


@pytest.mark.parametrize(("text", "said"), list(faults()), ids=[" ".join(said)[:80] for _, said in faults()])
def test_a_fault_is_told_in_these_words(problems, text, said):
    assert said
    assert problems(text) == said


def test_a_name_in_two_spellings_is_one_name(problems):
    (said,) = problems(
        HEAD + "  b\u00fc: {source: /a, repository: mirror}\n  bu\u0308: {source: /a, repository: mirror}\n"
    )
    assert said == "jobs.yaml:6: job 'b\u00fc' is in the file twice, here and in line 5. Rename one."


@pytest.mark.parametrize("url", ["mirror", "./mirror", "../mirror", ".x:y", "local:./x"])
def test_a_relative_repository_is_refused_with_what_to_write(problems, url):
    (said,) = problems(f"version: 1\nrepositories: {{m: {{url: '{url}'}}}}")
    assert "is a relative path" in said
    assert f"such as {os.path.expanduser('~')}/" in said


@pytest.mark.parametrize(
    "setting",
    [
        *("password: hunter2", "password: [hunter2]", "password: {hunter2}", "password: {plain: hunter2}"),
        *("password: {env: hunter-2}", "password: {keyring: hunter2}", "password: {env: A, hunter2: B}"),
        *("url: 'sftp://me:hunter2@nas/x'", "url: ':sftp,user=me,pass=hunter2:x'"),
    ],
)
def test_a_password_written_in_the_file_is_refused_and_never_shown(problems, setting):
    text = "version: 1\nrepositories:\n  m:\n    " + setting + ("\n    url: /x" if setting.startswith("pass") else "")
    said = problems(text)
    assert [line.partition(": ")[0] for line in said] == ["jobs.yaml:4"]
    assert "hunter" not in str(said)


def test_a_misspelled_setting_is_not_called_missing_too(problems):
    assert problems("version: 1\nrepositories: {m: {ulr: /x}}\njobs: {p: {source: /a, repositry: m}}") == [
        "jobs.yaml:2: repository 'm' has no setting 'ulr'. Did you mean 'url'?",
        "jobs.yaml:3: job 'p' has no setting 'repositry'. Did you mean 'repository'?",
    ]
    assert problems(HEAD + PHOTOS + "    schedule: {corn: '0 2 * * *'}\n    retention: {dayly: 3}\n") == [
        "jobs.yaml:8: job 'photos': schedule has no setting 'corn'. Did you mean 'cron'?",
        "jobs.yaml:9: job 'photos': retention has no setting 'dayly'. Did you mean 'daily'?",
    ]


def test_a_repository_with_a_fault_is_still_known_to_the_jobs(problems):
    assert problems("version: 1\nrepositories: {m: 3}\njobs: {p: {source: /a, repository: m}}") == [
        "jobs.yaml:2: repository 'm' must hold settings, and holds '3'. Settings: engine, url, password."
    ]


def test_a_thousand_jobs_with_one_misspelled_repository_are_told_quickly(problems):
    repositories = "".join(f"  repository-{number}: {{url: /mnt/{number}}}\n" for number in range(300))
    jobs = "".join(f"  job-{number}: {{source: /a, repository: repositry-7}}\n" for number in range(1000))
    said = problems(f"version: 1\nrepositories:\n{repositories}jobs:\n{jobs}")
    assert len(said) == 1000
    assert all(line.endswith("Did you mean 'repository-7'?") for line in said)


def test_a_problem_is_one_line_however_the_value_looks(problems):
    said = problems(HEAD + '  p: {source: "a\\nb\\e[31m' + "x" * 500 + '", repository: mirror}\n')
    assert len(said) == 1
    assert "'a\\nb\\x1b[31mxxx" in said[0]
    assert len(said[0]) < 300


def test_a_value_out_of_bounds_is_shown_on_one_line_too(problems):
    (said,) = problems(HEAD + PHOTOS + '    limits: {timeout: "0\\n s"}\n')
    assert said == r"jobs.yaml:8: job 'photos': limits.timeout must be more than 0 s, not '0\n s'."


def test_the_problems_carry_file_line_message_and_hint(tmp_path):
    with pytest.raises(ConfigInvalid) as caught:
        jobfile.parse(b"version: 1\njobs: {p: {sorce: /a}}", tmp_path / "other.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("other.yaml", 2)
    assert (problem.message, problem.hint) == ("job 'p' has no setting 'sorce'.", "Did you mean 'source'?")
