"""The hooks of a spec: all of them found, named and loaded, with a problem for each that cannot be.

Nothing is run before all are named, and nothing at all while one of them cannot be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gptflow.pipeline.hook import BadHook, Hook, find_hook, load_hook
from gptflow.pipeline.hook_file import PythonAccess
from gptflow.pipeline.texts import shown_path
from gptflow.spec.hook import HookAt, hooks_in
from gptflow.spec.model import Spec
from gptflow.spec.origin import KeyPath
from gptflow.spec.problems import Problem

NO_ACCESS = PythonAccess()


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a spec by the place of their names, as far as they can be used."""

    by_path: dict[KeyPath, Hook] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def at(self, *path: str | int) -> Hook | None:
        """The hook that is named there; None where there is none, or a problem instead."""
        return self.by_path.get(path)


def load_hooks(
    spec: Spec, access: PythonAccess, announce: Callable[[str], object] | None = None
) -> Hooks:
    """The hooks of a spec, loaded.

    Args:
        spec: the spec.
        access: what its hooks may do.
        announce: told which functions of which files will run, before anything of them does.
    """
    named = list(hooks_in(spec))
    if not named:
        return Hooks()
    files: dict[str, Path | None] = {}
    problems = []
    for hook in named:
        try:
            files[hook.name] = find_hook(hook.name, access)
        except BadHook as bad:
            problems.append(_problem(spec, hook, bad))
    if problems:
        return Hooks(problems=tuple(problems))
    for line in _lines(named, files):
        if announce is not None:
            announce(line)
    return _loaded(spec, named, access)


def _loaded(spec: Spec, named: Sequence[HookAt], access: PythonAccess) -> Hooks:
    hooks: dict[KeyPath, Hook] = {}
    problems = []
    for hook in named:
        try:
            hooks[hook.path] = load_hook(hook.name, hook.role, access)
        except BadHook as bad:
            problems.append(_problem(spec, hook, bad))
    return Hooks(hooks, tuple(problems))


def _problem(spec: Spec, hook: HookAt, bad: BadHook) -> Problem:
    return Problem(str(bad), spec.origin.place(hook.path), bad.hint)


def _lines(named: Sequence[HookAt], files: dict[str, Path | None]) -> Iterator[str]:
    """Which functions run, by their files."""
    for name in dict.fromkeys(hook.name for hook in named):
        file = files[name]
        yield f"runs {name} of {shown_path(file) if file else 'Python itself'}"
