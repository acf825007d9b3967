"""A store with a run that was killed when it was nearly done, as a real one would have written it.

    python benchmarks/filled_store.py SPEC [--pending 10] [--failed 10]

Plan, ledger, conversations, call keys and the store are the real ones; in the server's place stands
an echo without a network, so a million rows take a minute and a half instead of eight. The next
`gptflow run` goes on with the run.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import msgspec

from gptflow.data.replay import replay
from gptflow.errors import RowFailed
from gptflow.pipeline.conversation import converse
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Reply, Row, RowResult, RowStatus, Usage
from gptflow.runner.archive import RunArchive
from gptflow.runner.begin import begin
from gptflow.runner.loop import run_coroutine
from gptflow.runner.prepare import Prepared, prepare
from gptflow.runner.server import ServerChoice
from gptflow.store.store import Store

AT_ONCE = 2000
"""Rows that wait for the disk at a time."""


def echo(call: Call, text: str) -> Reply:
    """What the simulator would have answered."""
    body = {
        "id": f"chatcmpl-{call.key.hex()}",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": call.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 50, "total_tokens": 110},
    }
    usage = Usage(prompt_tokens=60, completion_tokens=50)
    return Reply(text, "stop", usage, call.model, msgspec.json.encode(body), "main", 1, 0.1)


def answered(plan: Plan, row: Row, archive: RunArchive, *, fails: bool) -> RowResult:
    """Takes a row of one step to its end, and stores the reply."""
    conversation = converse(plan, row)
    call = next(conversation)
    assert isinstance(call, Call)
    reply = echo(call, "I cannot say." if fails else call.messages[-1]["content"])
    archive.save_reply(call, reply)
    try:
        conversation.send(reply)
    except StopIteration as end:
        fields = msgspec.json.encode(end.value)
        return RowResult(row.position, RowStatus.DONE, row.raw, fields, None, (call.key,))
    except RowFailed as failed:
        return RowResult(
            row.position, RowStatus.FAILED, row.raw, b"{}", failed.failure, (call.key,)
        )
    raise AssertionError("the spec has one step and asks once")


async def fill(prepared: Prepared, store: Store, *, pending: int, failed: int) -> None:
    """Begins a run and brings all but its last `pending` rows to their ends."""
    run = begin(store, prepared, fresh=False, retry=None).run
    archive, ends = RunArchive(store, run), run.rows - pending
    rows = replay(prepared.source, store.reader.pending(run.run_id), ())
    for row in rows:
        if row.position == ends:
            break
        fails = failed > 0 and row.position % (ends // failed) == 7
        saved = archive.save_result(answered(prepared.plan, row, archive, fails=fails))
        if row.position % AT_ONCE == 0:
            await saved
    await saved


def main() -> None:
    """Fills the store of the spec, in the working directory, and dies by SIGKILL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--pending", type=int, default=10)
    parser.add_argument("--failed", type=int, default=10)
    arguments = parser.parse_args()
    prepared = prepare(arguments.spec, ServerChoice())
    store = Store.open(prepared.store_path(None))
    run_coroutine(fill(prepared, store, pending=arguments.pending, failed=arguments.failed))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
