from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from gptflow.records import Call, Failure, FailureKind, Reply, RowResult, RowStatus, Usage
from gptflow.store.ledger import LedgerDigest
from gptflow.store.record import LedgerRow, RunDraft
from gptflow.store.store import Store


def key(name: object) -> bytes:
    return blake2b(str(name).encode(), digest_size=16).digest()


def rows(*names: object) -> list[LedgerRow]:
    """A ledger whose records are every second one of the source."""
    return [(position, 2 * position, key(name)) for position, name in enumerate(names)]


def digest_of(ledger: list[LedgerRow]) -> str:
    digest = LedgerDigest()
    digest.add(ledger)
    return digest.hexdigest()


def draft(plan: str = "plan", server: str = "") -> RunDraft:
    return RunDraft(
        name="label",
        plan_digest=plan,
        source_fingerprint="source",
        spec="name: label",
        spec_file="label.yaml",
        server=server,
        output="out/label.jsonl",
        fields=("label", "reason"),
        version="0.1.0",
    )


def call(name: object, step: str = "label") -> Call:
    return Call(key=key(name), step=step, model="tiny", messages=[], params={})


def reply(body: bytes = b"{}", finish_reason: str = "stop", usage: Usage | None = None) -> Reply:
    return Reply(
        text="",
        finish_reason=finish_reason,
        usage=usage or Usage(prompt_tokens=10, completion_tokens=2),
        model="tiny-2026",
        body=body,
        key_name="main",
    )


def done(position: int, *calls: object, truncated: bool = False) -> RowResult:
    return RowResult(
        position=position,
        status=RowStatus.DONE,
        raw=b'{"text": "fine"}',
        fields=b'{"label": "good"}',
        calls=tuple(key(name) for name in calls),
        truncated=truncated,
    )


def failed(position: int, *calls: object, message: str = "no label", replies: int = 1) -> RowResult:
    return RowResult(
        position=position,
        status=RowStatus.FAILED,
        raw=b'{"text": "odd"}',
        failure=Failure(kind=FailureKind.INVALID, message=message, replies=replies),
        calls=tuple(key(name) for name in calls),
    )


def save(store: Store, run_id: int, *items: RowResult | tuple[Call, Reply]) -> None:
    """Saves results and replies as a worker does, and waits for the disk."""

    async def saved() -> None:
        await asyncio.gather(
            *(
                store.save_result(run_id, item)
                if isinstance(item, RowResult)
                else store.save_reply(run_id, *item)
                for item in items
            )
        )

    asyncio.run(saved())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".gptflow" / "label.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        yield store
