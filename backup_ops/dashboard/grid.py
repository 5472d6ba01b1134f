"""The grid: the Panel component through which one page and this process speak. What it draws is in assets/*.js."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import param
from panel.custom import JSComponent

from backup_ops.dashboard import answers, assets
from backup_ops.dashboard.feed import Feed
from backup_ops.dashboard.operator import Operator
from backup_ops.dashboard.session import Session
from backup_ops.errors import BackupError
from backup_ops.ops import Ops

BEAT_EVERY_MS = 2000
_LONGEST_NAME = 1000

# Questions go to DuckDB and to repositories, deeds sync files: never on the loop that serves all pages.
_workers = ThreadPoolExecutor(max_workers=3, thread_name_prefix="backup-ops-answers")


class JobGrid(JSComponent):
    """Sends states and patches, answers questions, passes deeds on to the operator if this page may operate.

    It has no model properties but where its modules are: a page gets what it shows by messages, so a thousand cards
    are not kept once more in every Bokeh document.
    """

    assets = param.String(doc="URL of the browser modules, relative to the page.")
    _esm = """
    export async function render({model, view}) {
      const {start} = await import(new URL(model.assets + "/main.js", document.baseURI).href)
      start({model, view})
    }
    """

    def __init__(
        self, ops: Ops, feed: Feed, operator: Operator, document: Any, operate: Callable[[], dict[str, Any]], by: str
    ) -> None:
        """`operate` says whether the page may. It is asked for each deed: a right that is taken back ends at once."""
        super().__init__(assets=assets.mount(), width=0, height=0, margin=0)  # type: ignore[no-untyped-call]
        self._ops, self._feed, self._operator, self._document = ops, feed, operator, document
        self._operate, self._by = operate, by
        self.session = Session(feed, self._send_msg, document)

    def start_beat(self) -> None:
        self._document.add_periodic_callback(self._on_beat, BEAT_EVERY_MS)

    def close(self, session_context: Any) -> None:
        """Bokeh calls it when the page is gone; the name of the parameter is Bokeh's."""
        self.session.close()

    def _process_param_change(self, params: dict[str, Any]) -> dict[str, Any]:
        """Without Panel's stylesheets: the component draws nothing, and after a reconnect they came from a CDN."""
        properties: dict[str, Any] = super()._process_param_change(params)  # type: ignore[no-untyped-call]
        properties.pop("stylesheets", None)
        return properties

    def _on_beat(self) -> None:
        _workers.submit(self._feed.look)
        self.session.beat()

    def _handle_msg(self, data: Any) -> None:
        """What comes from a browser may be anything."""
        if not isinstance(data, dict):
            return
        kind, job, run_id = data.get("type"), _name(data.get("job")), _name(data.get("run_id"))
        if kind == "sync":
            self.session.sync(self._operate())
        elif kind in ("run", "cancel") and job is not None:
            operate = self._operate()
            if not operate["allowed"]:
                self._send_msg({"type": "operate", "operate": operate})
                self._send_msg({"type": "told", "job": job, "ok": False, "text": operate["reason"]})
            elif kind == "run":
                self._answer(partial(self._operator.run, job, self._by))
            else:
                self._answer(partial(self._operator.cancel, job, self._by, run_id))
        elif kind == "details" and job is not None:
            self._answer(partial(answers.details, self._ops, job))
        elif kind == "errors":
            self._answer(partial(answers.errors, self._ops, _name(data.get("severity")), job))
        elif kind == "runs":
            self._answer(partial(answers.runs, self._ops, job))
        elif kind == "run_details" and run_id is not None:
            self._answer(partial(answers.run_details, self._ops, run_id))

    def _answer(self, ask: Callable[[], dict[str, Any]]) -> None:
        """Asks on a worker, sends the answer on the session's loop."""

        def work() -> None:
            try:
                answer = ask()
            except BackupError as error:
                answer = {"type": "failed", "text": str(error)}
            except Exception as error:  # a question that is never answered leaves the page waiting
                answer = {"type": "failed", "text": f"This could not be answered: {type(error).__name__}: {error}"}
                self._ops.record_error(error, component="ui")
            if not self.session.is_closed:
                self._document.add_next_tick_callback(partial(self._send_msg, answer))

        _workers.submit(work)


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME else None
