"""What a person should know at once, in words: news of the keys and of the servers."""

from __future__ import annotations

from gptflow.engine.duration import duration
from gptflow.engine.events import (
    ConfigBroken,
    Event,
    KeyExhausted,
    KeyRested,
    KeyRetired,
    KeysBack,
    KeysChanged,
    KeysSpent,
    ModelMissing,
    OutageBegan,
    OutageEnded,
)

LINE_CHARS = 100
LONG_REST_S = 60.0
"""A key that rests longer is told at once: otherwise calls that wait look like ones that hang."""


def news_of(event: Event) -> str | None:
    """What to tell of an event: a line, or a few; None where it is no news."""
    return _of_one_key(event) or _of_all_keys(event) or _of_an_outage(event)


def _of_one_key(event: Event) -> str | None:
    match event:
        case KeyExhausted():
            return f"{_key(event.key_name)} is spent: {event.message}"
        case KeyRetired():
            return f"{_key(event.key_name)} is out: {event.message}"
        case ModelMissing():
            return f"{_key(event.key_name)} does not serve {event.model}: {event.message}"
        case KeyRested() if event.wait_s >= LONG_REST_S:
            return f"{_key(event.key_name)} rests for {duration(event.wait_s)}: {event.message}"
    return None


def _of_all_keys(event: Event) -> str | None:
    match event:
        case KeysSpent():
            waiting = f"waiting for {duration(event.waited_s)}" if event.waited_s else "waiting"
            first, *others = map(_shortened, event.message.splitlines())
            return "\n".join([f"{waiting}: {first}", *others, f"Hint: {event.hint}"])
        case KeysBack():
            return f"going on after {duration(event.waited_s)}: there is a usable key again"
        case KeysChanged():
            return _changed(event)
        case ConfigBroken():
            return f"{event.message}\nThe keys stay as they were."
    return None


def _of_an_outage(event: Event) -> str | None:
    match event:
        case OutageBegan():
            return f"no server answers ({event.message}): waiting, and trying every now and then"
        case OutageEnded():
            return f"going on after {duration(event.held_s)}: the server answers again"
    return None


def _shortened(line: str) -> str:
    """What became of a key, which was told in full when it happened."""
    return line if len(line) <= LINE_CHARS else f"{line[: LINE_CHARS - 1]}…"


def _key(name: str) -> str:
    """A key as a sentence has it: keys without a name are called key 1, key 2."""
    return name if name.startswith("key ") else f"key {name}"


def _changed(event: KeysChanged) -> str:
    edited = [name for name in event.added if name in event.removed]
    parts = (
        ("added", [name for name in event.added if name not in edited]),
        ("removed", [name for name in event.removed if name not in edited]),
        ("changed", edited),
    )
    told = [f"{', '.join(map(_key, names))} {word}" for word, names in parts if names]
    return f"the config was read again: {'; '.join(told) or 'no key changed'}"
