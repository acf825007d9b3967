"""Which names a template may use, and where it uses others: the check behind "no column is named".

Jinja's own parser says which names a template takes from outside; its lexer says where they stand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, nodes
from jinja2.meta import find_undeclared_variables

NAMESPACES = ("row", "vars", "steps")
STEP_ATTRIBUTES = ("reply", "fields")


def names_of(spec_vars: dict[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """What every template sees of a row, by name; a conversation adds its steps."""
    return {**spec_vars, **columns, "row": columns, "vars": spec_vars}


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that exist at one point of a spec."""

    vars: frozenset[str] = frozenset()
    columns: tuple[str, ...] | None = None
    """None where the source's columns are not known: then any other name may be one."""
    steps: dict[str, frozenset[str]] = field(default_factory=dict)
    """The fields of each earlier step, by the step's name."""

    @property
    def fields(self) -> frozenset[str]:
        """The fields of all earlier steps."""
        return frozenset().union(*self.steps.values())

    @property
    def has_vars_only(self) -> bool:
        """Whether this is a text that is the same for every row."""
        return self.columns == () and not self.steps

    def names(self) -> set[str]:
        """Everything that can be named without a namespace."""
        return {*NAMESPACES, *self.vars, *(self.columns or ()), *self.fields}

    def members(self, *path: str) -> Collection[str] | None:
        """What can follow a path such as steps.label; None where anything can."""
        match path:
            case ("row",):
                return self.columns
            case ("vars",):
                return self.vars
            case ("steps",):
                return self.steps
            case ("steps", name) if name in self.steps:
                return STEP_ATTRIBUTES
            case ("steps", name, "fields") if name in self.steps:
                return self.steps[name]
        return None


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that nothing provides, and where it stands in the template's text."""

    name: str
    offset: int
    kind: str = "name"
    """"name"; "row", "vars", "steps.label" for what follows one of these; "filter" or "test";
    "self" for the name that Jinja keeps for itself."""
    candidates: frozenset[str] = frozenset()
    """What could stand there."""


def unknown_names(environment: Environment, text: str, scope: Scope) -> list[UnknownName]:
    """Every use of a name in a template that nothing provides, in the order of the text.

    A name that the template itself tests (`is defined`, `default(...)`) may be missing: that is
    how a spec says that some rows lack a column.
    """
    tree = _lenient(environment).parse(text)
    outside = find_undeclared_variables(tree)
    forgiven = set(_tested_names(tree))
    tokens = _name_tokens(environment, text)
    known = scope.names()
    found = []
    if scope.columns is not None:
        for name in outside - known - forgiven - set(environment.globals):
            places = [t.offset for t in tokens if t.name == name and t.before not in (".", "|")]
            found.append(UnknownName(name, places[0] if places else 0, "name", frozenset(known)))
    found.extend(_jinjas_self(tree, tokens))
    found.extend(_unknown_members(tree, tokens, scope, outside))
    found.extend(_unknown_filters(tree, tokens, environment))
    return sorted(found, key=lambda unknown: unknown.offset)


def _jinjas_self(tree: nodes.Template, tokens: list[NameToken]) -> Iterator[UnknownName]:
    """A bare `self`: Jinja prints an object of its own there, whatever the columns are.

    With blocks, self.title() is how one of them is printed again.
    """
    if tree.find(nodes.Block):
        return
    for use in tree.find_all(nodes.Name):
        if use.name == "self" and use.ctx == "load":
            places = [t.offset for t in tokens if t.name == "self" and t.before not in (".", "|")]
            yield UnknownName("self", places[0] if places else 0, "self")
            return


def _unknown_members(
    tree: nodes.Template, tokens: list[NameToken], scope: Scope, outside: set[str]
) -> Iterator[UnknownName]:
    """Uses such as `row.txet`, `steps.lable` and `steps.label.repyl`, where the owner is ours."""
    for (*owner, name), line in _member_uses(tree):
        members = scope.members(*owner) if owner[0] in outside else None
        is_method = owner != ["steps"] and hasattr(dict, name)
        if members is None or name in members or is_method:
            continue
        places = [
            token.offset
            for token in tokens
            if token.name == name and token.line == line and token.before in (".", "[")
        ]
        kind = ".".join(owner)
        yield UnknownName(name, places[0] if places else 0, kind, frozenset(members))


def _unknown_filters(
    tree: nodes.Template, tokens: list[NameToken], environment: Environment
) -> Iterator[UnknownName]:
    """Filters and tests that do not exist.

    Jinja itself names only the first, and inside an {% if %} none before it runs.
    """
    filters = ((node, "filter", environment.filters) for node in tree.find_all(nodes.Filter))
    tests = ((node, "test", environment.tests) for node in tree.find_all(nodes.Test))
    for node, kind, known in (*filters, *tests):
        if node.name not in known:
            places = [t.offset for t in tokens if t.name == node.name and t.line == node.lineno]
            yield UnknownName(node.name, places[0] if places else 0, kind, frozenset(known))


class _AnyFilter(dict[str, Any]):
    """Takes every name for that of a filter, so that the names beside it are looked at too."""

    def get(self, key: str, default: object = None) -> Any:
        return super().get(key, default or str)


def _lenient(environment: Environment) -> Environment:
    overlay = environment.overlay()
    overlay.filters = _AnyFilter(environment.filters)
    overlay.tests = _AnyFilter(environment.tests)
    return overlay


def _member_uses(tree: nodes.Template) -> Iterator[tuple[tuple[str, ...], int]]:
    """The paths that begin with a namespace, such as ("row", "text"), with their lines."""
    for use in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _path(use)
        if path and path[0] in NAMESPACES:
            yield path, use.lineno


def _path(node: nodes.Node) -> tuple[str, ...]:
    """The names in `a.b["c"]`; none where one of them is only known when it runs."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        name: object = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name = node.arg.value
    else:
        return ()
    owner = _path(node.node)
    return (*owner, name) if owner and isinstance(name, str) else ()


def _tested_names(tree: nodes.Template) -> Iterator[str]:
    defaults = (use.node for use in tree.find_all(nodes.Filter) if use.name in ("default", "d"))
    tests = (
        test.node for test in tree.find_all(nodes.Test) if test.name in ("defined", "undefined")
    )
    for node in (*defaults, *tests):
        if node is None:  # a {% filter default %} block
            continue
        if isinstance(node, nodes.Name):
            yield node.name
        yield from (name.name for name in node.find_all(nodes.Name))


@dataclass(frozen=True, slots=True)
class NameToken:
    """A name, or the text of a subscript, where it stands in a template."""

    name: str
    line: int
    offset: int
    before: str
    """The operator right before it: a dot, a bracket, a bar, or nothing."""


def _name_tokens(environment: Environment, text: str) -> list[NameToken]:
    tokens = []
    position, before = 0, ""
    for line, kind, value in environment.lex(text):
        # The lexer drops the white space that {%- takes away, so offsets are looked up, not summed.
        position = max(text.find(value, position), position)
        if kind == "name":
            tokens.append(NameToken(value, line, position, before))
        elif kind == "string":
            tokens.append(NameToken(value[1:-1], line, position + 1, before))
        position += len(value)
        if kind != "whitespace":
            before = value if kind == "operator" else ""
    return tokens


def included_templates(environment: Environment, text: str) -> list[tuple[str | None, int]]:
    """The templates that a template includes, imports or extends, with the offset of each name.

    None in place of a name that is only known when it runs.
    """
    tree = environment.parse(text)
    tokens = _name_tokens(environment, text)
    found: list[tuple[str | None, int]] = []
    kinds = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    statements = [node for kind in kinds for node in tree.find_all(kind)]
    for node in statements:
        target: nodes.Expr = node.template  # type: ignore[attr-defined]  # all four have one
        names = [target.value] if isinstance(target, nodes.Const) else [None]
        if isinstance(target, nodes.Tuple | nodes.List):
            names = [item.value if isinstance(item, nodes.Const) else None for item in target.items]
        for name in names:
            if name is None or not isinstance(name, str):
                found.append((None, 0))
                continue
            places = [t.offset for t in tokens if t.name == name and t.line >= node.lineno]
            found.append((name, places[0] if places else 0))
    return found
