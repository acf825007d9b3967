"""A recipe: all that a plan is compiled from. It pickles, which compiled templates do not."""

from __future__ import annotations

from dataclasses import dataclass

from gptflow.pipeline.hook_file import PythonAccess
from gptflow.pipeline.spec_files import SpecFiles
from gptflow.spec.model import Spec


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a plan travels as. It gives the same plan wherever it is compiled.

    But for functions of a person's own: these are imported where they are to run.
    """

    spec: Spec
    columns: tuple[str, ...] | None
    """Those of the source's first rows; None if they are not known."""
    server: str
    access: PythonAccess
    files: SpecFiles
