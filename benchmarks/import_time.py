"""What importing costs, over bare Python: the median of many processes.

    python benchmarks/import_time.py [PROCESSES]

Bars: `import gptflow` 20 ms; `from gptflow import GPTWrapper` without openai and pydantic.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "bare Python": "pass",
    "import gptflow": "import gptflow",
    "from gptflow import GPTWrapper": "from gptflow import GPTWrapper",
    "from gptflow import LarkBot": "from gptflow import LarkBot",
    "from gptflow import run": "from gptflow import run",
    "what a wrapper loads as it is built": "import gptflow.wrapper.shared_engine",
    "import openai": "import openai",
}
HEAVY = ("asyncio", "openai", "pydantic", "pyreqwest", "requests")


def seconds(program: str) -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - began_s


def loaded(program: str) -> list[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in HEAVY if name in told.stdout.split()]


def main() -> None:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(processes):  # in turns: what else the machine does meets all of them
        for name, program in PROGRAMS.items():
            times[name].append(seconds(program))
    bare_s = statistics.median(times["bare Python"])
    print(f"bare Python takes {1000 * bare_s:.0f} ms; over it:")
    for name, program in PROGRAMS.items():
        if name != "bare Python":
            over_ms = 1000 * (statistics.median(times[name]) - bare_s)
            print(f"{name:<36} {over_ms:6.0f} ms   {' '.join(loaded(program))}")


if __name__ == "__main__":
    main()
