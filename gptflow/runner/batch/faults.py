"""What a call has come back with in place of a reply: when it has failed, and what is told then."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gptflow.engine.tries import LONGEST_HISTORY
from gptflow.engine.verdicts import Verdict, VerdictKind, failure_of
from gptflow.records import Failure
from gptflow.store.batches import StoredFault

_FINAL = frozenset({VerdictKind.REJECTED, VerdictKind.REFUSED})
_decoder = msgspec.json.Decoder(Verdict)


def packed(verdict: Verdict) -> bytes:
    """A verdict for the store, without the reply, which is stored as one."""
    return msgspec.json.encode(msgspec.structs.replace(verdict, reply=None))


def unpacked(faults: Sequence[StoredFault]) -> list[Verdict]:
    """The verdicts of stored faults."""
    return [_decoder.decode(fault.verdict) for fault in faults]


def are_enough(verdicts: Sequence[Verdict], attempts: int) -> bool:
    """Whether a call with these verdicts, in their order, is not to be asked again."""
    last = verdicts[-1]
    if last.kind in _FINAL or len(verdicts) >= attempts:
        return True
    alike = [one for one in verdicts if one.tries is not None and one.failure == last.failure]
    return last.tries is not None and len(alike) >= last.tries


def failure(faults: Sequence[StoredFault], step: str) -> Failure:
    """What a call has failed with."""
    verdicts = unpacked(faults)
    return failure_of(
        verdicts[-1], step, attempts=len(verdicts), history=_history(faults, verdicts)
    )


def told(failed: Failure, faults: Sequence[StoredFault]) -> Failure:
    """A failure that was read out of a stored reply, with the attempts that led to it."""
    history = _history(faults, unpacked(faults))
    return msgspec.structs.replace(failed, attempts=len(faults), history=history)


def _history(faults: Sequence[StoredFault], verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    return tuple(
        f"{fault.key_name}: {f'{verdict.status} ' if verdict.status else ''}{verdict.message}"
        for fault, verdict in zip(faults, verdicts, strict=True)
    )[-LONGEST_HISTORY:]
