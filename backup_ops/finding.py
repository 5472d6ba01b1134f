"""A finding: one thing that was looked at, and whether it is as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """`subject` is a word or two (`disk`, `jobs.yaml`), `sentence` what was found, `hint` what to do about it.

    A warning is about what may go wrong later, a problem about what does not work now.
    """

    subject: str
    state: State
    sentence: str
    hint: str = ""
