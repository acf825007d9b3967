"""benchmarks/chaos.py kills a hundred times; a few of them belong to the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


def test_whatever_kills_a_run_no_row_is_lost_or_doubled_and_no_answer_paid_again() -> None:
    command = [sys.executable, str(CHAOS), "--kills", "6", "--rows", "100", "--seed", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "rows lost 0, doubled 0; stored answers asked for again 0" in ended.stdout
