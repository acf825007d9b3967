"""Fuzzing by hand: `python -m tests.fuzz 600` looks for ten minutes, each round another way."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

EXAMPLES_A_ROUND = 2_000


def main(seconds: float) -> int:
    """Runs rounds until the time is up; the exit code of the first one that finds something."""
    end_s = time.monotonic() + seconds
    environment = os.environ | {"GPTFLOW_FUZZ_EXAMPLES": str(EXAMPLES_A_ROUND)}
    while time.monotonic() < end_s:
        seed = random.randrange(1 << 32)
        print(f"round with seed {seed}", flush=True)  # noqa: T201  # a script's words
        command = [sys.executable, "-m", "pytest", "tests/fuzz", "-x", f"--hypothesis-seed={seed}"]
        found = subprocess.run(command, env=environment, check=False).returncode
        if found:
            return found
    return 0


if __name__ == "__main__":
    sys.exit(main(float((sys.argv[1:] or ["600"])[0])))
