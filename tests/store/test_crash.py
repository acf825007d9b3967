"""Real processes that are really killed, and disks that really end, in the middle of writing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gptflow.store.record import RowCounts
from gptflow.store.store import Store
from tests.store.conftest import draft, key, rows

PRELUDE = """
import asyncio, itertools, resource, sys
from pathlib import Path
from gptflow.errors import StoreError
from gptflow.store.store import Store
from tests.store.conftest import call, done, draft, reply, rows
store = Store.open(Path(sys.argv[1]))
"""

WRITE = (
    PRELUDE
    + """
run_id = store.begin_run(draft(), rows(*range(5000))).run_id

async def work(positions):
    for position in positions:
        store.save_reply(run_id, call(position), reply(str(position).encode()))
        await store.save_result(run_id, done(position, position))
        print(position, flush=True)

async def main():
    positions = iter(range(5000))
    await asyncio.gather(*(work(positions) for _ in range(32)))

asyncio.run(main())
"""
)

PREPARE = (
    PRELUDE
    + """
def source():
    for position in itertools.count():
        yield from rows(position) if position == 0 else [(position, position, bytes(16))]
        if position == 50_000:
            print("half", flush=True)
            sys.stdin.read()

store.begin_run(draft(), source())
"""
)

OUTGROW = (
    PRELUDE
    + """
run_id = store.begin_run(draft(), rows(*range(500))).run_id
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

async def main():
    for position in range(500):
        await store.save_reply(run_id, call(position), reply(b"x" * 20_000))
        await store.save_result(run_id, done(position, position))
        print(position, flush=True)

try:
    asyncio.run(main())
except StoreError as error:
    print(error.message)
store.close()
"""
)


def start(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_after_kill_9_every_row_that_counted_is_there_with_its_reply(path: Path) -> None:
    with start(WRITE, path) as process:
        assert process.stdout is not None
        counted = [int(process.stdout.readline()) for _ in range(500)]
        process.kill()
        counted += [int(line) for line in process.stdout if line.endswith("\n")]
    with Store.open(path) as store:
        reader = store.reader
        results = {result.position: result for result in reader.results(1)}
        assert set(counted) <= set(results)
        assert all(reader.find_reply(result.calls[0]) for result in results.values())
        assert [row.position for row in reader.pending(1)] == sorted(
            set(range(5000)) - set(results)
        )
        assert reader.usage(1)[0].calls >= len(results)


def test_a_run_that_was_killed_while_it_was_prepared_never_was(path: Path) -> None:
    with start(PREPARE, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    with Store.open(path) as store:
        assert store.reader.runs() == []
        run = store.begin_run(draft(), rows("a"))
        assert store.reader.counts(run.run_id) == RowCounts(pending=1, done=0, failed=0)


def test_a_disk_that_ends_stops_the_run_and_keeps_what_counted(path: Path) -> None:
    with start(OUTGROW, path) as process:
        output, _ = process.communicate()
    *counted, message = output.splitlines()
    assert message.startswith(f"the store {path} ")
    assert process.returncode == 0
    assert 10 < len(counted) < 500
    with Store.open(path) as store:
        assert store.reader.counts(1).done >= len(counted)
        assert store.reader.find_reply(key(int(counted[-1]))) == b"x" * 20_000
