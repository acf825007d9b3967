"""The report that is written when gptflow itself fails: what a person can paste into an issue."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from gptflow import __version__


def write_bug_report(bug: BaseException, arguments: Sequence[str]) -> str:
    """Writes the report to a file, where it can, and gives the message for the terminal.

    The report holds the traceback without any values: specs, data and keys stay out of it.
    """
    report = "\n".join(
        [
            f"gptflow {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {' '.join(argument for argument in arguments[:1])} ...",
            "",
            *_frames(bug),
        ]
    )
    try:
        where = f"A report is in {_written(report)}"
    except OSError as error:  # the disk may well be what led here
        where = f"No report could be written: {error.strerror}"
    return (
        f"this is a bug in gptflow: {type(bug).__name__}: {bug}\n"
        f"What is done is stored. {where}\n"
        "Hint: run again with --debug for the traceback; please open an issue with the report"
    )


def _written(report: str) -> str:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="gptflow-bug-", suffix=".txt", delete=False
    ) as file:
        file.write(report + "\n")
    return file.name


def _frames(bug: BaseException) -> list[str]:
    home = str(Path.home())
    lines = []
    error: BaseException | None = bug
    while error is not None:
        lines.append(f"{type(error).__name__}")
        for frame in traceback.extract_tb(error.__traceback__):
            file = frame.filename.replace(home, "~").replace(sys.prefix, "<python>")
            lines.append(f"  {file}:{frame.lineno} in {frame.name}")
        error = error.__cause__ or error.__context__
    return lines
