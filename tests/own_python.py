"""Modules of a test's own, which are imported in the process of all tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch


@contextmanager
def forgotten_afterwards(folder: Path) -> Iterator[None]:
    """Whatever is imported from below the folder meanwhile was never imported afterwards."""
    with patch.object(sys, "path", [*sys.path]):
        try:
            yield
        finally:
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                    del sys.modules[name]
