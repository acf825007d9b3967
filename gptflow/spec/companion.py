"""The files that appear beside an output, and what they are called."""

from __future__ import annotations

from pathlib import Path


def failed_path(output: Path) -> Path:
    """Where the failed rows of an output go: labels.failed.jsonl for labels.csv."""
    return output.with_name(f"{output.stem}.failed.jsonl")


def simulated_path(output: Path) -> Path:
    """Where simulated rows go in place of real ones: labels.simulated.csv for labels.csv."""
    return output.with_name(f"{output.stem}.simulated{output.suffix}")


def part_path(output: Path) -> Path:
    """Where an output grows: labels.csv.part for labels.csv."""
    return output.with_name(output.name + ".part")


def companions(output: Path) -> list[Path]:
    """Every file beside the output that a run may write, replace or remove."""
    simulated = simulated_path(output)
    whole = [output, failed_path(output), simulated, failed_path(simulated)]
    return [*whole[1:], *map(part_path, whole)]
