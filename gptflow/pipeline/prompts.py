"""Templates: Jinja in the immutable sandbox.

A template can read what it is given and nothing else: no attribute that begins with an
underscore, no file, no name that does not exist, no endless text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from posixpath import normpath
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template, Undefined
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


class IncludeLoader(DictLoader):
    """Serves includes from the texts that were read when the spec was compiled, never from disk."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, None, Callable[[], bool]]:
        """Jinja's hook. A computed name may take a detour, as "./tone.j2" does."""
        name = template if template in self.mapping else normpath(template)
        return super().get_source(environment, name)


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

    def __init__(self, includes: Mapping[str, str] | None = None) -> None:
        """`includes`: the texts that templates can include, by name; it may still grow."""
        loader = IncludeLoader({} if includes is None else includes)
        super().__init__(loader=loader, undefined=StrictUndefined, auto_reload=False, cache_size=-1)
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
