"""The dashboard: one page over a home, under `backup-ops serve` and under `panel serve dashboards/ops.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup_ops.dashboard.page import show
    from backup_ops.dashboard.server import serve

__all__ = ["serve", "show"]


def __getattr__(name: str) -> Any:
    # Panel loads `greeting` out of this room whenever any `panel serve` of this environment starts: it has to be cheap.
    if name == "serve":
        from backup_ops.dashboard.server import serve

        return serve
    if name == "show":
        from backup_ops.dashboard.page import show

        return show
    raise AttributeError(f"module 'backup_ops.dashboard' has no attribute '{name}'")
