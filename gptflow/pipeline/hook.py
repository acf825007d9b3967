"""A hook: a function of a person's own Python, found, looked at and called.

Each role has its form, and what can be known of a function before it is called is asked of it
here: that it is there, that it can be called, with how many arguments, and that it is not async
where nobody could wait for it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from gptflow.files import real
from gptflow.pipeline.hook_file import PythonAccess, find_module
from gptflow.pipeline.hook_import import (
    NoDigest,
    digest_of,
    is_current,
    load_anew,
    load_module,
)
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
    second_name: str = ""
    """What the second argument is passed as; empty where it goes by its place."""

    def start(self, first: Any, second: Any = None) -> Any:
        """What the function gives; a coroutine if it is async. Raises whatever it raises."""
        if not self.takes_second:
            return self.function(first)
        if self.second_name:
            return self.function(first, **{self.second_name: second})
        return self.function(first, second)

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
    found = _find(name, access)
    return Path(found.origin) if found.has_location and found.origin else None


def _find(name: str, access: PythonAccess) -> ModuleSpec:
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
    return found


def load_hook(name: str, role: Role, access: PythonAccess) -> Hook:
    """Imports a hook's module, which runs it, and looks at the function.

    Raises:
        BadHook: it cannot be imported, or the function does not fit its role.
    """
    found = _find(name, access)
    try:
        return _looked_at(name, role, found)
    except (BadHook, KeyboardInterrupt):
        raise
    except NoDigest as error:
        raise BadHook(f"the code of {name} cannot be read: {error}") from None
    except BaseException as error:  # noqa: BLE001  # whatever an odd module raises, a person is told
        raise BadHook(f"{name} cannot be looked at: {_told(error, found)}") from None


def _looked_at(name: str, role: Role, found: ModuleSpec) -> Hook:
    module, digest = _loaded(found)
    function = _function(module, name)
    own = _module_of(function)
    if own is not module and not _is_of(function, own):
        load_anew(found, own.__spec__ if own else None)
        module, digest = _loaded(found)
        function = _function(module, name)
        own = _module_of(function)
        if not _is_of(function, own):
            told = f"{name} was imported before its file was edited"
            raise BadHook(told, "start Python anew")
    if own is not None and own is not module and own.__spec__:
        digest += digest_of(own.__spec__)
    file = str(_source(function) or found.origin or "")
    is_async = _is_async(function, name, role)
    takes_second, second_name = _second(function, name, role)
    return Hook(name, role, function, file, digest.hex(), takes_second, is_async, second_name)


def _loaded(found: ModuleSpec) -> tuple[ModuleType, bytes]:
    try:
        return load_module(found)
    except (NoDigest, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001  # whatever a module raises, a person is told
        raise BadHook(f"{found.name} cannot be imported: {_told(error, found)}") from None


def _told(error: BaseException, found: ModuleSpec) -> str:
    return f"{type(error).__name__}: {text_of(error)}{_place(error, str(found.origin))}"


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    """What the spec names, which can be called."""
    path = name.partition(":")[2]
    found: Any = module
    for part in path.split("."):
        owner, found = found, getattr(found, part, None)
        if found is None:
            near = did_you_mean(part, [n for n in dir(owner) if not n.startswith("_")])
            file = module.__spec__ and module.__spec__.has_location and module.__spec__.origin
            where = shown_path(real(Path(file))) if file else module.__name__
            message = f"{where} has no function {path!r} ({name})"
            raise BadHook(message, f"did you mean {near!r}?" if near else None)
    if not callable(found):
        raise BadHook(f"{name} is no function, it is {a_kind(found)}")
    function: Callable[..., Any] = found
    return function


def _module_of(function: Any) -> ModuleType | None:
    """The module that a function is defined in, as it was imported last."""
    own = _definition(function)
    return None if own is None else sys.modules.get(str(own.__module__))


def _is_of(function: Any, own: ModuleType | None) -> bool:
    """Whether the function is of the module as it is now, in its file too."""
    if own is None:
        return True
    names = getattr(_definition(function), "__globals__", own.__dict__)
    return names is own.__dict__ and is_current(own)


def _definition(function: Any) -> Any:
    """The function or class whose code it is; None where Python itself has it."""
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    if inspect.ismethod(function):
        function = function.__func__
    if inspect.isfunction(function):
        return function
    kind = function if inspect.isclass(function) else type(function)
    return kind if _is_of_python(kind) else None


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


def _second(function: Any, name: str, role: Role) -> tuple[bool, str]:
    """Whether the function wants a second argument: it needs one, or calls it by its name.

    And the name that it must be passed by; empty where its place is the second.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C: it cannot be known
        return False, ""
    word = SECOND.get(role, "")
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in by_place if p.default is p.empty]
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    named = [p for p in by_name if p.default is p.empty and p.name != word]
    most = 2 if role in SECOND else 1
    if named or len(needed) > most or (not by_place and not is_open):
        forms = [f"({_FIRST[role]})", *([f"({_FIRST[role]}, {SECOND[role]})"] if most > 1 else [])]
        told = f"{name}{inspect.signature(function)}" if inspect.isroutine(function) else name
        raise BadHook(f"{told} does not fit: it is called with {' or '.join(forms)}")
    if len(needed) == 2 or (len(by_place) > 1 and by_place[1].name == word):
        return True, ""
    elsewhere = [p for p in (*by_place[1:], *by_name) if p.name == word]
    is_offered = bool(elsewhere) and elsewhere[0].kind is not elsewhere[0].POSITIONAL_ONLY
    return is_offered, word if is_offered else ""


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
