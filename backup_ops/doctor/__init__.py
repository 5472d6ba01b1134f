"""The doctor: looks at everything a home stands on and says what it found. It repairs nothing and writes nothing.

It is for the day when nothing else works: a home that every other command refuses is looked at all the same.
"""

from __future__ import annotations

from backup_ops.doctor.examination import examine

__all__ = ["examine"]
