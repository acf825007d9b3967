"""The API keys: config.json, or the environment that stands in for it."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gptflow.engine import jsonc
from gptflow.engine.config_file import DEFAULT_BASE_URL, ConfigFile, KeyItem
from gptflow.engine.secret import Secret
from gptflow.errors import ConfigError

DEFAULT_PATH = Path("config.json")
_LARGEST_FILE = 1_000_000

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key with where it may be sent."""

    name: str
    """Unique within the configuration. Safe to show."""
    api_key: Secret
    base_url: str = DEFAULT_BASE_URL
    """Without a slash at its end."""
    organization: str | None = None
    models: tuple[str, ...] = ()
    """The models that it serves; none named means all."""
    rpm: int | None = None
    """Requests per minute that the key may send; None where only the server knows."""
    tpm: int | None = None
    """Tokens per minute; None where only the server knows."""
    concurrency: int | None = None
    """The most calls in flight; None for as many as go well."""
    headers: tuple[tuple[str, Secret], ...] = ()
    """Further headers of its requests: name in lower case, and value."""
    timeout_s: float | None = None
    """Deadline for one attempt, in place of the engine's."""


@dataclass(frozen=True, slots=True)
class Config:
    """All keys."""

    keys: tuple[KeyEntry, ...]
    start_index: int = 0
    """The key to begin with."""
    origin: str = ""
    """Where this comes from: the path of the file, or the name of the variable."""
    notes: tuple[str, ...] = ()
    """What is odd about it but no error: a run says it before its first call."""
    path: Path | None = None
    """The file that it was read from; None where the environment stood in for one."""


class _Problem(NamedTuple):
    path: jsonc.Path
    message: str
    hint: str | None = None
    at_name: bool = False


def find_config(path: Path | None, environ: Mapping[str, str]) -> Config | None:
    """The configuration to use: `path` if given, else ./config.json, else the environment's.

    Raises:
        ConfigError: the first of these that exists is wrong.
    """
    if path is None and not DEFAULT_PATH.exists():
        return config_from_environment(environ)
    return load_config(path or DEFAULT_PATH, environ)


def config_from_environment(environ: Mapping[str, str]) -> Config | None:
    """The one key of OPENAI_API_KEY, with OPENAI_BASE_URL and OPENAI_ORG_ID; None without a key."""
    if not environ.get("OPENAI_API_KEY"):
        return None
    names = {
        "api_key": "OPENAI_API_KEY",
        "base_url": "OPENAI_BASE_URL",
        "organization": "OPENAI_ORG_ID",
    }
    item = {field: environ[name] for field, name in names.items() if environ.get(name)}
    read = _validated({"key_list": [item]})
    if isinstance(read, ConfigFile):
        return _config(read, "OPENAI_API_KEY")
    raise ConfigError(
        "\n".join(f"{names[str(problem.path[-1])]} {problem.message}" for problem in read),
        hint="correct the environment variable, or write the key into config.json",
    )


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a file: JSON, in which comments and trailing commas may stand.

    `environ` fills in "${NAME}". The OPENAI_* variables play no part.

    Raises:
        ConfigError: it cannot be read, or is wrong; all its problems are named at once.
    """
    plain = jsonc.plain_json(_read(path))
    try:
        data = jsonc.decode(plain)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: {error.msg}") from None
    except jsonc.DuplicateNameError as error:
        raise ConfigError(f"{path}: {error.args[0]!r} stands twice in one object") from None
    except RecursionError:
        raise ConfigError(f"{path}: too many brackets inside each other") from None
    if not isinstance(data, dict) or "key_list" not in data:
        raise _no_key_list(path, data)
    problems: list[_Problem] = []
    filled = _filled(data, (), environ, problems)
    read = _validated(filled)
    if isinstance(read, ConfigFile) and not problems:
        return _config(read, str(path))
    problems += [] if isinstance(read, ConfigFile) else read
    placed = [
        (jsonc.locate(plain, problem.path, name=problem.at_name), problem) for problem in problems
    ]
    placed.sort(key=lambda one: one[0])
    raise ConfigError("\n\n".join(_shown(path, plain, *one) for one in placed))


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(raw) > _LARGEST_FILE:
        raise ConfigError(f"{path}: {len(raw):,} bytes are too much for a configuration")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start})") from None


def _no_key_list(path: Path, data: Any) -> ConfigError:
    close = _close("key_list", data) if isinstance(data, dict) else None
    hint = (
        f"did you mean it by {close!r}?"
        if close
        else (
            'it should read {"key_list": [{"api_key": "..."}]}; if this file belongs to another '
            "program, name yours with --config"
        )
    )
    return ConfigError(f"{path}: there is no 'key_list'", hint=hint)


def _filled(
    value: Any, path: jsonc.Path, environ: Mapping[str, str], problems: list[_Problem]
) -> Any:
    """`value` with every ${NAME} read from the environment; what is missing joins `problems`."""
    if isinstance(value, dict):
        return {k: _filled(v, (*path, k), environ, problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, (*path, i), environ, problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    problems += [
        _Problem(path, f"wants {name}, which the environment does not have", f"export {name}=...")
        for name in _VARIABLE.findall(value)
        if not environ.get(name)
    ]
    return _VARIABLE.sub(lambda match: environ.get(match[1]) or match[0], value)


def _validated(data: Any) -> ConfigFile | list[_Problem]:
    try:
        read = ConfigFile.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        return [_problem(detail) for detail in found]
    return list(_contradictions(read)) or read


def _problem(detail: ErrorDetails) -> _Problem:
    path = detail["loc"]
    match detail["type"]:
        case "extra_forbidden":
            known = KeyItem.model_fields if len(path) > 1 else ConfigFile.model_fields
            close = _close(str(path[-1]), known)
            hint = f"did you mean {close!r}?" if close else f"there are {', '.join(known)}"
            return _Problem(path, "is no key of this file", hint, at_name=True)
        case "missing":
            return _Problem(path, "is missing")
        case "value_error":
            return _Problem(path, detail["msg"].removeprefix("Value error, "), _hint(detail["msg"]))
        case _:
            return _Problem(path, f"is wrong: {detail['msg'][0].lower()}{detail['msg'][1:]}")


def _hint(message: str) -> str | None:
    if "placeholder" in message:
        return 'write the key in its place, or "${NAME}" to read it from the environment'
    return None


def _contradictions(read: ConfigFile) -> Iterator[_Problem]:
    if read.key_index >= len(read.key_list):
        last = len(read.key_list) - 1
        yield _Problem(("key_index",), f"is {read.key_index}, but the last key is {last}")
    unnamed = {_name(item, index) for index, item in enumerate(read.key_list) if not item.name}
    taken = set(unnamed)
    for index, item in enumerate(read.key_list):
        if item.name in taken:
            told = f"is {item.name!r}, as another key is called"
            why = "a key without a name is called after its place" if item.name in unnamed else None
            yield _Problem(("key_list", index, "name"), told, why)
        taken.add(_name(item, index))


def _name(item: KeyItem, index: int) -> str:
    return item.name or f"key {index + 1}"


def _config(read: ConfigFile, origin: str) -> Config:
    entries: dict[tuple[str, str, str | None], KeyEntry] = {}
    notes = []
    for index, item in enumerate(read.key_list):
        entry = KeyEntry(
            name=_name(item, index),
            api_key=Secret(item.api_key),
            base_url=item.base_url,
            organization=item.organization,
            models=tuple(item.models or ()),
        )
        first = entries.setdefault((item.api_key, item.base_url, item.organization), entry)
        if first is not entry:
            notes.append(f"{entry.name} is the same as {first.name}, and is left out")
    start = read.key_list[read.key_index]
    order = list(entries)
    start_index = order.index((start.api_key, start.base_url, start.organization))
    return Config(tuple(entries.values()), start_index, origin, tuple(notes))


def _close(name: str, candidates: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(candidates), n=1)), None)


def _shown(file: Path, plain: str, offset: int, problem: _Problem) -> str:
    """A problem as a person reads it. Never with the line itself, which may hold a key."""
    line, column = jsonc.line_and_column(plain, offset)
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.path)
    told = f"{file}:{line}:{column}: {''.join(parts).lstrip('.')} {problem.message}"
    return f"{told}\nHint: {problem.hint}" if problem.hint else told
