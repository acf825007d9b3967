"""What is wrong with a config.json: found all at once, and said with line, column and hint.

A message never shows a value: more often than not it is a key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gptflow.engine import jsonc
from gptflow.engine.config_file import ConfigFile, KeyItem

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""What the environment fills in."""

_MOST_SHOWN = 50
_ENTRY = '{"api_key": "..."}'
_FILL_IN = 'write the key in its place, or "${NAME}" to read it from the environment'
_HINTS = {
    "is a placeholder, not a key": _FILL_IN,
    "is a placeholder, not an organization": "leave it out where the key has only one",
    "is not a URL that begins with http:// or https://": 'such as "http://localhost:8000/v1"',
    "holds the path of an endpoint, which gptflow adds itself": "leave off /chat/completions, "
    "/completions, /responses or /models",
    "begins with '$'": 'a variable of the environment is written "${NAME}", in letters, digits '
    "and _",
    "is a header that gptflow sets itself": "the key belongs in api_key",
}
_WORDS = {
    "missing": "is missing",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
    "greater_than_equal": "is below {ge}",
    "greater_than": "is not above {gt:g}",
    "less_than_equal": "is above {le:,.0f}",
    "string_type": "is not text",
    "list_type": "is not a list",
    "model_type": "is not an object",
    "dict_type": "is not an object",
}
"""What pydantic says, in words for somebody who has never heard of it."""
_MEANT = {
    "api_base": "base_url",
    "endpoint": "base_url",
    "key": "api_key",
    "max_concurrency": "concurrency",
    "org": "organization",
    "token": "api_key",
    "url": "base_url",
}
"""Names that others use for what we have under another, too far from it to be taken for a slip."""


class Problem(NamedTuple):
    """One thing that is wrong."""

    path: jsonc.Path
    message: str
    """What is said of the value, after its path: "is missing"."""
    hint: str | None = None
    at_name: bool = False
    """Whether the member's name is wrong, not its value."""


def name_of(name: str | None, index: int) -> str:
    """What the key at a place of `key_list` is called."""
    return name or f"key {index + 1}"


def filled(value: Any, environ: Mapping[str, str], problems: list[Problem]) -> Any:
    """`value` with every ${NAME} read from the environment; what is missing joins `problems`."""
    return _filled(value, (), environ, problems)


def _filled(
    value: Any, path: jsonc.Path, environ: Mapping[str, str], problems: list[Problem]
) -> Any:
    if isinstance(value, dict):
        return {k: _filled(v, (*path, k), environ, problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, (*path, i), environ, problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    problems += [
        Problem(path, f"wants {name}, which {_lack(name, environ)}", f"export {name}=...")
        for name in VARIABLE.findall(value)
        if not environ.get(name)
    ]
    return VARIABLE.sub(lambda match: environ.get(match[1]) or match[0], value)


def _lack(name: str, environ: Mapping[str, str]) -> str:
    return "is empty in the environment" if name in environ else "the environment does not have"


def validated(data: Any) -> ConfigFile | list[Problem]:
    """The file's content as the model has it, or all that is wrong with it."""
    found = list(_contradictions(data))
    try:
        read = ConfigFile.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return found + list(_without_echoes([_problem(detail) for detail in details]))
    return found or read


def _without_echoes(problems: list[Problem]) -> Iterator[Problem]:
    """The problems, but no "api_key is missing" where it is there as apikey."""
    meant = {
        (*p.path[:-1], close_to(str(p.path[-1]), _names(KeyItem))) for p in problems if p.at_name
    }
    return (p for p in problems if p.message != _WORDS["missing"] or p.path not in meant)


def _problem(detail: ErrorDetails) -> Problem:
    path = detail["loc"]
    at_name = path[-1] == "[key]"
    if at_name:
        path = path[:-1]
    if detail["type"] == "extra_forbidden":
        return Problem(path, "is no key of this file", _known(path), at_name=True)
    if detail["type"] == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        return Problem(path, message, _HINTS.get(message), at_name)
    return Problem(path, _words(detail), _form(path, detail["type"]))


def _words(detail: ErrorDetails) -> str:
    words = _WORDS.get(detail["type"])
    if words:
        return words.format(**detail.get("ctx", {}))
    return f"is wrong: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _form(path: jsonc.Path, kind: str) -> str | None:
    """The form that a value should have, where a person may not know it."""
    match kind, path:
        case "model_type", ("key_list", int()):
            return f"each key is an object: {_ENTRY}"
        case (("list_type" | "too_short"), ("key_list",)):
            return f"it should read [{_ENTRY}]"
        case "list_type", (*_, "models"):
            return 'put the name into brackets: ["..."]'
        case "too_short", (*_, "models"):
            return "leave it out where the key serves all models"
        case "dict_type", (*_, "headers"):
            return 'it should read {"Name": "value"}'
        case _:
            return None


def _known(path: jsonc.Path) -> str:
    """The hint for a name that this place does not know."""
    here, other = (KeyItem, ConfigFile) if len(path) > 1 else (ConfigFile, KeyItem)
    name, known = str(path[-1]), _names(here)
    if name in _names(other):
        return (
            f"it stands in each key of key_list: {_ENTRY}"
            if here is ConfigFile
            else ("it stands beside key_list, not in a key")
        )
    close = close_to(name, known)
    return f"did you mean {close!r}?" if close else f"there are {', '.join(known)}"


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def close_to(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a slip of, or another word for."""
    by_plain = {_plain(candidate): candidate for candidate in candidates}
    meant = _MEANT.get(name.lower())
    if meant and _plain(meant) in by_plain:
        return meant
    close = difflib.get_close_matches(_plain(name), by_plain, n=1)
    return by_plain[close[0]] if close else None


def _plain(name: str) -> str:
    """A name as people vary it: baseUrl, base-url and BASE_URL are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _contradictions(data: Any) -> Iterator[Problem]:
    """What no single value is to blame for. Looks only at what has the right shape."""
    listed = data.get("key_list") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        return
    index = data.get("key_index")
    if type(index) is int and index >= len(listed) > 0:
        yield Problem(("key_index",), f"is {index:,}, but the last key is {len(listed) - 1:,}")
    items = [item if isinstance(item, dict) else {} for item in listed]
    yield from _shared_names([_text(item.get("name")) for item in items])
    for place, item in enumerate(items):
        yield from _headers_set_twice(("key_list", place, "headers"), item)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _shared_names(names: list[str]) -> Iterator[Problem]:
    unnamed = {name_of(name, index) for index, name in enumerate(names) if not name}
    taken = set(unnamed)
    for index, name in enumerate(names):
        if name and name in taken:
            why = "a key without a name is called after its place" if name in unnamed else None
            yield Problem(("key_list", index, "name"), "is what another key is called", why)
        taken.add(name_of(name, index))


def _headers_set_twice(path: jsonc.Path, item: Mapping[str, Any]) -> Iterator[Problem]:
    headers = item.get("headers")
    taken = {"openai-organization": "organization"} if _text(item.get("organization")) else {}
    for name in headers if isinstance(headers, dict) else ():
        first = taken.setdefault(name.lower(), name)
        if first is not name:
            yield Problem((*path, name), f"is set by {first!r} already", at_name=True)


def shown(file: Path, plain: str, problems: list[Problem]) -> str:
    """The problems as a person reads them, in the order of the file."""
    placed = [
        (jsonc.locate(plain, problem.path, name=problem.at_name), problem)
        for problem in problems[:_MOST_SHOWN]  # placing one reads all that stands before it
    ]
    placed.sort(key=lambda one: one[0])
    told = [_shown(file, plain, *one) for one in placed]
    more = len(problems) - len(placed)
    return "\n\n".join([*told, *([f"and {more:,} more"] if more else [])])


def _shown(file: Path, plain: str, offset: int, problem: Problem) -> str:
    line, column = jsonc.line_and_column(plain, offset)
    told = f"{file}:{line}:{column}: {_dotted(problem.path)} {problem.message}"
    return f"{told}\nHint: {problem.hint}" if problem.hint else told


def _dotted(path: jsonc.Path) -> str:
    """A path as messages have it: key_list[0].api_key."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_printable(part)}" for part in path)
    return "".join(parts).lstrip(".")


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
