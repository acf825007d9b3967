"""What the store costs: CPU of a durable row at 2,000 rows/s, and the ledger of a million rows.

    python benchmarks/store.py [ROWS]

The first table compares how far apart group commits may be; gptflow takes 2 ms while the processor
has time to spare, and 5 ms while it is busy. Its CPU is what saving adds to the same loop without a
store: encoding, futures, the writer's thread, SQLite.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import uvloop

from gptflow.records import Call, Reply, RowResult, RowStatus, Usage
from gptflow.store.record import LedgerRow, RunDraft
from gptflow.store.spacing import Spacing
from gptflow.store.store import Store

IN_FLIGHT = 200
LATENCY_S = 0.1
ROWS = 20_000
LEDGER_ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000

DRAFT = RunDraft(
    name="bench", plan_digest="", source_fingerprint="", spec="", spec_file="bench.yaml"
)
RAW, BODY, FIELDS = os.urandom(380), os.urandom(600), b'{"label": "positive"}'


def ledger(count: int) -> Iterator[LedgerRow]:
    for position in range(count):
        key = blake2b(position.to_bytes(8, "big"), digest_size=16).digest()
        yield position, position, key


async def work(positions: Iterator[int], store: Store | None, run_id: int) -> None:
    for position in positions:
        await asyncio.sleep(LATENCY_S * random.uniform(0.5, 1.5))
        key = os.urandom(16)
        call = Call(key=key, step="label", model="tiny", messages=[], params={})
        usage = Usage(prompt_tokens=100, completion_tokens=10)
        reply = Reply(text="", finish_reason="stop", usage=usage, model="tiny", body=BODY)
        result = RowResult(position, RowStatus.DONE, RAW, FIELDS, calls=(key,))
        if store is not None:
            store.save_reply(run_id, call, reply)
            await store.save_result(run_id, result)


async def drive(store: Store | None, run_id: int) -> None:
    positions = iter(range(ROWS))
    await asyncio.gather(*(work(positions, store, run_id) for _ in range(IN_FLIGHT)))


def cost(store: Store | None, run_id: int = 0) -> tuple[float, float]:
    """CPU in us for one row, and rows in a second."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    uvloop.run(drive(store, run_id))
    cpu_us = (time.process_time() - cpu_s) / ROWS * 1e6
    return cpu_us, ROWS / (time.perf_counter() - began_s)


def saving(folder: Path) -> None:
    bare_us, bare_per_s = cost(None)
    print(f"no store        {bare_us:5.0f} us CPU/row   {bare_per_s:5.0f} rows/s")
    for spacing_ms in (0, 1, 2, 5, 10):
        path = folder / f"{spacing_ms}.db"
        with Store.open(path, spacing=Spacing(spacing_ms / 1000, spacing_ms / 1000)) as store:
            run = store.begin_run(DRAFT, ledger(ROWS))
            cpu_us, per_s = cost(store, run.run_id)
        print(
            f"{spacing_ms:2} ms apart    + {cpu_us - bare_us:5.0f} us CPU/row   {per_s:5.0f} rows/s"
        )


def preparing(folder: Path) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Store.open(folder / "ledger.db") as store:
        began_s = time.perf_counter()
        run = store.begin_run(DRAFT, ledger(LEDGER_ROWS))
        ledger_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        store.reader.counts(run.run_id)
        count_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        rows = sum(1 for _ in store.reader.pending(run.run_id))
        pending_s = time.perf_counter() - began_s
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    size = (folder / "ledger.db").stat().st_size / 1e6
    print(f"ledger of {rows:,} rows: {ledger_s:.1f} s, + {grown:.0f} MB memory, {size:.0f} MB file")
    print(f"counted in {count_s * 1000:.0f} ms, gone through in {pending_s:.1f} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as name:
        preparing(Path(name))
        saving(Path(name))
