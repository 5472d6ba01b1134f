"""The history room: journals folded into history.duckdb, and questions to it."""

from backup_ops.history.history import History

__all__ = ["History"]
