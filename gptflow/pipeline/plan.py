"""A plan: a spec compiled. Templates are parsed, extractors built, what all calls share is hashed.

Pure values: nothing here reads a clock, a network or a disk; all files were read while compiling.
A plan that is unpickled is compiled again, from the texts that came with it. Only functions of the
user's are imported anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gptflow.errors import UsageError
from gptflow.pipeline.extract.extractor import Extractor, extract_all, wanted
from gptflow.pipeline.extract.python import FromPython
from gptflow.pipeline.hook import Hook
from gptflow.pipeline.identity import CallIdentity
from gptflow.records import Call, Fields, Message, Row


@dataclass(frozen=True, slots=True)
class Turn:
    """One message that a step adds to the conversation."""

    role: str
    text: Callable[[dict[str, Any]], str]
    """The message's content by the names of a row. Raises what `prompts.render` raises."""
    what: str
    """For messages: "prompt", "system message", "example 2"."""


@dataclass(frozen=True, slots=True)
class StepHook:
    """What a step does in place of asking: it calls a function of the user's."""

    hook: Hook
    fields: tuple[str, ...]
    """What the function gives."""
    endpoint: str
    server: str
    """With the step's name they make the keys of the calls that the function asks for."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step, compiled."""

    name: str
    turns: tuple[Turn, ...]
    """The system message if there is one, the examples, then the prompt."""
    when: Callable[[Mapping[str, Any]], Any] | None
    model: str
    params: dict[str, Any]
    identity: CallIdentity
    extractors: tuple[Extractor, ...]
    reask: int
    keep_invalid: bool
    python: StepHook | None = None
    """In place of turns and extractors; `model` and `params` are what it asks by default."""
    fields: tuple[str, ...] = field(init=False)
    """All fields that the step gives, in the order of the spec."""

    def __post_init__(self) -> None:
        fields = tuple(name for extractor in self.extractors for name in extractor.fields)
        fields = self.python.fields if self.python else fields
        object.__setattr__(self, "fields", fields)

    def call(self, messages: Sequence[Message], row: Row) -> Call:
        """The call that asks this step's question of a row, with all turns so far."""
        asked = list(messages)
        return Call(self.identity.key(asked, row), self.name, self.model, asked, self.params)

    @property
    def asks(self) -> bool:
        """Whether the step may ask a model."""
        return self.python is None or (self.python.hook.takes_second and bool(self.model))

    @property
    def may_ask(self) -> bool:
        """Whether it can ask any model: a function that has a wrapper may name one itself."""
        return self.python is None or self.python.hook.takes_second

    @property
    def has_hooks(self) -> bool:
        """Whether a function of the user's is called in it."""
        return bool(self.python) or any(isinstance(each, FromPython) for each in self.extractors)

    def extract(
        self, reply_text: str, *, patient: bool = True, row: Callable[[], dict[str, Any]] = dict
    ) -> Fields:
        """The step's fields out of a reply; raises Invalid with everything that is wrong.

        `row` gives the row with its fields so far. Raises TakesLong, if not `patient`, where that
        needs more than a moment, and HookFault where a function of the user's fails.
        """
        return extract_all(self.extractors, reply_text, patient=patient, row=row)

    def correction(self, complaint: str) -> str:
        """What the model is told when its reply was not accepted."""
        return (
            f"Your reply cannot be used: {complaint}.\n"
            f"Please answer again with {wanted(self.extractors)}."
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A spec compiled: what each row is asked, and what comes out."""

    name: str
    vars: dict[str, Any]
    steps: tuple[StepPlan, ...]
    where: Callable[[Mapping[str, Any]], bool] | None
    digest: str
    """Hex; the same for every plan that would do the same with a row. Which rows there are,
    how wide to run and where the output goes are not part of it."""
    recipe: Callable[[], Plan] = field(repr=False)
    """Compiles this plan again, from the texts of its files as they were read the first time:
    templates do not pickle, so a plan travels as its recipe."""

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields of a finished row, in the order of the spec."""
        return tuple(name for step in self.steps for name in step.fields)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked, each once."""
        return tuple(dict.fromkeys(step.model for step in self.steps if step.asks))

    @property
    def has_hooks(self) -> bool:
        """Whether a function of the user's is called in any step."""
        return any(step.has_hooks for step in self.steps)

    @property
    def hooks(self) -> dict[str, Hook]:
        """The functions of the user's that are called in any step, by their names."""
        found = [step.python.hook for step in self.steps if step.python]
        for step in self.steps:
            found += [each.hook for each in step.extractors if isinstance(each, FromPython)]
        return {hook.name: hook for hook in found}

    def __reduce__(self) -> tuple[Callable[..., Plan], tuple[Any, ...]]:
        return _from_recipe, (self.recipe, {name: h.digest for name, h in self.hooks.items()})


def _from_recipe(recipe: Callable[[], Plan], digests: dict[str, str]) -> Plan:
    """The plan, unpickled.

    Raises:
        UsageError: a function that it calls stands in another file here, by the digests.
    """
    plan = recipe()
    other = [hook for name, hook in plan.hooks.items() if hook.digest != digests[name]]
    if other:
        told = ", ".join(f"{hook.name} ({hook.file or 'of no file'})" for hook in other)
        raise UsageError(
            f"a worker reads other Python code than the run has read: {told}",
            hint="the file was changed meanwhile, or is another one on that machine",
        )
    return plan
