"""Templates: Jinja in the immutable sandbox.

A template can read what it is given and nothing else: no attribute that begins with an
underscore, no file, no name that does not exist, no endless text and no endless time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial, wraps
from posixpath import normpath
from types import BuiltinMethodType, FunctionType, GeneratorType, MethodType
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError
from jinja2.runtime import Context
from jinja2.sandbox import (
    ImmutableSandboxedEnvironment,
    SandboxedEscapeFormatter,
    SandboxedFormatter,
)
from jinja2.utils import Joiner, Namespace
from markupsafe import Markup

from gptflow.pipeline.render_budget import RenderBudget
from gptflow.pipeline.size_limit import (
    MAX_PROMPT_CHARS,
    METHOD_SIZES,
    TEXT_CHARS,
    BoundedBuffer,
    Estimate,
    allow,
    allow_bits,
    filter_size,
    joined,
    percent_size,
    printed_size,
    product_size,
    spec_size,
    sum_size,
)

REMOVED_FILTERS = {"random": "a prompt must be the same each time, or its row is paid for again"}
"""With the reason, which is shown as a hint."""

RENDER_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    RecursionError,
)
"""What evaluating a template on a row's data may raise: filters pass on Python's own errors, or
assert what they are given, and a template may include itself."""


ADDRESSED = (GeneratorType, FunctionType, MethodType, BuiltinMethodType, type, Joiner)


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


_STEP = nodes.ExprStmt(nodes.Const(None))
"""Stands at the beginning of each loop's body."""


class BoundedCode(CodeGenerator):
    """Jinja's compiler, for what no hook of the sandbox sees: loops, and two ways to make text."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        """`a ~ b`."""
        self.write("environment.concat(map(environment.text, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")

    def buffer(self, frame: Frame) -> None:
        """What macros and {% set %} blocks write into."""
        frame.buffer = self.temporary_identifier()
        self.writeline(f"{frame.buffer} = environment.buffer()")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802 - the same
        """`a[1:]`; Jinja hands `a[1]` to the sandbox by itself."""
        self._guarded("within", super().visit_Getitem, node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802 - the same
        """`[a, b]`."""
        self._guarded("built", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802 - the same
        """`{a: b}`."""
        self._guarded("built", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802 - the same
        """`(a, b)`, or the names that a loop or a {% set %} gives values to."""
        if node.ctx == "load":
            self._guarded("built", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _guarded(
        self, guard: str, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame
    ) -> None:
        self.write(f"environment.budget.{guard}(")
        visit(node, frame)
        self.write(")")

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        """`{% for %}`, each turn of which is a step."""
        node.body = [_STEP, *node.body]
        super().visit_For(node, frame)

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:  # noqa: N802 - the same
        """`{% do %}`, or a step."""
        if node is _STEP:
            self.writeline("environment.budget.step()")
        else:
            super().visit_ExprStmt(node, frame)


class BoundedFormatter(SandboxedFormatter):
    """str.format, with a limit on what one call makes."""

    size = 0

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """The value, or its text for `!s` and `!r`."""
        allow(printed_size(value))
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        """The text of one field."""
        self.size += printed_size(value) + spec_size(format_spec)
        allow(self.size)
        return super().format_field(value, format_spec)


class BoundedEscapeFormatter(BoundedFormatter, SandboxedEscapeFormatter):
    """The same for a Markup, which escapes what is put into it."""


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox in which every template and expression of a spec is evaluated."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])
    code_generator_class = BoundedCode
    buffer = BoundedBuffer

    def __init__(self, includes: Mapping[str, str] | None = None) -> None:
        """`includes`: the texts that templates can include, by name; it may still grow."""
        self.budget = RenderBudget()
        self.concat = self.budget.joined  # type: ignore[method-assign]  # an attribute to Jinja
        super().__init__(
            loader=IncludeLoader({} if includes is None else includes),
            undefined=StrictUndefined,
            finalize=_printable,
            auto_reload=False,
            cache_size=-1,
        )
        for name in ("lipsum", "cycler"):  # of no use in a prompt; lipsum makes text without end
            del self.globals[name]
        self.filters = {
            name: _bounded(self.budget, function, filter_size(name))
            for name, function in self.filters.items()
            if name not in REMOVED_FILTERS
        }

    def make_globals(self, d: MutableMapping[str, Any] | None) -> dict[str, Any]:
        """Jinja's hook. A plain dict: every rendering copies it, and a ChainMap copies slowly."""
        return {**self.globals, **(d or {})}

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
        """Refuses `"a" * 10**9`, `9 ** 9 ** 9` and `"%999999999d" % 1` before they are computed."""
        are_numbers = isinstance(left, int) and isinstance(right, int)
        if operator == "+":
            allow(sum_size(left, right))
        elif operator == "%":
            allow(percent_size(left, right) if isinstance(left, str | bytes) else 0)
        elif operator == "*":
            allow(product_size(left, right))
            allow_bits(left.bit_length() + right.bit_length() if are_numbers else 0)
        else:
            allow_bits(left.bit_length() * right if are_numbers else 0)
        return self.budget.within(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Refuses `"a".ljust(10**9)` before it is computed."""
        self.budget.step()
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str | bytes | int):
            args = _drained(args)
            estimate = METHOD_SIZES.get(function.__name__)
            allow(estimate(owner, *args, **kwargs) if estimate else 0)
        return self.budget.built(super().call(context, function, *args, **kwargs))

    def get_template(self, *args: Any, **kwargs: Any) -> Template:
        """Jinja's hook for each include."""
        self.budget.step()
        return super().get_template(*args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` and `str.format_map` with a limit; None for anything else."""
        if super().wrap_str_format(value) is None:
            return None
        text: str = value.__self__

        def formatted(*args: Any, **kwargs: Any) -> str:
            formatter = BoundedFormatter(self)
            if isinstance(text, Markup):
                formatter = BoundedEscapeFormatter(self, escape=text.escape)
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            return type(text)(formatter.vformat(text, args, kwargs))

        return formatted

    @staticmethod
    def text(value: Any) -> str:
        """A value as `~` joins it."""
        return str(_printable(value))

    def renderer(self, source: str) -> Callable[[dict[str, Any]], str]:
        """Compiles a template into a function of the names it sees, which raises as `render` does.

        What has nothing in braces, as most system messages and examples, is rendered here and now.
        """
        template = self.from_string(source)
        is_fixed = all(kind == "data" for _, kind, _ in self.lex(source))
        if is_fixed and len(source) + TEXT_CHARS <= MAX_PROMPT_CHARS:
            text = render(template, {})
            return lambda _: text
        return partial(render, template)

    def expression(self, source: str) -> Callable[[Mapping[str, Any]], Any]:
        """Compiles an expression, without braces, into a function of the names it sees."""
        evaluate = self.compile_expression(source, undefined_to_none=False)

        def evaluated(names: Mapping[str, Any]) -> Any:
            self.budget.begin()
            return evaluate(names)

        return evaluated


def _printable(value: Any) -> Any:
    if isinstance(value, list | tuple | Mapping | Namespace):
        allow(printed_size(value))
    elif isinstance(value, ADDRESSED):
        raise SecurityError(
            f"a {type(value).__name__} prints as an address, another one each time; "
            "call it, or add | list or | join"
        )
    return value


def _drained(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with a list in place of each generator, whose size nobody knows."""
    return tuple(list(arg) if isinstance(arg, GeneratorType) else arg for arg in args)


def _bounded(
    budget: RenderBudget, function: Callable[..., Any], estimate: Estimate
) -> Callable[..., Any]:
    """A filter that refuses to make too much."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja passes its context before

    @wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        budget.step()
        args = _drained(args)
        allow(estimate(*args[first:], **kwargs))
        return budget.built(function(*args, **kwargs))

    return filtered


def render(template: Template, names: dict[str, Any]) -> str:
    """The text of a template.

    Raises:
        TemplateError: a name is missing, the sandbox refuses, or the text is too long; filters
            may also raise anything else of RENDER_ERRORS.
    """
    environment: Any = template.environment
    environment.budget.begin()
    return joined(template.root_render_func(template.new_context(names, shared=False)))
