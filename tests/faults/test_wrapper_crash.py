"""GPTWrapper's single rounds in processes, whose program is killed. tests/wrapper has the rest."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from gptflow.wrapper.single_round import single_round_multi_process
from tests.wrapper.desk import MODEL, Desk, desk_at, eventually, is_alive

WORKERS = 3
PROMPTS = [f"prompt {at}" for at in range(24)]
PROGRAM = f"""
from gptflow import GPTWrapper
if __name__ == "__main__":
    prompts = [f"prompt {{at}}" for at in range({len(PROMPTS)})]
    GPTWrapper.single_round_multi_process(
        "config.json", {MODEL!r}, {WORKERS}, None, prompts, "out.jsonl"
    )
"""


def again(desk: Desk) -> list[Any]:
    """The same round, from this process."""
    out = desk.folder / "out.jsonl"
    return single_round_multi_process(desk.config, MODEL, WORKERS, None, PROMPTS, out)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def test_a_killed_program_leaves_no_worker_and_what_it_has_asked_is_not_asked_again(
    tmp_path: Path,
) -> None:
    arrived = threading.Event()
    workers: list[int] = []

    def reply(body: dict[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        if text == "prompt 13" and not arrived.is_set():
            workers.extend(descendants(process.pid))
            os.kill(process.pid, signal.SIGKILL)
            arrived.set()
        return text

    with desk_at(tmp_path, {"latency": "20ms"}, reply=reply) as desk:
        process = desk.start(PROGRAM)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        eventually(lambda: not any(map(is_alive, workers)))
        assert len(workers) >= WORKERS
        first = desk.asked()
        assert again(desk) == PROMPTS
        second = desk.asked()
    assert set(first) | set(second) == set(PROMPTS)
    assert len(set(first) & set(second)) <= WORKERS
