"""Every failure that the simulator knows, at once: the benchmark's checks, in a short run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FAULT_MIX = Path(__file__).parents[2] / "benchmarks/fault_mix.py"


def test_a_run_under_every_failure_at_once_keeps_every_promise() -> None:
    command = [sys.executable, str(FAULT_MIX), "--calls", "400", "--seed", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "every promise was kept" in ended.stdout
    assert "failed in 139 ways" in ended.stdout
