"""What the tests of modes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.modes.ray_nodes import Nodes, two_nodes


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A Ray cluster. It takes seconds to begin: all tests have the same."""
    with two_nodes() as made:
        yield made
