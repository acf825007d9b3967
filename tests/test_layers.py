"""The rooms of the house import downward only, without cycles: docs/architecture.md says so."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import gptflow

PACKAGE = Path(gptflow.__file__).parent

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "flock": set(),
    "files": set(),
    "spec": {"errors", "files"},
    "pipeline": {"errors", "records", "files", "spec"},
    "engine": {"errors", "records"},
    "notify": {"errors"},
    "wrapper": {"errors", "records", "flock", "files", "engine", "notify"},
    "store": {"errors", "records", "files"},
    "mock": {"errors", "records", "spec"},
    "data": {"errors", "records", "flock", "files", "spec"},
    "runner": {
        "errors",
        "records",
        "flock",
        "files",
        "spec",
        "pipeline",
        "engine",
        "notify",
        "wrapper",
        "store",
        "mock",
        "data",
    },
    "cli": {
        "errors",
        "records",
        "flock",
        "files",
        "spec",
        "pipeline",
        "engine",
        "notify",
        "wrapper",
        "store",
        "mock",
        "data",
        "runner",
    },
}
"""What each room may import beside itself.

`mock` reads its scenarios with `spec`'s YAML reader. `runner` takes from `wrapper` how a person's
function says what it asks: as GPTWrapper has it. `cli` is imported by nothing.
"""

ANNOTATIONS_ONLY = {("errors", "records"), ("errors", "spec")}
"""The error tree names these types in annotations, under TYPE_CHECKING."""

HEAVY = {
    "genai_prices",
    "grpc",
    "jsonschema",
    "jsonschema_rs",
    "openai",
    "pyarrow",
    "ray",
    "requests",
    "rich",
    "uvicorn",
    "uvloop",
    "watchdog",
    "xllamacpp",
    "zstandard",
}
"""Third-party packages that may load late, each inside the module that uses it."""

HEAVY_MODULES = {
    "gptflow.cli.main": "loads click; signals are heeded before",
    "gptflow.engine.batch_api": "loads openai",
    "gptflow.engine.exceptions": "loads openai",
    "gptflow.engine.forked_client": "loads openai",
    "gptflow.mock.document": "a paid run needs no simulator",
    "gptflow.mock.scenario": "a paid run needs no simulator",
    "gptflow.mock.server": "a paid run needs no simulator",
    "gptflow.runner.local": "a paid run needs no local model",
    "gptflow.wrapper.pipelines": "builds wrappers itself, for a method of the wrapper",
    "gptflow.wrapper.shared_engine": "loads pydantic and the wire",
    "gptflow.wrapper.single_round": "builds wrappers itself, for a method of the wrapper",
}
"""Modules of ours that may load late, with the reason."""


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Every module of the package: its dotted name, its file, its tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path, ast.parse(path.read_text())


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module]
    return []


def test_a_room_imports_only_from_rooms_above_it() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}: {target}"
        for module, path, tree in modules()
        if (room := room_of(module)) in ALLOWED
        for node in ast.walk(tree)
        for target in imported(node)
        if target.startswith("gptflow.")
        and room_of(target) not in ALLOWED[room] | {room, "__main__"}
        and (room, room_of(target)) not in ANNOTATIONS_ONLY
    ]
    assert wrong == []


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(module) for module, _, _ in modules()} - {"", "__main__"}
    assert rooms == set(ALLOWED)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {}
    known = {module for module, _, _ in modules()}
    for module, _, tree in modules():
        targets = {target for node in tree.body for target in imported(node)}
        graph[module] = {t for t in targets if t in known and t != module}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the cycle


def test_only_what_is_heavy_loads_late() -> None:
    late = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {target}"
        for module, path, tree in modules()
        if room_of(module) not in ("", "cli")
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for target in imported(node)
        if target.split(".")[0] not in HEAVY | sys.stdlib_module_names
        and target not in HEAVY_MODULES
    ]
    assert late == []
