"""Arrow, which reads and writes Parquet: an optional package, loaded when a file needs it."""

from __future__ import annotations

from typing import Any

from gptflow.errors import MissingExtra


def load_arrow() -> Any:
    """The package pyarrow, with its submodules `compute` and `parquet`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Parquet", "parquet") from None
    return pyarrow
