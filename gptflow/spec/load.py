"""From a file to a spec, with all that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gptflow.errors import UsageError
from gptflow.spec.check import file_problems, model_problems, name_problems, workers_problems
from gptflow.spec.environment import Expanded, expand
from gptflow.spec.expectation import found
from gptflow.spec.model import Spec
from gptflow.spec.node import MapNode, Node, Sheet, data_of
from gptflow.spec.origin import Origin, value_at
from gptflow.spec.overrides import apply_overrides, override_texts
from gptflow.spec.parameters import parameter_problems, read_numbers
from gptflow.spec.problems import Place, Problem, did_you_mean, in_order, place_in_text
from gptflow.spec.salvage import salvage
from gptflow.spec.scalar import resolve_plain
from gptflow.spec.shape import shape_problems, wrong_paths
from gptflow.spec.veil import (
    may_hold_secrets,
    veiled_change,
    veiled_data,
    veiled_file,
    veiled_problems,
)
from gptflow.spec.yaml12 import read_yaml

MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Draft:
    """A spec that may have problems."""

    spec: Spec | None
    """With problems of shape, what could be salvaged; None if that is nothing."""
    problems: list[Problem]
    knows_source: bool = True
    """Whether the spec's source is the file's, and not a stand-in for one that is wrong."""


def read_spec(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Draft:
    """Reads a spec as far as it can be read, for callers who check more before they report.

    Args:
        path: the file.
        overrides: `path=value` each, the value in YAML, as --set has them.
        values: the same from Python: plain data by dotted path. `overrides` win over them.
        environ: in place of the process's environment.

    Raises:
        UsageError: there is no such file.
    """
    sheet, problems = _read_file(Path(path), str(path))
    if problems:
        return Draft(None, veiled_problems(problems, sheet.text))
    written = _Written(sheet, (*override_texts(values or {}), *overrides))
    tree, problems = written.read()
    if not isinstance(tree, MapNode):
        problems = problems or [_not_a_mapping(sheet, tree and data_of(tree))]
        return Draft(None, veiled_problems(problems, sheet.text))
    data = data_of(tree)
    has_secrets = may_hold_secrets((sheet.text, *written.changes))
    if has_secrets:
        plain, unread = problems, "\n".join((sheet.text, *written.changes))
        written = written.veiled()
        tree, problems = written.read()
        if len(problems) < len(plain):  # such as a tag, which was veiled with the secret behind it
            problems = veiled_problems(plain, unread)
    origin = written.origin(Path(path), tree)
    expanded = expand(data, os.environ if environ is None else environ)
    draft = _checked(expanded, origin)
    told = in_order([*problems, *draft.problems])
    return replace(draft, problems=veiled_problems(told) if has_secrets else told)


@dataclass(frozen=True, slots=True)
class _Written:
    """A spec as a person wrote it: its file, and what --set changes."""

    sheet: Sheet
    changes: tuple[str, ...]

    def read(self) -> tuple[Node | None, list[Problem]]:
        """The tree with all changes, and the problems on the way to it."""
        tree, problems = read_yaml(self.sheet)
        if isinstance(tree, MapNode):
            problems += apply_overrides(tree, self.changes)
        return tree, problems

    def veiled(self) -> _Written:
        """The same without its secrets, for all that is shown or stored."""
        tree, _ = read_yaml(self.sheet)
        assert tree is not None  # it was read before
        return _Written(veiled_file(self.sheet, tree), tuple(map(veiled_change, self.changes)))

    def origin(self, path: Path, tree: Node | None) -> Origin:
        """Where everything in the tree stands."""
        return Origin(str(path), path.resolve().parent, self.sheet.text, tree, self.changes)


def _read_file(path: Path, shown: str) -> tuple[Sheet, list[Problem]]:
    """The file's text without a byte order mark."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if len(content) > MAX_BYTES:
        hint = "keep data in files of its own: source.path, {file: ...}"
        problem = Problem(f"larger than {MAX_BYTES:,} bytes", Place(shown, 0, 0), hint)
        return Sheet(shown, ""), [problem]
    try:
        return Sheet(shown, content.decode("utf-8-sig")), []
    except UnicodeDecodeError as error:
        text = content.decode("utf-8-sig", errors="replace")
        start = len(content[: error.start].decode("utf-8-sig"))
        place = place_in_text(shown, text, start)
        problem = Problem("this is not UTF-8", place, "save the file in the encoding UTF-8")
        return Sheet(shown, text), [problem]


def _unreadable(path: Path, error: OSError | ValueError) -> UsageError:
    if isinstance(error, IsADirectoryError):
        return UsageError(f"{path} is a folder", hint="name the spec's file in it")
    if not isinstance(error, FileNotFoundError):
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return UsageError(f"{path} cannot be read: {reason}")
    folder = path.parent
    names = sorted(file.name for file in folder.glob("*.y*ml")) if folder.is_dir() else []
    near = did_you_mean(path.name, names)
    if near:
        return UsageError(f"there is no file {path}", hint=f"did you mean {path.with_name(near)}?")
    listed = (
        f"{folder} has {', '.join(names)}" if names else f"{folder.resolve()} has no .yaml file"
    )
    return UsageError(f"there is no file {path}", hint=listed)


def _not_a_mapping(sheet: Sheet, data: Any) -> Problem:
    if data is None:
        hint = "it needs at least name, source, model and steps"
        return Problem("the file is empty", place_in_text(sheet.file, sheet.text, 0), hint)
    message = f"expected a mapping, found {found(data)}"
    hint = "a spec begins with a line such as `name: my-pipeline`"
    return Problem(message, place_in_text(sheet.file, sheet.text, 0), hint)


def _checked(expanded: Expanded, origin: Origin) -> Draft:
    """The spec of the data, and the problems of all checks."""
    data = expanded.data
    read_numbers(data, expanded.whole)
    problems = [
        Problem(
            f"the environment has no variable {missing.name}",
            origin.place(missing.path, offset=missing.offset, length=missing.length),
            f"export {missing.name}=...; to keep the text as it is, write $${{{missing.name}}}",
        )
        for missing in expanded.missing
    ]
    problems += [
        Problem(
            f"the variable {refused.name} looks like a key or a secret",
            origin.place(refused.path, offset=refused.offset, length=refused.length),
            "what a spec says goes to the model and into the store: keys belong in config.json; "
            "if it is none, give the variable another name",
        )
        for refused in expanded.refused
    ]
    problems += parameter_problems(data, origin)
    problems += name_problems(data, origin)
    problems += model_problems(data, origin)
    problems += workers_problems(data, origin)
    problems += file_problems(
        data, origin, {unread.path for unread in (*expanded.missing, *expanded.refused)}
    )
    spec: Spec | None
    knows_source = True
    try:
        spec = _validated(expanded)
    except ValidationError as error:
        problems += shape_problems(error, veiled_data(data), origin)
        spec, knows_source = salvage(data, error)
    if spec is not None:
        spec._origin = origin  # noqa: SLF001 (the loader is who knows it)
    return Draft(spec, problems, knows_source)


def _validated(expanded: Expanded) -> Spec:
    """The spec of the data. A variable's text is read as YAML where no text is expected."""
    try:
        return Spec.model_validate(expanded.data)
    except ValidationError as error:
        for path in wrong_paths(error, expanded.data) & expanded.whole:
            value_at(expanded.data, path[:-1])[path[-1]] = resolve_plain(
                value_at(expanded.data, path)
            )
        return Spec.model_validate(expanded.data)
