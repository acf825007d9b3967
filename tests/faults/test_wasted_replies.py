"""Replies that are paid and of no use: they are money of the run, and never an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptflow.store.reader import StoreReader
from tests.faults.test_limits import USD, fill, priced, work
from tests.project import serving

LANES = 4
TOKENS = 4
"""Of each reply, also of an empty one."""


def test_empty_replies_count_in_the_cost_in_the_store_and_towards_the_limit(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, {"failures": {"reasoning_only": 0.4}}) as project:
        fill(project, 300, priced(1, LANES))
        stopped = work(project)
        paid_usd = len(project.requests) * TOKENS * USD
        assert stopped.exit_code == 3
        assert stopped.cost_usd == pytest.approx(paid_usd)
        assert 1 - 50 * USD <= paid_usd <= 1 + LANES * 50 * USD
        with StoreReader(project.folder / ".gptflow/reviews.db") as reader:
            (usage,) = reader.usage(1)
        assert usage.completion_tokens == len(project.requests) * TOKENS
        assert work(project).calls == 0
