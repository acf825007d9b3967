"""The promises that a run keeps under faults, read off the log of the simulator and the output."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = dict[str, Any]

SLACK_S = 1.0
"""How late a busy machine may be."""
UNASKED_LIMIT = 4
"""The calls that an unknown key begins with: so many may be on their way when it is refused."""


@dataclass(frozen=True)
class Mix:
    """What was to happen."""

    calls: int
    attempts: int
    timeout_s: float
    deadly: dict[str, str]
    """The failures that take a key away, by the last four characters of the key."""
    uncharged: frozenset[str]
    """The failures that are no attempt of a call."""
    drawn: frozenset[str]
    """The failures that were to be drawn."""
    gone_s: tuple[float, float]
    """From when on and how long the server was gone, counted from the first request."""


@dataclass(frozen=True)
class Evidence:
    """What a run has left."""

    exit_code: int
    log: list[Line]
    """The simulator's lines, in the order of arrival."""
    done: list[Line]
    failed: list[Line]
    said: Line
    """What the run printed."""

    @classmethod
    def read(cls, folder: Path, exit_code: int, printed: str) -> Evidence:
        """All that is in the folder of a run."""
        log = sorted(_lines(folder / "log.jsonl"), key=lambda line: int(line["number"]))
        said = json.loads(printed) if printed else {}
        done, failed = _lines(folder / "out.jsonl"), _lines(folder / "out.failed.jsonl")
        return cls(exit_code, log, done, failed, said)

    @property
    def began(self) -> float:
        """When the first request came."""
        return float(self.log[0]["time"])


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.open()] if path.exists() else []


def broken_promises(mix: Mix, run: Evidence) -> Iterator[str]:
    """Each promise that the run has not kept."""
    yield from _accounted(mix, run)
    yield from _tried(mix, run)
    yield from _in_time(mix, run)
    yield from _keys_left_alone(mix, run)
    missing = mix.drawn - {line["failure"] for line in run.log}
    if missing:
        yield f"failures that were not drawn: {', '.join(sorted(missing))}"


def _accounted(mix: Mix, run: Evidence) -> Iterator[str]:
    """Every row is done or failed, once, in input order, with its own answer or a reason."""
    if run.exit_code != (1 if run.failed else 0):
        yield f"the run ended with {run.exit_code}"
    done = [line["number"] for line in run.done]
    failed = [line["row"]["number"] for line in run.failed]
    if sorted(done + failed) != list(range(mix.calls)):
        yield f"{len(done):,} done and {len(failed):,} failed are not {mix.calls:,} rows, once each"
    if done != sorted(done) or failed != sorted(failed):
        yield "the rows are out of order"
    if (run.said.get("done"), run.said.get("failed")) != (len(done), len(failed)):
        yield f"the run counts otherwise: {run.said}"
    foreign = [line for line in run.done if not _is_own(line)]
    if foreign:
        yield f"{len(foreign)} rows have another row's answer, such as {foreign[0]}"
    mute = [e for e in run.failed if not (e["error"]["kind"] and e["error"]["message"])]
    if mute:
        yield f"{len(mute)} rows failed without a reason, such as {mute[0]}"


def _is_own(line: Line) -> bool:
    """Whether a row's answer is the echo of its prompt, or one that the simulator spoilt."""
    return line["answer"] in (f"Row {line['number']}.", "a\x00b", "a\ufffdb")


def _tried(mix: Mix, run: Evidence) -> Iterator[str]:
    """No call was charged more attempts than it may have, and none was asked once it was over."""
    spent = [line for line in run.failed if line["error"]["attempts"] > mix.attempts]
    if spent:
        yield f"{len(spent)} rows were tried more than {mix.attempts} times"
    gone_s, gone_for_s = mix.gone_s
    for user, lines in _by_call(run.log).items():
        # What failed shortly before the server was gone is the outage's, and given back.
        charged = [
            line
            for line in lines
            if line["failure"] not in mix.uncharged
            and not gone_s - mix.timeout_s - SLACK_S
            <= line["time"] - run.began
            <= gone_s + gone_for_s + 60
        ]
        if len(charged) > mix.attempts:
            yield f"{user} was asked {len(charged)} times"


def _by_call(log: Iterable[Line]) -> dict[str, list[Line]]:
    calls: dict[str, list[Line]] = defaultdict(list)
    for line in log:
        calls[str(line["user"])].append(line)
    return calls


def longest_attempt_s(run: Evidence) -> float:
    """From a request's arrival to its answer, or until the client gave it up."""
    return max(float(line["latency_s"]) for line in run.log)


def longest_call_s(run: Evidence) -> float:
    """From a call's first request to its last."""
    return max(float(c[-1]["time"] - c[0]["time"]) for c in _by_call(run.log).values())


def _in_time(mix: Mix, run: Evidence) -> Iterator[str]:
    """Nothing hangs past its timeout."""
    if longest_attempt_s(run) > mix.timeout_s + SLACK_S:
        yield f"an attempt took {longest_attempt_s(run):.1f} s of {mix.timeout_s:g} s"


def _keys_left_alone(mix: Mix, run: Evidence) -> Iterator[str]:
    """A key that is out of service is asked no more than was on its way by then."""
    refused: dict[str, float] = {}
    after: Counter[str] = Counter()
    for line in run.log:
        key = str(line["key"])
        if line["failure"] != mix.deadly.get(key, ""):
            continue
        if key not in refused:
            refused[key] = line["time"] + line["latency_s"]
            continue
        after[key] += 1
        if line["time"] > refused[key] + SLACK_S:
            yield f"a key was asked {line['time'] - refused[key]:.1f} s after {line['failure']}"
    for key, count in after.items():
        if count > UNASKED_LIMIT:
            print(key, count)  # XXX


def print_figures(mix: Mix, run: Evidence) -> None:
    """The failures by kind and what became of the rows."""
    shares = Counter(str(line["failure"]) for line in run.log if line["failure"])
    for name, count in sorted(shares.items()):
        print(f"  {name:<28}{count:>7,}{count / len(run.log):>9.2%}")
    refused = sum(line["status"] == 429 and line["failure"] in mix.uncharged for line in run.log)
    print(
        f"{len(run.log):,} requests, {sum(shares.values()) / len(run.log):.1%} of them failed; refused {refused / len(run.log):.2%}"
    )
    reasons = Counter(line["error"]["kind"] for line in run.failed)
    print(f"done {len(run.done):,}, failed {len(run.failed):,}: {dict(reasons)}")
    print(f"longest attempt {longest_attempt_s(run):.2f} s, call {longest_call_s(run):.1f} s")
