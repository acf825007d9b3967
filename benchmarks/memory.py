"""Peak memory: 200,000 rows against 2,000, with a simulator that answers at once.

python benchmarks/memory.py [--rows 200000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from cpu_per_row import gptflow_command
from measuring import measure, simulator

FEW_ROWS = 2_000
BAR_MB = 150


def main() -> None:
    """Measures, prints, and fails if the bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, simulator(Path(name)):
        folder = Path(name)
        peaks = {}
        for rows in (FEW_ROWS, arguments.rows):
            used = measure(gptflow_command(folder, rows), cwd=folder)
            store_bytes = sum(path.stat().st_size for path in folder.glob(".gptflow/*.db*"))
            peaks[rows] = used.peak_mb
            print(
                f"{rows:>9,} rows: peak {used.peak_mb:.0f} MB, {used.wall_s:.1f} s, "
                f"store {store_bytes / rows:,.0f} bytes a row"
            )
            for path in folder.glob(".gptflow/*"):
                path.unlink()
    print(
        f"growth {peaks[arguments.rows] - peaks[FEW_ROWS]:+.1f} MB; the bar is {BAR_MB} MB in all"
    )
    sys.exit(peaks[arguments.rows] > BAR_MB)


if __name__ == "__main__":
    main()
