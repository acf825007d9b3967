"""What a run tells Lark: that it began, how it ended, and when its keys or its server give out.

Counts, names and reasons go out; rows and replies never do.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gptflow.engine.duration import duration
from gptflow.engine.events import (
    ConfigBroken,
    KeyExhausted,
    KeyRetired,
    KeysBack,
    KeysSpent,
    OutageBegan,
    OutageEnded,
)
from gptflow.errors import GptflowError, UsageError
from gptflow.notify.lark import LarkBot
from gptflow.notify.message import Color
from gptflow.notify.messenger import Messenger
from gptflow.notify.quote import quoted
from gptflow.pipeline.texts import shown_path
from gptflow.records import FailureKind
from gptflow.runner.begin import Beginning
from gptflow.runner.events import RunEvent
from gptflow.runner.forecast import Forecast
from gptflow.runner.news import news
from gptflow.runner.prepare import Prepared
from gptflow.runner.summary import Ending, RunSummary
from gptflow.runner.tally import Tally
from gptflow.runner.words import counted, money, token_count
from gptflow.spec.model import Spec
from gptflow.spec.notify import LarkSpec, Occasion

MOST_REASON = 1_000
"""Characters of a reason."""

_KINDS = {
    FailureKind.REJECTED: "rejected by the server",
    FailureKind.REFUSED: "refused",
    FailureKind.INVALID: "reply not valid",
    FailureKind.EMPTY: "empty reply",
    FailureKind.SERVER: "server error",
    FailureKind.TIMEOUT: "timeout",
    FailureKind.TRANSPORT: "no connection",
    FailureKind.TEMPLATE: "prompt cannot be rendered",
    FailureKind.HOOK: "your own Python failed",
    FailureKind.WORKER: "its workers died",
    FailureKind.BUG: "bug in gptflow",
}
_HEADLINES: dict[type, tuple[str, Color]] = {
    KeyExhausted: ("a key is spent", "orange"),
    KeyRetired: ("a key is out", "orange"),
    KeysSpent: ("waits for a usable key", "red"),
    KeysBack: ("goes on", "green"),
    ConfigBroken: ("the config cannot be used", "orange"),
    OutageBegan: ("no server answers", "red"),
    OutageEnded: ("goes on", "green"),
}
"""The events that are told, each under `exhausted`."""


class Notices:
    """Listens to a run and tells a Lark group, one message for each thing that happened.

    A context: what leaves it as an exception is told as a crash, and on the way out the messages
    get a few seconds to be sent. A run of which nobody is to be told uses it all the same.
    """

    def __init__(
        self, name: str, lark: LarkSpec | None, on_trouble: Callable[[str], None] | None = None
    ) -> None:
        """Build what tells of a run.

        Args:
            name: the run's name, in the title of each message.
            lark: whom to tell of what; None for nobody.
            on_trouble: told, on another thread, why messages do not arrive; without it, that is a
                Python warning.
        """
        self._name = name
        self._occasions: frozenset[Occasion] = frozenset(lark.on if lark else ())
        self._messenger = _messenger(lark, on_trouble) if lark else None
        self._has_begun = False

    @classmethod
    def of(cls, spec: Spec, on_trouble: Callable[[str], None] | None = None) -> Notices:
        """What a spec asks to be told."""
        return cls(spec.name, spec.notify.lark, on_trouble)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._tell("failure", "crashed", _crash(error), "red")
        if self._messenger:
            self._messenger.close()

    def begin(
        self,
        prepared: Prepared,
        beginning: Beginning,
        tally: Tally,
        foreseen: Forecast | None = None,
    ) -> None:
        """Tells what begins: called where a display's `begin` is, before the first call."""
        self._has_begun = True
        if prepared.choice.mock:
            self._name += " (simulated)"
        self._tell("start", "started", _opening(prepared, beginning, tally, foreseen), "blue")

    def hear(self, event: RunEvent) -> None:
        """Tells of keys and servers that give out or come back. Quick, and never raises."""
        headline = _HEADLINES.get(type(event))
        if headline and self._messenger:
            self._tell("exhausted", headline[0], _happening(event), headline[1])

    def end(self, summary: RunSummary) -> None:
        """Tells what came of the run; nothing if there was nothing to do."""
        if not self._has_begun:
            return
        if summary.status is Ending.FINISHED:
            color: Color = "orange" if summary.failed else "green"
            self._tell("finish", "finished", _result(summary), color)
        else:
            self._tell("failure", summary.status.value, _broken_off(summary), "red")

    def _tell(self, occasion: Occasion, what: str, content: str, color: Color) -> None:
        if self._messenger and occasion in self._occasions:
            where = f"on {socket.gethostname()}, process {os.getpid()}"
            title = f"{self._name}: {what}"
            self._messenger.post_card(title, f"{content}\n{where}", color=color)


def _messenger(lark: LarkSpec, on_trouble: Callable[[str], None] | None) -> Messenger:
    """What sends. Raises UsageError for a hook that only looks like one."""
    secret = lark.secret.get_secret_value() if lark.secret else ""
    try:
        bot = LarkBot(lark.hook.get_secret_value(), secret=secret, keyword=lark.keyword)
    except ValueError as error:
        problem, _, hint = str(error).partition("\nHint: ")
        raise UsageError(f"notify.lark.hook: {problem}", hint=hint) from None
    return Messenger(bot, on_trouble=on_trouble)


def _opening(
    prepared: Prepared, beginning: Beginning, tally: Tally, foreseen: Forecast | None
) -> str:
    parts = [counted(tally.rows, "row"), counted(len(prepared.plan.steps), "step")]
    parts += prepared.plan.models
    if prepared.config is not None:
        parts.append(counted(len(prepared.config.keys), "key"))
    lines = [", ".join(parts)]
    if beginning.reused_rows:
        lines.append(f"reuses {counted(beginning.reused_rows, 'row')} of earlier runs")
    elif tally.done + tally.failed:
        lines.append(f"goes on: {counted(tally.done + tally.failed, 'row')} ended before")
    if foreseen:
        lines.append(f"up to {counted(foreseen.most_calls, 'call')} to pay")
    return "\n".join(lines)


def _happening(event: RunEvent) -> str:
    if isinstance(event, KeysSpent):
        waited = f"waiting for {duration(event.waited_s)}" if event.waited_s else ""
        return _reason("\n".join(filter(None, (event.message, event.hint, waited))))
    if isinstance(event, ConfigBroken):
        return f"{_reason(_first_line(event.message))}\nthe keys stay as they were"
    return _reason(news(event) or "")


def _result(summary: RunSummary) -> str:
    lines = [_counts(summary)]
    if summary.failures:
        lines.append(f"failed: {_reasons(summary)}")
    lines.append(f"output: {shown_path(summary.output)}")
    return "\n".join(lines)


def _broken_off(summary: RunSummary) -> str:
    """Why the run ended before its rows did."""
    if summary.message:
        why = _reason(summary.message)
    else:
        why = f"by {signal.Signals(summary.signal or signal.SIGINT).name}"
    lines = [why, _counts(summary)]
    if not summary.next_options:  # otherwise the hint says what else it needs
        lines.append("the same command goes on from there")
    return "\n".join(lines)


def _crash(error: BaseException) -> str:
    """Why there is no result: a person's mistake in its own words, of anything else the name."""
    if isinstance(error, GptflowError):
        return _reason(_first_line(error.message))
    return f"{type(error).__name__}; what is done is stored"


def _counts(summary: RunSummary) -> str:
    parts = [f"done {summary.done:,}", f"failed {summary.failed:,}"]
    if summary.pending:
        parts.append(f"to do {summary.pending:,}")
    parts += [duration(summary.wall_s), counted(summary.calls, "call")]
    if summary.reused_calls:
        parts.append(f"{summary.reused_calls:,} reused")
    parts.append(f"{token_count(summary.prompt_tokens + summary.completion_tokens)} tokens")
    if summary.cost_usd:
        parts.append(money(summary.cost_usd))
    return ", ".join(parts)


def _reasons(summary: RunSummary) -> str:
    """Failed rows by kind: the messages themselves may quote a row."""
    rows: Counter[str] = Counter()
    for group in summary.failures:
        rows[_KINDS[FailureKind(group.kind)]] += group.rows
    return ", ".join(f"{kind} {count:,}" for kind, count in rows.most_common())


def _first_line(message: str) -> str:
    """Where and what. The lines below it may show a piece of the file, and so of a row or a key."""
    return message.partition("\n")[0]


def _reason(text: str) -> str:
    """Why something happened, which may be a server's words."""
    return quoted(text, MOST_REASON)
