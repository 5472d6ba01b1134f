"""One line for each thing that was done: what a run did, what a restore did, what a dry run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup_ops.cli.cells import counted, sentence
from backup_ops.quantity import format_bytes, format_duration
from backup_ops.run import Run
from backup_ops.snapshot import Restored

if TYPE_CHECKING:
    from backup_ops.engines.base import Preview


def of_run(run: Run) -> str:
    """`photos: saved 2.2 GiB (14 new, 3 changed, 1 deleted) in 24 s, snapshot 20261124T095501-3f9a2c.`"""
    took = "" if run.duration_s is None else f" in {format_duration(run.duration_s)}"
    after = "" if run.duration_s is None else f" after {format_duration(run.duration_s)}"
    if run.outcome in ("succeeded", "warning"):
        said = f"{_saved(run)}{took}, snapshot {run.snapshot_id}."
        if run.outcome == "warning":
            said += f" Not all of it: {sentence(run.reason or 'something was left out')}{_remedy(run)}"
        elif run.reason:
            said += f" {sentence(run.reason).capitalize()}"
    elif run.outcome == "skipped":
        said = f"skipped: {sentence(run.reason or 'no reason was given')}"
    elif run.outcome == "cancelled":
        who = run.reason or ""
        said = sentence(f"{who if who.startswith('cancelled') else f'cancelled: {who}' if who else 'cancelled'}{after}")
    else:
        message = run.errors[0].message if run.errors and run.outcome == "failed" else run.reason
        said = f"{run.outcome}{after}: {sentence(message or 'no reason was given')}{_remedy(run)}"
    return f"{run.job}: {' '.join(said.split())}"


def _saved(run: Run) -> str:
    changes = [
        f"{count:,} {word}"
        for count, word in ((run.files_new, "new"), (run.files_changed, "changed"), (run.files_deleted, "deleted"))
        if count
    ]
    if not changes and not run.bytes_added:
        return f"saved, nothing had changed ({counted(run.files_total, 'file')}, {format_bytes(run.bytes_total)})"
    return f"saved {format_bytes(run.bytes_added)} ({', '.join(changes) or 'nothing new'})"


def _remedy(run: Run) -> str:
    """What to do about its first error that knows it."""
    remedy = next((error.remedy for error in run.errors if error.remedy), "")
    return f" What to do: {sentence(remedy)}" if remedy else ""


def of_preview(job: str, preview: Preview) -> str:
    changes = f"{preview.files_new:,} new, {preview.files_changed:,} changed, {preview.files_deleted:,} deleted"
    return (
        f"{job}: a run would save {format_bytes(preview.bytes_added)} ({changes}); the source holds "
        f"{counted(preview.files_total, 'file')}, {format_bytes(preview.bytes_total)}. Nothing was written."
    )


def of_restore(job: str, restored: Restored) -> str:
    verb = "would restore" if restored.dry_run else "restored"
    things = [counted(restored.files, "file"), counted(restored.folders, "folder"), counted(restored.links, "link")]
    there = [thing for thing in things if not thing.startswith("0 ")] or ["nothing"]
    took = "" if restored.dry_run else f" in {format_duration(restored.duration_s)}"
    return (
        f"{job}: {verb} {', '.join(there)} ({format_bytes(restored.bytes)}) of snapshot {restored.snapshot_id} "
        f"to {restored.target}{took}.{' Nothing was written.' if restored.dry_run else ''}"
    )
