"""A conversation whose extraction takes long leaves the event loop to the other rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gptflow.errors import RowFailed
from gptflow.pipeline.compile import compile_plan
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Reply, Row, Usage
from gptflow.runner.dialogue import Dialogue
from tests.project import loaded

ROW = Row(position=0, record=0, key=b"k" * 16, ordinal=0, raw=b"{}", columns={})


def saying(text: str) -> Reply:
    return Reply(text, "stop", Usage(), "m", b"{}")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two steps, the first with a pattern that explodes on a's without end."""
    found = {"f": {"regex": "(a+)+$|b!", "group": 0, "timeout_s": 0.5}}
    steps = [
        {"name": "one", "prompt": "1", "extract": found, "on_invalid": {"then": "keep"}},
        {"name": "two", "prompt": "2 {{ f }}", "extract": {"g": found["f"]}},
    ]
    spec = {"name": "a", "source": {"range": 1}, "model": {"name": "m"}, "steps": steps}
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    return compile_plan(loaded(tmp_path / "spec.yaml"), columns=[])


async def turns_during(dialogue: Dialogue, text: str) -> int:
    """How often the loop goes round while a reply is answered."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    turning = asyncio.create_task(turn())
    try:
        await dialogue.answer(saying(text))
    finally:
        turning.cancel()
    return turns


def test_the_loop_goes_round_while_a_pattern_explodes(plan: Plan) -> None:
    async def talk() -> int:
        dialogue = Dialogue(plan, ROW)
        await dialogue.begin()
        return await turns_during(dialogue, "a" * 100_000 + "!")

    assert asyncio.run(talk()) > 3


def test_the_conversation_goes_on_behind_it(plan: Plan) -> None:
    async def talk() -> None:
        dialogue = Dialogue(plan, ROW)
        first = await dialogue.begin()
        second = await dialogue.answer(saying("a" * 100_000 + "!"))
        assert isinstance(first, Call)
        assert isinstance(second, Call)
        assert second.messages[-1]["content"] == "2 None"
        assert await dialogue.answer(saying("b!")) == {"f": None, "g": "b!"}

    asyncio.run(talk())


def test_a_row_that_fails_in_a_thread_fails_like_any_other(plan: Plan) -> None:
    async def talk() -> None:
        dialogue = Dialogue(plan, ROW)
        await dialogue.begin()
        await dialogue.answer(saying("b!"))
        with pytest.raises(RowFailed, match="took longer than"):
            await dialogue.answer(saying("a" * 100_000 + "!"))

    asyncio.run(talk())
