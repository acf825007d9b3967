"""The promises that a run keeps under faults, read off the simulator's log and the output."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Line = dict[str, Any]

SLACK_S = 1.0
"""How late a busy machine may be."""
LONGEST_BACKOFFS_S = 60.0
"""Rests of keys, turns in the line and backoffs of one call, all together."""
MOST_REASONS = 12
"""The reasons that are printed."""
ANSWERS = ("Row {number}.", "a\x00b", "a\ufffdb")
"""What a row may be answered: the echo of its prompt, or one of two odd contents."""


@dataclass(frozen=True)
class Mix:
    """What was to happen."""

    calls: int
    attempts: int
    timeout_s: float
    deadly: Mapping[str, str]
    """The failures that take a key away, by the last four characters of the key."""
    uncharged: frozenset[str]
    """The failures that are no attempt of a call."""
    good: frozenset[str]
    """The failures that are an answer all the same."""
    drawn: frozenset[str]
    """The failures that were to be drawn."""
    gone_s: float
    """When the server was gone, counted from the first request."""
    back_s: float
    added: str
    """The last characters of the key that was added while the run worked."""
    removed: str
    """Those of the key that was removed."""
    changed_s: float
    """By when that had happened."""


@dataclass(frozen=True)
class Evidence:
    """What a run has left."""

    exit_code: int
    said: Line
    """What the run printed."""
    log: list[Line]
    """The simulator's lines, in the order of arrival."""
    done: list[Line]
    failed: list[Line]

    @classmethod
    def read(cls, folder: Path, exit_code: int, printed: str) -> Evidence:
        """All that is in the folder of a run."""
        log = sorted(_lines(folder / "log.jsonl"), key=lambda line: int(line["number"]))
        done, failed = _lines(folder / "out.jsonl"), _lines(folder / "out.failed.jsonl")
        return cls(exit_code, json.loads(printed or "{}"), log, done, failed)

    @cached_property
    def by_call(self) -> dict[str, list[Line]]:
        """The requests of each call, in their order."""
        calls: dict[str, list[Line]] = defaultdict(list)
        for line in self.log:
            calls[line["user"]].append(line)
        return calls

    @property
    def longest_attempt_s(self) -> float:
        """From a request's arrival to its answer, or until the client gave it up."""
        return max(float(line["latency_s"]) for line in self.log)

    @property
    def longest_call_s(self) -> float:
        """From a call's first request to its last."""
        return max(float(c[-1]["time"] - c[0]["time"]) for c in self.by_call.values())


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.open()] if path.exists() else []


def broken_promises(mix: Mix, run: Evidence) -> Iterator[str]:
    """Each promise that the run has not kept."""
    yield from _accounted(mix, run)
    yield from _explained(run)
    yield from _tried(mix, run)
    yield from _in_time(mix, run)
    yield from _keys_left_alone(mix, run)
    missing = mix.drawn - {line["failure"] for line in run.log}
    if missing:
        yield f"failures that were not drawn: {', '.join(sorted(missing))}"


def _accounted(mix: Mix, run: Evidence) -> Iterator[str]:
    """Every row is done or failed, once and in input order, and the exit code says so."""
    done = [line["number"] for line in run.done]
    failed = [line["row"]["number"] for line in run.failed]
    if sorted(done + failed) != list(range(mix.calls)):
        yield f"{len(done):,} done and {len(failed):,} failed are not {mix.calls:,} rows, once each"
    if done != sorted(done) or failed != sorted(failed):
        yield "the rows are out of order"
    if (run.said.get("done"), run.said.get("failed")) != (len(done), len(failed)):
        yield f"the run counts otherwise: {run.said}"
    if run.exit_code != (1 if failed else 0):
        yield f"the run ended with {run.exit_code}"


def _explained(run: Evidence) -> Iterator[str]:
    """A done row has its own answer, a failed one its reason."""
    for line in run.done:
        if line["answer"] not in [answer.format(**line) for answer in ANSWERS]:
            yield f"a row has another row's answer: {line}"
    for line in run.failed:
        if not (line["error"]["kind"] and line["error"]["message"]):
            yield f"a row failed without a reason: {line}"


def _tried(mix: Mix, run: Evidence) -> Iterator[str]:
    """No call is charged more attempts than it may have, or asked again once it is answered."""
    for line in run.failed:
        if line["error"]["attempts"] > mix.attempts:
            yield f"a row was tried too often: {line}"
    for user, lines in run.by_call.items():
        # What failed while the server was about to go is no attempt, and may not have arrived.
        sure = [line for line in lines if not _is_at_outage(mix, run, line)]
        charged = sum(line["failure"] not in mix.uncharged for line in sure)
        if charged > mix.attempts:
            yield f"{user} was asked {charged} times"
        paid = [line for line in sure if _is_answered(mix, line)]
        if paid and paid[0] is not lines[-1]:
            how = f"{paid[0]['failure'] or 'well'}, in {paid[0]['latency_s']:.2f} s"
            yield f"{user} was asked again although it was answered ({how})"


def _is_at_outage(mix: Mix, run: Evidence, line: Line) -> bool:
    since_s = line["time"] - run.log[0]["time"]
    margin_s = mix.timeout_s + SLACK_S
    # The last call that tries before the server is back tells what it missed soon after.
    return bool(mix.gone_s - margin_s <= since_s <= mix.back_s * 1.25 + 5 + margin_s)


def _is_answered(mix: Mix, line: Line) -> bool:
    """Whether the client must have the answer. One just before its deadline may come too late."""
    is_good = line["failure"] is None or line["failure"] in mix.good
    in_time = line["latency_s"] < mix.timeout_s - SLACK_S / 2
    return bool(line["status"] == 200 and is_good and in_time and line["answered"])


def _in_time(mix: Mix, run: Evidence) -> Iterator[str]:
    """Nothing hangs past its timeout."""
    if run.longest_attempt_s > mix.timeout_s + SLACK_S:
        yield f"an attempt took {run.longest_attempt_s:.1f} s of {mix.timeout_s:g} s"
    away_s = (mix.back_s - mix.gone_s) * 1.25 + 5
    most_s = away_s + mix.attempts * mix.timeout_s + LONGEST_BACKOFFS_S
    if run.longest_call_s > most_s:
        yield f"a call took {run.longest_call_s:.0f} s"


def _keys_left_alone(mix: Mix, run: Evidence) -> Iterator[str]:
    """A key that is out of service, or not there, is asked no more than was on its way by then."""
    asked_at = {line["key"]: line["time"] - run.log[0]["time"] for line in run.log}
    if mix.added not in asked_at:
        yield "the key that was added was never asked"
    if asked_at.get(mix.removed, 0.0) > mix.changed_s + SLACK_S:
        yield f"the key that was removed was asked after {asked_at[mix.removed]:.1f} s"
    refused_at: dict[str, float] = {}
    for line in run.log:
        key = line["key"]
        if key in refused_at and line["time"] > refused_at[key] + SLACK_S:
            late_s = line["time"] - refused_at[key]
            yield f"a key was asked {late_s:.1f} s after {mix.deadly[key]}"
        if key in mix.deadly and line["failure"] == mix.deadly[key]:
            refused_at.setdefault(key, line["time"] + line["latency_s"])


def print_figures(mix: Mix, run: Evidence) -> None:
    """The failures by kind, what became of the rows, and the longest times."""
    requests = len(run.log)
    drawn = Counter(line["failure"] for line in run.log if line["failure"])
    for name, count in sorted(drawn.items()):
        print(f"  {name:<28}{count:>7,}{count / requests:>9.2%}")
    refused = sum(line["failure"] in mix.uncharged for line in run.log)
    print(
        f"{requests:,} requests, of which {drawn.total() / requests:.1%} failed in "
        f"{len(drawn)} ways; refused for a limit or a key {refused / requests:.2%}"
    )
    print(f"done {len(run.done):,}, failed {len(run.failed):,}:")
    reasons = Counter((line["error"]["kind"], _start(line)) for line in run.failed)
    for (kind, message), count in reasons.most_common(MOST_REASONS):
        print(f"  {count:>7,}  {kind}: {message}")
    if len(reasons) > MOST_REASONS:
        others = reasons.total() - sum(count for _, count in reasons.most_common(MOST_REASONS))
        print(f"  {others:>7,}  for {len(reasons) - MOST_REASONS} other reasons")
    print(
        f"longest attempt {run.longest_attempt_s:.2f} s of {mix.timeout_s:g} s, longest call "
        f"{run.longest_call_s:.0f} s; the server was gone for {mix.back_s - mix.gone_s:.0f} s; "
        f"{run.said.get('wall_s', 0):.0f} s in all"
    )


def _start(line: Line) -> str:
    return str(line["error"]["message"]).partition("\n")[0][:70]
