from __future__ import annotations

import subprocess
import sys

import pytest

import gptflow

NAMES = [
    "ConfigError",
    "DataError",
    "GPTWrapper",
    "GptflowError",
    "LarkBot",
    "LarkError",
    "RunStopped",
    "RunSummary",
    "ServerChoice",
    "Spec",
    "SpecError",
    "StoreError",
    "UsageError",
    "__version__",
    "lark_sender",
    "load_spec",
    "run",
]


def test_the_public_names_are_these_and_in_order() -> None:
    assert gptflow.__all__ == NAMES == sorted(NAMES)
    assert dir(gptflow) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported_and_is_the_real_thing(name: str) -> None:
    value = getattr(gptflow, name)
    assert getattr(value, "__name__", name) == name


def test_public_errors_are_one_family() -> None:
    errors = [getattr(gptflow, name) for name in NAMES if name.endswith("Error")]
    assert all(issubclass(error, gptflow.GptflowError) for error in errors)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'rnu'"):
        _ = gptflow.rnu


def test_importing_gptflow_loads_no_other_package() -> None:
    program = """
import sys
before = set(sys.modules)
import gptflow
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - sys.stdlib_module_names))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["gptflow"]
