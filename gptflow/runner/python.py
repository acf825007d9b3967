"""The user's own Python in a run: what allows it, who is told, and what it makes of a source."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from gptflow.data.sources.source import Source
from gptflow.data.transform import TransformedSource
from gptflow.errors import DataError
from gptflow.pipeline.hook import Hook, HookFault
from gptflow.pipeline.hook_file import PythonAccess
from gptflow.pipeline.hook_value import rows_of
from gptflow.pipeline.hooks_of_spec import NO_ACCESS
from gptflow.records import Columns


@dataclass(frozen=True, slots=True)
class Python:
    """What a person has said of the Python code that a spec names."""

    access: PythonAccess = NO_ACCESS
    announce: Callable[[str], object] | None = None
    """Told which functions will run, before they do."""

    @classmethod
    def of(
        cls,
        *,
        allow: bool,
        folders: Sequence[str | os.PathLike[str]] = (),
        announce: Callable[[str], object] | None = None,
    ) -> Self:
        """`folders`: where modules are looked for too, as a person names them."""
        return cls(PythonAccess.of(is_allowed=allow, folders=folders), announce)


NO_PYTHON = Python()


def transformed(source: Source, hook: Hook) -> TransformedSource:
    """The source with a function's rows in place of its records."""

    def transform(columns: Columns) -> list[Columns]:
        try:
            return hook.taken(rows_of, hook.call(columns))
        except HookFault as fault:
            raise DataError(f"{fault} (source.transform)") from None

    return TransformedSource(source, transform, f"{hook.name}:{hook.digest}")
