"""A hook: a function of a person's own Python, found, looked at and called.

Each role has its form, and what can be known of a function before it is called is asked of it
here: that it is there, that it can be called, with how many arguments, and that it is not async
where nobody could wait for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gptflow.files import real
from gptflow.pipeline.hook_file import PythonAccess, digest_of_file, find_module, load_module
from gptflow.pipeline.hook_value import NotJson, a_kind
from gptflow.pipeline.texts import shown_path
from gptflow.spec.hook import Role
from gptflow.spec.problems import did_you_mean

T = TypeVar("T")

SECOND = {"step": "wrapper", "extractor": "row"}
"""What a hook may take besides its first argument, by role."""
_FIRST = {"step": "row", "extractor": "text", "transform": "row"}
MOST_TOLD = 500
"""Characters of an exception's text in a message."""


class BadHook(Exception):
    """A hook that cannot be used as the spec names it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class HookFault(Exception):
    """A hook has raised something, or has given what it must not. `str()` is for a person."""

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        super().__init__(message)
        self.error = error
        """What it has raised."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A function of a person's, ready to be called."""

    name: str
    """As the spec names it: module:function."""
    role: Role
    function: Callable[..., Any]
    file: str
    """Where it is defined; empty where Python does not say."""
    digest: str
    """Hex, of the files that the module and the function stand in."""
    takes_second: bool
    """Whether it is called with what SECOND names, too."""
    is_async: bool

    def start(self, first: Any, second: Any = None) -> Any:
        """What the function gives; a coroutine if it is async. Raises whatever it raises."""
        return self.function(first, second) if self.takes_second else self.function(first)

    def call(self, first: Any, second: Any = None) -> Any:
        """What the function gives, if it is not async.

        Raises:
            HookFault: it has raised something, whatever it is: SystemExit, too.
            Interrupted: a signal has come meanwhile.
            ValueError: the same, of the hook of an extractor: the reply is not valid.
        """
        try:
            return self.start(first, second)
        except BaseException as error:
            if is_signal(error) or (isinstance(error, ValueError) and self.role == "extractor"):
                raise
            raise self.fault(error) from None

    def taken(self, take: Callable[[Any], T], given: Any) -> T:
        """What `take` makes of a value of the function, which may be of the person's own classes.

        Raises:
            HookFault: `take` says NotJson, or the value raises something when it is looked at.
        """
        try:
            return take(given)
        except NotJson as wrong:
            raise self.wrong_shape(str(wrong)) from None
        except BaseException as error:
            if is_signal(error):
                raise
            raise self.fault(error) from None

    def fault(self, error: BaseException) -> HookFault:
        """What a person is told of an exception of the function: its type, text and place."""
        text = text_of(error)
        told = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return HookFault(f"{self.name}: {told}{_place(error, self.file)}", error)

    def wrong_shape(self, what: str) -> HookFault:
        """What a person is told of a value that the function must not give."""
        return HookFault(f"{self.name} gave {what}")


def is_signal(error: BaseException) -> bool:
    """Whether it is gptflow's own word of a signal, and no exception of the person's code."""
    return isinstance(error, KeyboardInterrupt) and type(error) is not KeyboardInterrupt


def text_of(error: BaseException) -> str:
    """The text of an exception in one line, as long as a message has room for."""
    try:
        text = " ".join(str(error).split())
    except BaseException as worse:  # noqa: BLE001  # its class is a person's own
        return f"(its text cannot be had: {type(worse).__name__})"
    return text if len(text) <= MOST_TOLD else f"{text[:MOST_TOLD]} ..."


def find_hook(name: str, access: PythonAccess) -> Path | None:
    """The file of a hook's module; None where it has none. Nothing of it runs.

    Raises:
        BadHook: hooks are not allowed, or there is no such module.
    """
    module = name.partition(":")[0]
    if not access.is_allowed:
        raise BadHook(
            f"{name} is Python code, which runs as you do",
            f"look at what it does, then say --allow-python{_where(module, access)}",
        )
    access.enter()
    found = find_module(module)
    if found is None:
        folders = ", ".join(access.folders)
        raise BadHook(
            f"there is no Python module {module!r} ({name})",
            f"it is in none of {folders}, nor installed"
            if folders
            else "--python-path DIR names the folder that it is in; the spec's is not looked in",
        )
    return Path(found.origin) if found.has_location and found.origin else None


def load_hook(name: str, role: Role, access: PythonAccess) -> Hook:
    """Imports a hook's module, which runs it, and looks at the function.

    Raises:
        BadHook: it cannot be imported, or the function does not fit its role.
    """
    file = find_hook(name, access)
    module_name, _, path = name.partition(":")
    try:
        found: Any = load_module(module_name, file)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a module raises, a person is told
        told = f"{type(error).__name__}: {error}"[:MOST_TOLD]
        message = f"{module_name} cannot be imported: {told}{_place(error, str(file or ''))}"
        raise BadHook(message) from None
    for part in path.split("."):
        owner, found = found, getattr(found, part, None)
        if found is None:
            near = did_you_mean(part, [n for n in dir(owner) if not n.startswith("_")])
            where = shown_path(real(file)) if file else module_name
            message = f"{where} has no function {path!r} ({name})"
            raise BadHook(message, f"did you mean {near!r}?" if near else None)
    if not callable(found):
        raise BadHook(f"{name} is no function, it is {a_kind(found)}")
    own = _source(found) or file
    files = [each for each in dict.fromkeys((file, own)) if each]
    digest = b"".join(map(digest_of_file, files)).hex()
    is_async = _is_async(found, name, role)
    second = _takes_second(found, name, role)
    return Hook(name, role, found, str(own or ""), digest, second, is_async)


def _where(module: str, access: PythonAccess) -> str:
    is_told = access.folders or find_module(module.partition(".")[0])
    return "" if is_told else " and --python-path DIR, the folder that it is in"


def _is_async(function: Any, name: str, role: Role) -> bool:
    called = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004  # its method, not whether it has one
    if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
        raise BadHook(f"{name} yields, and a hook returns what it gives")
    is_async = inspect.iscoroutinefunction(called)
    if is_async and role != "step":
        raise BadHook(f"{name} is async; only the hook of a step may be", "write it with def")
    return is_async


def _takes_second(function: Any, name: str, role: Role) -> bool:
    """Whether the function wants a second argument: it needs one, or calls it by its name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C: it cannot be known
        return False
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in by_place if p.default is p.empty]
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    most = 2 if role in SECOND else 1
    if named or len(needed) > most or (not by_place and not is_open):
        forms = [f"({_FIRST[role]})", *([f"({_FIRST[role]}, {SECOND[role]})"] if most > 1 else [])]
        told = f"{name}{inspect.signature(function)}" if inspect.isroutine(function) else name
        raise BadHook(f"{told} does not fit: it is called with {' or '.join(forms)}")
    wants = len(by_place) > 1 and by_place[1].name == SECOND.get(role)
    return len(needed) == 2 or wants


def _source(function: Any) -> Path | None:
    """The file in which a function is defined, which may be another than that of its module."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # built in, or an object
        file = inspect.getsourcefile(type(function)) if _is_of_python(type(function)) else None
    return Path(file) if file else None


def _is_of_python(kind: type) -> bool:
    return kind.__module__ not in ("builtins", "functools") and hasattr(kind, "__dict__")


def _place(error: BaseException, file: str) -> str:
    """Where an exception was raised: the innermost line of the hook's file, else of any file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({shown_path(Path(error.filename))}:{error.lineno})"
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    own = [(name, line) for name, line in lines if file and Path(name) == Path(file)]
    if not own:
        return ""
    name, line = own[-1]
    return f" ({shown_path(Path(name))}:{line})"
