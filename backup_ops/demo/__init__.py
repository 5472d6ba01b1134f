"""A home to play with: sample files, jobs, and real runs, some of which fail for real. `backup-ops demo` makes it."""

from __future__ import annotations

from backup_ops.demo.build import PHOTO, Demo, build, default_home

__all__ = ["PHOTO", "Demo", "build", "default_home"]
