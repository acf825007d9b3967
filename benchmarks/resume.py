"""Going on with a million rows: seconds from Enter to the first new request, and peak memory.

    python benchmarks/resume.py [--rows 1000000] [--extractor]

filled_store.py writes the store, as a run that was killed left it: all rows but the last ten have
ended, ten of them failed. Each case is then a command as a user types it, measured on the second
core; its peak is compared with that on 10,000 rows. Fails if a bar is not kept, or if anything is
asked but what must be. With --extractor the spec is edited in the end, so that every row goes
through the store's replies again: two minutes for a million.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from clients import prompt
from cpu_per_row import CONCURRENCY, SPEC
from measuring import GPTFLOW, Usage, measure, simulator

FEW_ROWS = 10_000
NEW_ROWS = 10
FIRST_REQUEST_S = 10.0
GROWTH_MB = 50
PEAK_MB = 120
STORE = ".gptflow/benchmark.db"
SCENARIO = "reply: echo\nlog: requests.jsonl\n"
RUN = [*GPTFLOW, "run", "spec.yaml", "--quiet"]
FILLED_STORE = str(Path(__file__).with_name("filled_store.py"))


@dataclass(frozen=True, slots=True)
class Case:
    """A command after an edit, and what it must ask."""

    name: str
    command: list[str]
    requests: int = 0
    appends: bool = False
    """Whether NEW_ROWS rows are appended to the source before."""
    code: int = 0


CASES = (
    Case("same command after a SIGKILL, 10 pending", RUN, NEW_ROWS, code=1),
    Case("same command, nothing to do", RUN, code=1),
    Case("--retry failed, 10 failed", [*RUN, "--retry", "failed"], 10),
    Case("10 rows appended", RUN, NEW_ROWS, appends=True),
    Case("10 more rows appended", RUN, NEW_ROWS, appends=True),
    Case("export", [*GPTFLOW, "export", STORE, "-o", "all.jsonl"]),
    Case("runs", [*GPTFLOW, "runs", STORE]),
)
EXTRACTOR = Case("another extractor", [*RUN, "--set", "steps.0.extract.number.type=float"])


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command took."""

    used: Usage
    first_request_s: float | None
    requests: int


def source_lines(first: int, last: int) -> list[str]:
    """Rows of the source; they say their number, and so no two are alike."""
    texts = (prompt(number).split("\n", 1)[1] for number in range(first, last))
    return [json.dumps({"id": first + n, "text": text}) + "\n" for n, text in enumerate(texts)]


def append_rows(folder: Path, first: int, last: int) -> None:
    with (folder / "rows.jsonl").open("a") as file:
        for start in range(first, last, FEW_ROWS):
            file.writelines(source_lines(start, min(start + FEW_ROWS, last)))


def start_anew(folder: Path, rows: int) -> None:
    """Writes spec, rows and store."""
    for path in (*folder.glob(".gptflow/*"), folder / "rows.jsonl"):
        path.unlink(missing_ok=True)
    (folder / "spec.yaml").write_text(SPEC.replace("CONCURRENCY", str(CONCURRENCY)))
    append_rows(folder, 0, rows)
    measure([sys.executable, FILLED_STORE, "spec.yaml"], cwd=folder, code=-signal.SIGKILL)


def bytes_per_row(folder: Path, rows: int) -> str:
    size = sum(path.stat().st_size for path in folder.glob(f"{STORE}*"))
    return f"{size / rows:,.0f} bytes a row"


def timed(folder: Path, case: Case) -> Measured:
    """Runs a command, and finds its requests in the simulator's log."""
    log = folder / "requests.jsonl"
    seen = log.stat().st_size
    began_unix_s = time.time()
    used = measure(case.command, cwd=folder, code=case.code)
    time.sleep(0.2)  # the simulator's log is written every 50 ms
    with log.open() as file:
        file.seek(seen)
        times = [json.loads(line)["time"] for line in file]
    return Measured(used, min(times) - began_unix_s if times else None, len(times))


def series(folder: Path, rows: int, cases: list[Case]) -> list[Measured]:
    """All cases on one store, one after the other."""
    start_anew(folder, rows)
    print(f"{f'{rows:,} rows':<44}first request    wall     CPU   peak   requests")
    results = []
    for case in cases:
        if case.appends:
            append_rows(folder, rows, rows + NEW_ROWS)
            rows += NEW_ROWS
        measured = timed(folder, case)
        results.append(measured)
        print(table_line(case, measured), flush=True)
        if case is cases[0]:
            print(f"    store {bytes_per_row(folder, rows)}")
    print(f"    store {bytes_per_row(folder, rows)} with the runs over appended rows")
    return results


def table_line(case: Case, measured: Measured) -> str:
    first_s, used = measured.first_request_s, measured.used
    first = "none   " if first_s is None else f"{first_s:.1f} s"
    return (
        f"  {case.name:<42}{first:>13}{used.wall_s:>6.1f} s{used.cpu_s:>6.1f} s"
        f"{used.peak_mb:>4.0f} MB{measured.requests:>11}"
    )


def broken_bars(cases: list[Case], few: list[Measured], many: list[Measured]) -> list[str]:
    """What is not as it should be."""
    wrong = []
    for case, small, large in zip(cases, few, many, strict=True):
        if {small.requests, large.requests} != {case.requests}:
            wrong.append(f"{case.name}: {case.requests} requests were expected")
        if (large.first_request_s or 0) > FIRST_REQUEST_S:
            wrong.append(f"{case.name}: more than {FIRST_REQUEST_S:.0f} s")
        if large.used.peak_mb - small.used.peak_mb > GROWTH_MB or large.used.peak_mb > PEAK_MB:
            wrong.append(f"{case.name}: more than {PEAK_MB} MB, or than {GROWTH_MB} MB of growth")
    return wrong


def main() -> None:
    """Measures, prints, and fails if a bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--extractor", action="store_true")
    arguments = parser.parse_args()
    cases = [*CASES, EXTRACTOR] if arguments.extractor else [*CASES]
    with tempfile.TemporaryDirectory() as name, simulator(Path(name), SCENARIO):
        few, many = (series(Path(name), rows, cases) for rows in (FEW_ROWS, arguments.rows))
    wrong = broken_bars(cases, few, many)
    slowest_s = max(measured.first_request_s or 0 for measured in many)
    peaks = [max(measured.used.peak_mb for measured in results) for results in (few, many)]
    print(f"first request after {slowest_s:.1f} s at most, the bar is {FIRST_REQUEST_S:.0f} s")
    print(f"peak {peaks[1]:.0f} MB, {peaks[1] - peaks[0]:+.0f} MB from {FEW_ROWS:,} rows on")
    sys.exit("; ".join(wrong) or 0)


if __name__ == "__main__":
    main()
