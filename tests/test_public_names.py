from __future__ import annotations

import subprocess
import sys
import time

import pytest

import gptflow

NAMES = [
    "ConfigError",
    "DataError",
    "GPTWrapper",
    "GptflowError",
    "LarkBot",
    "LarkError",
    "PromptsFailed",
    "RunStopped",
    "RunSummary",
    "ServerChoice",
    "Spec",
    "SpecError",
    "StoreError",
    "UsageError",
    "WorkerFailed",
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


def loaded(program: str) -> set[str]:
    """The packages that a program loads, those of the standard library left out."""
    listing = f"import sys\nbefore = set(sys.modules)\n{program}\nprint(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names


def test_importing_gptflow_loads_no_other_package() -> None:
    assert loaded("import gptflow") == {"gptflow"}


def test_importing_gptflow_is_quick() -> None:
    def took_s(program: str) -> float:
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        return time.perf_counter() - began_s

    # By turns, and the quickest of each: what else the machine does must not decide.
    pairs = [(took_s("pass"), took_s("import gptflow")) for _ in range(10)]
    bare_s, imported_s = (min(times) for times in zip(*pairs, strict=True))
    assert imported_s - bare_s < 0.02


@pytest.mark.parametrize("name", ["GPTWrapper", "LarkBot", "lark_sender", "LarkError"])
def test_the_names_of_the_library_load_no_heavy_package(name: str) -> None:
    heavy = {"openai", "pydantic", "pyreqwest", "requests", "watchdog", "jinja2"}
    assert loaded(f"from gptflow import {name}") & heavy == set()
