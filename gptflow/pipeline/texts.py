"""The texts of a spec that are compiled: templates and expressions, wherever they are written.

A text knows where it stands, in the spec or in a file of its own, so that a problem in it can
point at the character.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError, TemplateSyntaxError

from gptflow.pipeline.names import Scope, UnknownName, included_templates, unknown_names
from gptflow.pipeline.prompts import REMOVED_FILTERS, PromptEnvironment
from gptflow.pipeline.spec_files import NoSuchFile, SpecFolder, TooLarge
from gptflow.pipeline.syntax_place import syntax_stretch
from gptflow.spec.origin import KeyPath, Origin
from gptflow.spec.problems import Place, Problem, did_you_mean, place_in_text

MAX_NAMES_IN_HINT = 12
INCLUDED = "included by the "
NOT_UTF8_HINT = "save the file in the encoding UTF-8"


@dataclass(frozen=True, slots=True)
class Text:
    """A template, or an expression, of a spec."""

    text: str
    what: str
    """For messages: "prompt of step 'label'"."""
    place: Callable[[int | None, int | None], Place]
    """The place of (offset, length) in it; of all of it for (None, None)."""
    is_expression: bool = False

    @property
    def template(self) -> str:
        """The text as a template: an expression is put in braces."""
        return f"{{{{ {self.text} }}}}" if self.is_expression else self.text

    def at(self, offset: int, length: int) -> Place:
        """The place of a stretch of `template`."""
        return self.place(max(0, offset - 3 * self.is_expression), length)


def spec_text(
    origin: Origin, path: KeyPath, text: str, what: str, *, is_expression: bool = False
) -> Text:
    """A text that stands in the spec itself."""

    def place(offset: int | None, length: int | None) -> Place:
        return origin.place(path, offset=offset, length=length)

    return Text(text, what, place, is_expression)


def file_text(path: Path, text: str, what: str) -> Text:
    """A text that is a whole file."""

    def place(offset: int | None, length: int | None) -> Place:
        return place_in_text(shown_path(path), text, offset or 0, length or 1)

    return Text(text, what, place)


def line_text(path: Path, number: int, line: str, text: str, what: str) -> Text:
    """A text that a line of a file holds in another form, as JSON: it is placed to the line."""

    def place(offset: int | None, length: int | None) -> Place:
        del offset, length
        return place_in_line(path, number, line)

    return Text(text, what, place)


def place_in_line(path: Path, number: int, line: str) -> Place:
    """The place of a whole line of a file."""
    return Place(shown_path(path), number, 1, max(1, len(line)), line)


def near_file(folder: Path, name: str) -> str | None:
    """A hint at the file in the same folder that may be meant; None if there is none like it."""
    wanted = Path(name)
    if wanted.is_absolute() or ".." in wanted.parts:  # what lies outside is not looked at
        return None
    try:
        names = {path.stem: path.name for path in (folder / wanted.parent).iterdir()}
    except (OSError, ValueError):  # no such folder, or a name that none can have
        return None
    meant = did_you_mean(wanted.stem, names)  # the endings are alike anyway
    if meant is None or names[meant] == wanted.name:  # it is there, but cannot be used
        return None
    return f"did you mean {str(wanted.with_name(names[meant]))!r}?"


def shown_path(path: Path) -> str:
    """A path as a person would type it: relative to the working directory if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


class TextChecker:
    """Finds what is wrong with the texts of a spec: syntax, names, included files.

    `includes` gathers the text of every file that a template may include, by name. It is what the
    environment serves and what a plan's identity hangs on, so that the two cannot differ.
    """

    def __init__(self, folder: SpecFolder, *, has_folder: bool) -> None:
        """`has_folder`: whether the spec names a folder for its templates alone."""
        self._folder = folder
        self._has_folder = has_folder
        self._checked: set[str] = set()
        self.problems: list[Problem] = []
        self.includes: dict[str, str] = {}
        self.environment = PromptEnvironment(self.includes)

    def check(self, text: Text, scope: Scope) -> bool:
        """Notes the problems of a text; whether it can be compiled."""
        try:
            unknown = unknown_names(self.environment, text.template, scope)
        except TemplateSyntaxError as error:
            self.problems.append(_syntax_problem(self.environment, text, error))
            return False
        self.problems += [_name_problem(text, name, scope) for name in unknown]
        includes = included_templates(self.environment, text.template)
        checked = [self._check_include(text, name, offset, scope) for name, offset in includes]
        return all(checked) and not any(name.kind in ("filter", "test") for name in unknown)

    def _check_computed(self, text: Text) -> bool:
        """A computed name may mean any file of the folder, so that all of them count as used."""
        if not self._has_folder:
            message = f"an include with a computed name needs a folder of templates ({text.what})"
            hint = "put the templates into a folder of their own and name it: `templates: prompts`"
            self.problems.append(Problem(message, text.place(None, None), hint))
        else:
            self.includes |= self._folder.all_texts() | self.includes
        return self._has_folder

    def _check_include(self, text: Text, name: str | None, offset: int, scope: Scope) -> bool:
        if name is None:
            return self._check_computed(text)
        if name in self._checked:
            return True
        place = text.at(offset, len(name))
        try:
            path = self._folder.path(name)
        except (NoSuchFile, OSError, ValueError):  # none, or a name that no file can have
            message = f"no template file {name!r} in the templates folder ({text.what})"
            self.problems.append(Problem(message, place, _include_hint(self._folder.root, name)))
            return False
        try:
            source = self._folder.text(name, path)
        except UnicodeDecodeError as error:
            message = f"{name!r} is not UTF-8: byte {error.start} ({text.what})"
            self.problems.append(Problem(message, place, NOT_UTF8_HINT))
            return False
        except (OSError, TooLarge) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            message = f"{name!r} cannot be read: {reason} ({text.what})"
            self.problems.append(Problem(message, place))
            return False
        self._checked.add(name)
        self.includes[name] = source
        what = text.what if text.what.startswith(INCLUDED) else f"{INCLUDED}{text.what}"
        return self.check(file_text(path, source, what), scope)

    def note(self, text: Text, error: TemplateError | Exception) -> None:
        """Notes a problem with the whole of a text."""
        self.problems.append(Problem(f"{error} ({text.what})", text.place(None, None)))


def _include_hint(folder: Path, name: str) -> str:
    rule = "includes are looked up in the folder that `templates` names, and nowhere else"
    return near_file(folder, name) or rule


def _syntax_problem(
    environment: PromptEnvironment, text: Text, error: TemplateSyntaxError
) -> Problem:
    offset, length = syntax_stretch(environment, text.template, error)
    message = (error.message or "template syntax error").rstrip(".")
    if text.is_expression:  # the braces around it are ours
        length = min(length, len(text.text))
        message = message.replace("unexpected 'end of print statement'", "it ends too early")
        message = message.replace("'end of print statement'", "its end")
    message = f"{message[0].lower()}{message[1:]} ({text.what})"
    return Problem(message, text.at(offset, length))


def _name_problem(text: Text, unknown: UnknownName, scope: Scope) -> Problem:
    name, place = unknown.name, text.at(unknown.offset, len(unknown.name))
    meant = did_you_mean(name, unknown.candidates)
    suggestion = f"did you mean {meant!r}?" if meant else ""
    if unknown.kind in ("filter", "test"):
        listed = f"Jinja's {unknown.kind}s are in its template designer documentation"
        hint = REMOVED_FILTERS.get(name) or suggestion or listed
        return Problem(f"there is no {unknown.kind} {name!r} ({text.what})", place, hint)
    if unknown.kind == "self":
        message = f"'self' is a name of Jinja's own ({text.what})"
        return Problem(message, place, "the column of that name is row.self")
    if unknown.kind == "name" and scope.has_vars_only:
        message = f"no var is named {name!r} ({text.what})"
        known = f"only vars can be named here: {_shortened(sorted(scope.vars)) or 'there are none'}"
    elif unknown.kind == "name":
        message = f"no column, field or var is named {name!r} ({text.what})"
        known = f"the source has {_shortened(list(scope.columns or ())) or 'no columns'}"
    else:
        message = f"{unknown.kind} has no {name!r} ({text.what})"
        known = f"it has {_shortened(sorted(unknown.candidates)) or 'nothing'}"
    if suggestion:
        return Problem(message, place, f"{known}. {suggestion[0].upper()}{suggestion[1:]}")
    return Problem(message, place, known)


def _shortened(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES_IN_HINT])
    return shown + (", ..." if len(names) > MAX_NAMES_IN_HINT else "")
