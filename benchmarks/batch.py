"""Batch mode under kill -9: three uploads, killed as they go up, as they run, and as they come.

    python benchmarks/batch.py [ROWS]

Against the simulator on this machine. For each kill it prints where the process was struck, and at
the end what the provider has seen: each row must have been in one batch, and be there once. It
fails where that is not so, or where a point was not reached. An upload may be made twice: it costs
nothing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000
CHUNKS = 3
LAUNCHER = Path(__file__).parent.parent / "tests" / "faults" / "killed_at.py"
API = "gptflow.engine.batch_api"
SPEC = f"""
name: bench
source: {{path: rows.jsonl, id: number}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps:
  - name: label
    prompt: "Label row {{{{ number }}}}."
    extract: {{label: text}}
parallelism: {{mode: batch, batch: {{requests: {-(-ROWS // CHUNKS)}}}}}
output: {{path: out.jsonl}}
"""
KILLS = {
    "during the upload": f"during {API}:BatchApi.upload #2",
    "as the upload has come back": f"before {API}:_text #2",
    "as the batch has been made": f"before {API}:_state #2",
    "while the batches run": f"before {API}:BatchApi.look #5",
    "during the download": f"during {API}:BatchApi.download #1",
    "in the middle of the replies": f"before gptflow.engine.batch_line:read_line #{ROWS // 2}",
    "as the replies are stored": "before gptflow.store.batches:_end #1",
}


def prepare(folder: Path, base_url: str) -> None:
    key = {"api_key": "sk-bench-1234567890", "base_url": base_url}
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "config.json").write_text(json.dumps({"key_list": [key]}))
    (folder / "config.json").chmod(0o600)
    rows = (json.dumps({"number": number}) + "\n" for number in range(ROWS))
    (folder / "rows.jsonl").write_text("".join(rows))


def run(folder: Path, *program: str) -> int:
    words = [sys.executable, *program, "run", "spec.yaml", "--quiet"]
    return subprocess.run(words, cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode


def lines(requests: list[LogEntry], path: str) -> list[int]:
    posted = [entry for entry in requests if (entry.method, entry.path) == ("POST", path)]
    return [entry.lines for entry in posted if entry.status == 200 and entry.lines]


def main() -> None:
    requests: list[LogEntry] = []
    scenario = Scenario.model_validate({"batch": {"latency": "1s"}})
    with (
        tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as name,
        MockServer(scenario, on_request=requests.append) as server,
    ):
        folder = Path(name)
        prepare(folder, server.base_url)
        for where, point in KILLS.items():
            code = run(folder, str(LAUNCHER), point)
            if code != -signal.SIGKILL:
                sys.exit(f"not killed {where}: the run ended with {code}")
            made = lines(requests, "/v1/batches")
            print(f"killed {where:<30} exit {code:4}   batches so far {made}")
        began_s = time.perf_counter()
        code = run(folder, "-m", "gptflow")
        took_s = time.perf_counter() - began_s
        numbers = Counter(
            json.loads(line)["number"] for line in (folder / "out.jsonl").read_text().splitlines()
        )
    made, uploads = lines(requests, "/v1/batches"), lines(requests, "/v1/files")
    print(f"finished with exit {code} in {took_s:.1f} s")
    print(f"uploads {uploads}, batches {made}")
    print(f"rows {len(numbers):,} of {ROWS:,}, each once: {set(numbers.values()) == {1}}")
    if code or sum(made) != ROWS or len(numbers) != ROWS or set(numbers.values()) != {1}:
        sys.exit("a row is missing, or was paid twice")


if __name__ == "__main__":
    main()
