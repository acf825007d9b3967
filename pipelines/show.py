"""Shows the labelled reviews of label.yaml as a table, and how many labels are right."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = {"positive": "green", "negative": "red", "neutral": "yellow"}
TEXT_WIDTH = 44


def main() -> int:
    """Prints the table; the exit code is 1 if there is nothing to show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", default=Path("pipelines/out/labels.jsonl"))
    path: Path = parser.parse_args().path
    try:
        rows = read_rows(path)
    except FileNotFoundError:
        return refuse(f"{path}: no such file", "gptflow run pipelines/label.yaml --local")
    except (json.JSONDecodeError, KeyError, TypeError):
        return refuse(f"{path} is not what label.yaml writes", "run it without other columns")
    console = Console()
    # Into a pipe rich would write 80 columns, which is too narrow for the table.
    console.width = console.width if console.is_terminal else 140
    console.print(table_of(rows))
    console.print(accuracy_line(rows), highlight=False)
    return 0


def refuse(message: str, hint: str) -> int:
    """Says what is wrong, and gives the exit code."""
    sys.stderr.write(f"{message}\nHint: {hint}\n")
    return 1


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The labelled rows, each with all columns that the table shows."""
    needed = ("review_id", "sentiment", "label", "stars", "text", "apology")
    lines = path.read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [{name: record[name] for name in needed} for record in records]


def table_of(rows: list[dict[str, Any]]) -> Table:
    """One line a row; a label that is not the gold label is marked."""
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for name in ("row", "gold", "label", "stars", "text", "apology"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        mark = "" if row["label"] == row["sentiment"] else "  <-"
        table.add_row(
            row["review_id"],
            coloured(row["sentiment"]),
            coloured(row["label"]) + Text(mark),
            "*" * row["stars"],
            Text(shortened(row["text"])),
            Text(shortened(row["apology"])),
        )
    return table


def coloured(label: str | None) -> Text:
    """A label in its colour."""
    return Text(label or "-", style=COLOURS.get(label or "", "dim"))


def shortened(text: str | None) -> str:
    """The beginning of a text, on one line."""
    line = " ".join((text or "").split())
    return line if len(line) <= TEXT_WIDTH else line[: TEXT_WIDTH - 1] + "…"


def accuracy_line(rows: list[dict[str, Any]]) -> str:
    """How many labels are right, beside what always saying the most frequent one would give."""
    gold = [row["sentiment"] for row in rows]
    right = sum(row["label"] == row["sentiment"] for row in rows)
    commonest = max(set(gold), key=gold.count)
    return (
        f"\n{right} of {len(rows)} labels are right ({right / len(rows):.0%}); "
        f"always saying {commonest!r} would be right {gold.count(commonest)} times."
    )


if __name__ == "__main__":
    sys.exit(main())
