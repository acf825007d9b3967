"""From a spec to a plan, checking on the way everything that compiling can show to be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import TemplateError, Undefined

from gptflow.errors import SpecError
from gptflow.pipeline.examples import numbered, read_examples
from gptflow.pipeline.extract.extractor import Extractor, build
from gptflow.pipeline.extract.invalid import BadExtractor
from gptflow.pipeline.extract.schema import FromSchema
from gptflow.pipeline.hook_file import PythonAccess
from gptflow.pipeline.hooks_of_spec import NO_ACCESS, Hooks, load_hooks
from gptflow.pipeline.identity import CallIdentity, digest_of, in_canonical_order
from gptflow.pipeline.name_check import FieldAt, name_problems
from gptflow.pipeline.names import Scope
from gptflow.pipeline.plan import Plan, StepHook, StepPlan, Turn
from gptflow.pipeline.predicate import Expression, predicate
from gptflow.pipeline.prompts import RENDER_ERRORS
from gptflow.pipeline.recipe import Recipe
from gptflow.pipeline.spec_files import LiesOutside, NoSuchFile, SpecFiles, SpecFolder
from gptflow.pipeline.texts import (
    NOT_UTF8_HINT,
    Text,
    TextChecker,
    file_text,
    near_file,
    spec_text,
)
from gptflow.spec.model import (
    AnyExtractor,
    ChoiceExtractor,
    FileRef,
    Labels,
    SchemaExtractor,
    Spec,
    StepSpec,
)
from gptflow.spec.origin import KeyPath
from gptflow.spec.problems import Problem, in_order

ENDPOINT = "chat/completions"


def compile_plan(
    spec: Spec,
    *,
    columns: Iterable[str] | None,
    server: str = "",
    known: Iterable[Problem] = (),
    access: PythonAccess = NO_ACCESS,
    hooks: Hooks | None = None,
) -> Plan:
    """Compiles a spec.

    Args:
        spec: the spec.
        columns: the columns that the source's first rows have; None if they are not known.
        server: "" for paid answers; anything else sets the answers of a simulator or a local
            model apart under call keys of their own.
        known: problems that were found before, to be reported with those found here.
        access: what functions of the user's the spec may name. A plan that travels takes it along.
        hooks: these functions, where they were loaded before; their problems are reported here.

    Raises:
        SpecError: with every problem, in the order of the file.
    """
    columns = None if columns is None else tuple(columns)
    return _compiled(Recipe(spec, columns, server, access, SpecFiles.of(spec)), known, hooks)


def _compiled(recipe: Recipe, known: Iterable[Problem] = (), hooks: Hooks | None = None) -> Plan:
    hooks = load_hooks(recipe.spec, recipe.access) if hooks is None else hooks
    compiler = Compiler(recipe, hooks)
    plan = compiler.plan()
    problems = in_order([*known, *hooks.problems, *compiler.problems])
    if problems:
        raise SpecError(problems)
    return plan


class Compiler:
    """Compiles one spec. Goes on after a problem, so that all of them are found in one go."""

    def __init__(self, recipe: Recipe, hooks: Hooks) -> None:
        spec, files = recipe.spec, recipe.files
        self._recipe = recipe
        self._spec = spec
        self._server = recipe.server
        self._hooks = hooks
        self._files = files
        self._checker = TextChecker(files.templates, has_folder=spec.templates is not None)
        self._environment = self._checker.environment
        self._scope = Scope(frozenset(spec.vars), recipe.columns)
        self._identity: list[Any] = []
        self._fields: list[FieldAt] = []

    @property
    def problems(self) -> list[Problem]:
        """What was found so far."""
        return self._checker.problems

    def plan(self) -> Plan:
        """The plan; of no use when there are problems."""
        where = self._expression(("source", "where"), self._spec.source.where, "source.where")
        steps = tuple(self._step(index, step) for index, step in enumerate(self._spec.steps))
        self.problems.extend(name_problems(self._spec, self._scope.columns, self._fields))
        return Plan(
            name=self._spec.name,
            vars=self._spec.vars,
            steps=steps,
            where=where and predicate(where, self._spec.vars),
            digest=self._digest(),
            recipe=partial(_compiled, self._recipe),
        )

    def _problem(self, message: str, path: KeyPath, hint: str | None = None) -> None:
        self.problems.append(Problem(message, self._spec.origin.place(path), hint))

    # ------------------------------------------------------------------ steps

    def _step(self, index: int, step: StepSpec) -> StepPlan:
        path: KeyPath = ("steps", index)
        what = f"of step {step.name!r}"
        when = self._expression((*path, "when"), step.when, f"when {what}")
        if step.python is not None:
            return self._python(path, step, when)
        turns = self._turns(path, step, what)
        extractors = self._extractors(path, step)
        model = self._spec.model.merged(step.model)
        params = model.params | self._response_format(path, step, extractors)
        identity = CallIdentity(
            endpoint=ENDPOINT,
            model=model.name or "",
            params=params,
            step=step.name,
            server=self._server,
        )
        compiled = StepPlan(
            name=step.name,
            turns=turns,
            when=when,
            model=model.name or "",
            params=params,
            identity=identity,
            extractors=extractors,
            reask=step.on_invalid.reask,
            keep_invalid=step.on_invalid.then == "keep",
        )
        asked = [model.name, in_canonical_order(params)]
        self._identity.append([step.name, step.when, *asked, step.on_invalid.model_dump()])
        self._scope.steps[step.name] = frozenset([*compiled.fields, *step.extract])
        return compiled

    def _python(self, path: KeyPath, step: StepSpec, when: Expression | None) -> StepPlan:
        """A step that is a function of the user's, and asks nothing by itself."""
        fields = tuple(step.fields or ())
        hook = self._hooks.at(*path, "python")
        model, params = self._spec.model.name or "", self._spec.model.params
        python = StepHook(hook, fields, ENDPOINT, self._server) if hook else None
        asked = [model, in_canonical_order(params)] if hook and hook.takes_second else []
        named = [step.python, hook and hook.digest, fields]
        self._identity.append([step.name, step.when, *asked, *named])
        self._fields += [(field, (*path, "fields", at)) for at, field in enumerate(fields)]
        self._scope.steps[step.name] = frozenset(fields)
        identity = CallIdentity(
            endpoint=ENDPOINT, model=model, params=params, step=step.name, server=self._server
        )
        return StepPlan(
            name=step.name,
            turns=(),
            when=when,
            model=model,
            params=params,
            identity=identity,
            extractors=(),
            reask=0,
            keep_invalid=False,
            python=python,
        )

    def _turns(self, path: KeyPath, step: StepSpec, what: str) -> tuple[Turn, ...]:
        texts: list[tuple[str, Text | None]] = []
        if step.system is not None:
            texts.append(("system", self._text((*path, "system"), step.system, f"system {what}")))
        texts += self._examples(path, step, what)
        prompt = step.prompt or ""
        texts.append(("user", self._text((*path, "prompt"), prompt, f"prompt {what}")))
        turns = []
        for role, text in texts:
            if text is None or not self._checker.check(text, self._scope):
                continue
            renderer = self._environment.renderer(text.template)
            turns.append(Turn(role, renderer, text.what.removesuffix(f" {what}")))
        self._identity.append([[role, text and text.text] for role, text in texts])
        return tuple(turns)

    def _text(self, path: KeyPath, value: str | FileRef, what: str) -> Text | None:
        """The template behind `prompt: text` or `prompt: {file: ...}`; None if it is missing."""
        if isinstance(value, str):
            return spec_text(self._spec.origin, path, value, what)
        file = self._file((*path, "file"), value.file, what, self._files.templates)
        if file is None:
            return None
        found, content = file
        return file_text(found, content, what)

    def _file(
        self, path: KeyPath, name: str, what: str, folder: SpecFolder
    ) -> tuple[Path, str] | None:
        """A file that the spec names, inside `folder`, with its text; None with a problem noted."""
        shown = f"{folder.root.name}/"
        try:
            found = folder.path(name)
            return found, folder.text(name, found)
        except LiesOutside:
            self._problem(f"{name!r} lies outside of {shown} ({what})", path)
        except NoSuchFile:
            hint = near_file(folder.root, name) or f"it is looked up in {folder.root}"
            self._problem(f"no file {name!r} in {shown} ({what})", path, hint)
        except UnicodeDecodeError as error:
            message = f"{name!r} is not UTF-8: byte {error.start} ({what})"
            self._problem(message, path, NOT_UTF8_HINT)
        except (OSError, ValueError) as error:  # no permission; a name too long, or with a NUL
            reason = error.strerror if isinstance(error, OSError) else error
            self._problem(f"{name!r} cannot be read: {reason} ({what})", path)
        return None

    def _examples(self, path: KeyPath, step: StepSpec, what: str) -> list[tuple[str, Text | None]]:
        """The few-shot turns of a step: roles and texts."""
        where = (*path, "examples")
        if isinstance(step.examples, FileRef):
            folder = self._files.templates
            file = self._file((*where, "file"), step.examples.file, f"examples {what}", folder)
            if file is None:
                return []
            texts, problems = read_examples(*file, what)
            self.problems.extend(problems)
            return [*texts]
        return [
            (role, spec_text(self._spec.origin, (*where, index, role), text, numbered(index, what)))
            for index, example in enumerate(step.examples or ())
            for role, text in (("user", example.user), ("assistant", example.assistant))
        ]

    # ------------------------------------------------------------------ extractors

    def _extractors(self, path: KeyPath, step: StepSpec) -> tuple[Extractor, ...]:
        extractors: list[Extractor] = []
        for name, extractor in step.extract.items():
            where = (*path, "extract", name)
            fields: tuple[str, ...] = (name,)
            try:
                extractors.append(self._extractor(where, name, extractor))
                fields = extractors[-1].fields
            except BadExtractor as bad:
                file = _schema_file(extractor) if bad.key == "schema" else None
                inner = ("file",) if file else bad.path
                at = self._spec.origin.place((*where, bad.key, *inner), offset=bad.offset)
                message = f"{file}: {bad}" if file else str(bad)
                self.problems.append(Problem(f"{message} (field {name!r})", at, bad.hint))
            self._fields += [(field, where) for field in fields]
        return tuple(extractors)

    def _extractor(self, path: KeyPath, name: str, spec: AnyExtractor) -> Extractor:
        labels = spec.labels if isinstance(spec, ChoiceExtractor) else spec.one_of
        key = (
            "choice" if isinstance(spec, ChoiceExtractor) and spec.choice is not True else "one_of"
        )
        schema = self._schema(path, spec) if isinstance(spec, SchemaExtractor) else None
        resolved = None if labels is None else self._labels((*path, key), labels)
        hook = self._hooks.at(*path, "python")
        digest = [hook.digest] if hook else []
        self._identity.append([name, spec.model_dump(by_alias=True), resolved, schema, *digest])
        return build(name, spec, resolved, schema, hook)

    def _labels(self, path: KeyPath, labels: Labels) -> tuple[str, ...]:
        """The labels themselves, where they may be given as a template over the vars."""
        if isinstance(labels, list):
            return tuple(map(_as_text, labels))
        text = labels.strip()
        if not (text.startswith("{{") and text.endswith("}}")):
            raise BadExtractor(
                f"expected a list of labels, or a template that gives one, found {labels!r}",
                key=str(path[-1]),
                hint='write [positive, negative] or "{{ labels }}"',
            )
        inner = spec_text(self._spec.origin, path, labels, f"{path[-1]} of field {path[-2]!r}")
        noted = len(self.problems)
        self._checker.check(inner, Scope(self._scope.vars, ()))
        if len(self.problems) > noted:
            return ("?",)  # noted; any label lets the other checks of this field go on
        try:
            value = self._environment.expression(text[2:-2])(self._variables())
        except RENDER_ERRORS as error:
            raise BadExtractor(f"the labels cannot be made: {error}", key=str(path[-1])) from error
        if isinstance(value, Undefined):
            raise BadExtractor(f"nothing is at {text[2:-2].strip()}", key=str(path[-1]))
        if not isinstance(value, list | tuple) or not value:
            raise BadExtractor(f"expected a list of labels, found {value!r}", key=str(path[-1]))
        return tuple(map(_as_text, value))

    def _schema(self, path: KeyPath, spec: SchemaExtractor) -> dict[str, Any]:
        """A JSON Schema, read from its file where the spec says {file: ...}."""
        name = _schema_file(spec)
        if name is None:
            return spec.json_schema
        what = f"schema of field {path[-1]!r}"
        file = self._file((*path, "schema", "file"), name, what, self._files.schemas)
        if file is None:
            return {}
        try:
            return msgspec.json.decode(file[1], type=dict[str, Any])
        except msgspec.DecodeError as error:
            message = f"{name} is not a JSON Schema: {error} ({what})"
            self._problem(message, (*path, "schema", "file"))
            return {}

    def _response_format(
        self, path: KeyPath, step: StepSpec, extractors: tuple[Extractor, ...]
    ) -> dict[str, Any]:
        if not step.structured:
            return {}
        formats = [e.response_format() for e in extractors if isinstance(e, FromSchema)]
        if len(formats) != 1:
            self._problem(
                f"structured needs exactly one schema extractor, step {step.name!r} "
                f"has {len(formats) or 'none'}",
                (*path, "structured"),
                "give the step one field with {schema: ...}",
            )
        return {"response_format": formats[0]} if formats else {}

    # ------------------------------------------------------------------ expressions and identity

    def _expression(self, path: KeyPath, source: str | bool | None, what: str) -> Expression | None:
        if source is None:
            return None
        source = _as_text(source)
        text = spec_text(self._spec.origin, path, source, what, is_expression=True)
        if "{{" in source or "{%" in source:
            self._problem(
                f"expected an expression without braces ({what})",
                path,
                "write it as in: label == 'negative'",
            )
            return None
        if not self._checker.check(text, self._scope):
            return None
        try:
            return self._environment.expression(source)
        except TemplateError as error:
            self._checker.note(text, error)
            return None

    def _variables(self) -> dict[str, Any]:
        return {**self._spec.vars, "vars": self._spec.vars}

    def _digest(self) -> str:
        """What a row's result hangs on, besides the row."""
        spec, includes = self._spec, self._checker.includes
        return digest_of([self._server, spec.vars, spec.source.id, self._identity, includes])


def _schema_file(extractor: AnyExtractor) -> str | None:
    """The file in `schema: {file: ...}`; None where the schema itself stands there."""
    if not isinstance(extractor, SchemaExtractor) or extractor.json_schema.keys() != {"file"}:
        return None
    name = extractor.json_schema["file"]
    return name if isinstance(name, str) else None


def _as_text(value: object) -> str:
    """A value of the spec as its author wrote it: true, not True."""
    return str(value).lower() if isinstance(value, bool) else str(value)
