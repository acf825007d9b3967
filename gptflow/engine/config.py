"""The API keys: config.json, or the environment that stands in for it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gptflow.engine import jsonc
from gptflow.engine.config_file import DEFAULT_BASE_URL, ConfigFile, KeyItem
from gptflow.engine.config_problems import (
    VARIABLE,
    Problem,
    close_to,
    filled,
    name_of,
    shown,
    validated,
)
from gptflow.engine.secret import Secret
from gptflow.errors import ConfigError

DEFAULT_PATH = Path("config.json")
LARGEST_FILE = 1_000_000
_SHORTEST_KEY = 16
"""Characters. What is shorter is a word for a server that asks for no key."""

_FORM = 'it should read {"key_list": [{"api_key": "..."}]}'
_HOW_TO_NAME = "--config on the command line, config_path= in Python"
_READ_HINTS = {
    errno.ENOENT: 'write {"key_list": [{"api_key": "..."}]} into it, or name another: '
    + _HOW_TO_NAME,
    errno.EISDIR: f"name the file in it, FOLDER/config.json: {_HOW_TO_NAME}",
    errno.EACCES: "whoever runs gptflow must be able to read it",
}
_DOUBLE_QUOTES = 'JSON wants double quotes: "api_key"'
_SYNTAX_HINTS = {
    "Expecting property name enclosed in double quotes": 'it begins like this: {"key_list": ...',
    "Expecting ',' delimiter": "a comma is missing, or a bracket",
    "Invalid control character at": "a text ends on the line that it begins on",
}
_OTHER_QUOTES = frozenset("'`‘’“”«»")  # noqa: RUF001  # what editors and Python put in their place


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

    @property
    def host(self) -> str:
        """The host of the base URL, with the port if it names one. Safe to show."""
        return urlsplit(self.base_url).netloc.lower()

    @property
    def account(self) -> tuple[str, str | Secret]:
        """What the server counts its limits by: keys for which this is equal share them.

        Those are the keys of one organization at one host. Without an organization a key shares
        them only with itself, where it stands twice with different models.
        """
        return self.host, self.organization or self.api_key


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


def find_config(path: Path | None, environ: Mapping[str, str]) -> Config | None:
    """The configuration to use: `path` if given, else ./config.json, else the environment's.

    Raises:
        ConfigError: the first of these that exists is wrong.
    """
    # A link that leads nowhere is a mistake to tell, not the wish to use the environment.
    if path is None and not os.path.lexists(DEFAULT_PATH):
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
    read = validated({"key_list": [item]})
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
        ConfigError: it cannot be read, or is wrong; all its problems are named at once. It comes
            without the causes and frames that hold the file's text, for those who show such things.
    """
    try:
        return _load(path, environ)
    except ConfigError as error:
        problem = ConfigError(error.message, hint=error.hint)
    raise problem


def _load(path: Path, environ: Mapping[str, str]) -> Config:
    text, mode = _read(path)
    plain = jsonc.plain_json(text)
    problems: list[Problem] = []
    try:
        data = _decoded(path, plain)
        with_values = filled(data, environ, problems)
    except RecursionError:
        raise ConfigError(f"{path}: too many brackets inside each other") from None
    if not isinstance(data, dict) or "key_list" not in data:
        raise _no_key_list(path, data)
    read = validated(with_values)
    if not isinstance(read, ConfigFile):
        unfilled = {problem.path for problem in problems}  # there "${NAME}" itself was judged
        problems += [problem for problem in read if problem.path not in unfilled]
    if problems or not isinstance(read, ConfigFile):
        raise ConfigError(shown(path, plain, problems))
    config = _config(read, str(path))
    notes = (*config.notes, *_open_to_others(path, mode, data))
    is_file = stat.S_ISREG(mode)  # a pipe is read once, and never changes
    return dataclasses.replace(config, path=path if is_file else None, notes=notes)


def _read(path: Path) -> tuple[str, int]:
    """The text of a file, and its mode."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        hint = _READ_HINTS.get(error.errno or 0)
        raise ConfigError(f"{path}: {error.strerror or error}", hint=hint) from None
    if len(raw) > LARGEST_FILE:
        raise ConfigError(f"{path}: more than {LARGEST_FILE:,} bytes are no configuration")
    try:
        return raw.decode("utf-8-sig"), mode
    except UnicodeDecodeError as error:
        told = f"{path}: not UTF-8 (byte {error.start})"
        raise ConfigError(told, hint="save the file as UTF-8") from None


def _decoded(path: Path, plain: str) -> Any:
    if not plain.strip():
        raise ConfigError(f"{path}: is empty", hint=_FORM)
    try:
        return jsonc.decode(plain)
    except json.JSONDecodeError as error:
        told = f"{path}:{error.lineno}:{error.colno}: {error.msg}"
        is_misquoted = plain[error.pos : error.pos + 1] in _OTHER_QUOTES
        hint = _DOUBLE_QUOTES if is_misquoted else _SYNTAX_HINTS.get(error.msg)
        raise ConfigError(told, hint=hint) from None
    except jsonc.DuplicateNameError as error:
        line, column = jsonc.line_and_column(plain, jsonc.duplicate_at(plain))
        told = f"{path}:{line}:{column}: {error.args[0]!r} stands twice in one object"
        raise ConfigError(told) from None
    except ValueError:
        raise ConfigError(f"{path}: a number has too many digits") from None


def _no_key_list(path: Path, data: Any) -> ConfigError:
    close = close_to("key_list", data) if isinstance(data, dict) else None
    hint = f"{_FORM}; if this file belongs to another program, name yours: {_HOW_TO_NAME}"
    return ConfigError(
        f"{path}: there is no 'key_list'", hint=f"did you mean it by {close!r}?" if close else hint
    )


def _open_to_others(path: Path, mode: int, data: dict[str, Any]) -> Iterator[str]:
    """A note if more people than the owner can read a key in the file."""
    bits = stat.S_IMODE(mode)
    readable = stat.S_ISREG(mode) and os.name == "posix" and bits & (stat.S_IRGRP | stat.S_IROTH)
    if readable and any(_is_literal(item["api_key"]) for item in data["key_list"]):
        who = "every user of this machine" if bits & stat.S_IROTH else "its group"
        mend = f"chmod 600 {shlex.quote(str(path))}"
        yield f"{path}: {who} can read the keys in it (mode {bits:03o}); {mend}"


def _is_literal(api_key: str) -> bool:
    """Whether a key stands in the file itself, and is one: "none" is not."""
    return not VARIABLE.search(api_key) and len(api_key.strip()) >= _SHORTEST_KEY


def _config(read: ConfigFile, origin: str) -> Config:
    entries: dict[KeyEntry, KeyEntry] = {}
    notes = []
    for index, item in enumerate(read.key_list):
        entry = _entry(item, index)
        first = entries.setdefault(_nameless(entry), entry)
        if first is not entry:
            notes.append(f"{entry.name} is the same as {first.name}, and is left out")
    start = _nameless(_entry(read.key_list[read.key_index], read.key_index))
    return Config(tuple(entries.values()), list(entries).index(start), origin, tuple(notes))


def _entry(item: KeyItem, index: int) -> KeyEntry:
    headers = (item.headers or {}).items()
    return KeyEntry(
        name=name_of(item.name, index),
        api_key=Secret(item.api_key),
        base_url=item.base_url,
        organization=item.organization,
        models=tuple(item.models or ()),
        rpm=item.rpm,
        tpm=item.tpm,
        concurrency=item.concurrency,
        headers=tuple((name.lower(), Secret(value)) for name, value in headers),
        timeout_s=item.timeout_s,
    )


def _nameless(entry: KeyEntry) -> KeyEntry:
    """What makes two entries the same key: all that decides what a server makes of a request."""
    return KeyEntry(
        name="",
        api_key=entry.api_key,
        base_url=entry.base_url,
        organization=entry.organization,
        models=entry.models,
        headers=entry.headers,
    )
