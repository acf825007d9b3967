"""Whole commands, as a user types them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import SPEC, Project, serving

__all__ = ["SPEC", "Project"]


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """SPEC with three reviews, and a server that answers it.

    `@pytest.mark.parametrize("project", [{...}], indirect=True)` changes the server's scenario.
    """
    with serving(tmp_path, getattr(request, "param", {})) as made:
        yield made
