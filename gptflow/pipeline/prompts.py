"""Templates: Jinja in the immutable sandbox, confined to the templates folder.

A template can read what it is given and nothing else: no attribute that begins with an
underscore, no file outside the folder, no name that does not exist, no endless text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, StrictUndefined, Template, TemplateNotFound, Undefined
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_PROMPT_CHARS = 20_000_000
"""A rendered text may not be longer: no model reads more, and a loop could fill the memory."""

RENDER_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)
"""What evaluating a template on a row's data may raise: filters pass on Python's own errors, and
a template may include itself."""


class FolderLoader(BaseLoader):
    """Reads templates from one folder, by real path: a symbolic link out of it is refused."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()

    def path(self, name: str) -> Path:
        """The file behind a template's name; TemplateNotFound if it is none, or lies outside."""
        try:
            path = (self.root / name).resolve()
            is_ours = path.is_relative_to(self.root) and path.is_file()
        except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
            is_ours = False
        if not is_ours:
            raise TemplateNotFound(name)
        return path

    def all_texts(self) -> dict[str, str]:
        """Every text of the folder by its relative path, for templates with computed names."""
        paths = (path for path in sorted(self.root.rglob("*")) if path.is_file())
        return {
            str(path.relative_to(self.root)): path.read_text("utf-8-sig", errors="replace")
            for path in paths
            if path.stat().st_size <= MAX_PROMPT_CHARS and not path.name.startswith(".")
        }

    def get_source(self, environment: object, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Jinja's hook: the text, the file name, and whether it is still fresh (it always is)."""
        del environment
        path = self.path(template)
        return path.read_text("utf-8-sig"), str(path), lambda: True


class MappingMethod:
    """A method of a mapping inside a template: it can be called, but never printed.

    `{{ row.items() }}` works as Jinja users expect; `{{ row.items }}` where no column bears that
    name is an error, instead of "<built-in method ...>" in a paid prompt.
    """

    def __init__(self, name: str, method: Callable[..., Any]) -> None:
        self._name = name
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the method gives."""
        return self._method(*args, **kwargs)

    def __str__(self) -> str:
        raise UndefinedError(f"no column or field is named {self._name!r}")


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox in which every template and expression of a spec is evaluated."""

    intercepted_binops = frozenset(["*", "**"])

    def __init__(self, folder: Path) -> None:
        self.folder_loader = FolderLoader(folder)
        super().__init__(
            loader=self.folder_loader, undefined=StrictUndefined, auto_reload=False, cache_size=-1
        )
        for name in ("lipsum", "cycler"):  # of no use in a prompt; lipsum makes text without end
            del self.globals[name]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`row.items` is the column, never a method: look-up is item first."""
        if isinstance(obj, Mapping):
            if attribute in obj:
                return obj[attribute]
            found = super().getattr(obj, attribute)
            if isinstance(found, Undefined):
                return found
            return MappingMethod(attribute, found)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuses `"a" * 10**9` and `9 ** 9 ** 9` before they are computed."""
        if operator == "*":
            sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
            times = [side for side in (left, right) if isinstance(side, int)]
            if sizes and times and sizes[0] * times[0] > MAX_PROMPT_CHARS:
                raise SecurityError("the text or list would be too long")
        elif (
            isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > 10_000
        ):
            raise SecurityError("the number would be too large")
        return super().call_binop(context, operator, left, right)

    def expression(self, source: str) -> Callable[[Mapping[str, Any]], Any]:
        """Compiles an expression, without braces, into a function of the names it sees."""
        return self.compile_expression(source, undefined_to_none=False)


def render(template: Template, names: dict[str, Any]) -> str:
    """The text of a template.

    Raises:
        TemplateError: a name is missing, the sandbox refuses, or the text is too long; filters
            may also raise anything else of RENDER_ERRORS.
    """
    parts: list[str] = []
    size = 0
    for part in template.root_render_func(template.new_context(names, shared=False)):
        parts.append(part)
        size += len(part)
        if size > MAX_PROMPT_CHARS:
            raise SecurityError(f"the text is longer than {MAX_PROMPT_CHARS:,} characters")
    return "".join(parts)
