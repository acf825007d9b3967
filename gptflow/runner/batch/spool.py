"""The files of calls that are to be uploaded: of each kind one that grows, and is sealed when full.

A file is of one model and one endpoint: a provider takes no other.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gptflow.errors import StoreError
from gptflow.records import Call
from gptflow.spec.parallelism import BatchSpec
from gptflow.store.batches import BatchCall

_MEGABYTE = 1_000_000
_DIGEST_BYTES = 16
_TOKEN_BYTES = 8


class Sealed(NamedTuple):
    """A file that is whole."""

    token: str
    """Its own name, and that of its batch: no other has it."""
    model: str
    endpoint: str
    calls: list[BatchCall]
    tokens: int
    """Of its prompts, estimated."""
    size_bytes: int
    digest: str
    usd: float
    """What its calls may cost, where somebody counts."""


@dataclass(slots=True)
class _Growing:
    token: str
    file: BinaryIO
    digest: Any
    calls: list[BatchCall] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set)
    size_bytes: int = 0
    tokens: int = 0
    usd: float = 0.0


class Spool:
    """Writes calls into files. One question stands in one file, however many rows have it."""

    def __init__(self, folder: Path, limits: BatchSpec, new_token: Callable[[], str]) -> None:
        """`folder`: beside the store; made with the first file."""
        self._folder = folder
        self._limits = limits
        self._new_token = new_token
        self._most_tokens: dict[str, int] = {}
        """That a provider's queue takes at a time, by model, as far as refusals have shown."""
        self._growing: dict[tuple[str, str], _Growing] = {}
        """By model and endpoint."""
        self._handed: dict[str, set[bytes]] = {}
        """The keys of files that are sealed, and that the store does not know yet."""

    @classmethod
    def beside(cls, store: Path, limits: BatchSpec) -> Spool:
        """The files of a store: in a folder beside it."""
        folder = store.with_name(f"{store.name}.batches")
        return cls(folder, limits, partial(secrets.token_hex, _TOKEN_BYTES))

    def path(self, token: str) -> Path:
        """Where the file of a batch is."""
        return self._folder / f"{token}.jsonl"

    def holds(self, call_key: bytes) -> bool:
        """Whether a call is in a file that the store does not know."""
        return any(call_key in growing.keys for growing in self._growing.values()) or any(
            call_key in keys for keys in self._handed.values()
        )

    def narrow(self, model: str, tokens: int) -> None:
        """No file of a model is to have more tokens from now on, but for one of a single call."""
        self._most_tokens[model] = min(tokens, self._most_tokens.get(model, tokens))

    def is_too_large(self, model: str, tokens: int) -> bool:
        """Whether a file of so many tokens would not be written any more."""
        return tokens > self._most_tokens.get(model, tokens)

    def takes(self, size_bytes: int, tokens: int) -> bool:
        """Whether a file can hold a line of this size at all."""
        most_tokens = self._limits.enqueued_tokens
        return size_bytes <= self._limits.megabytes * _MEGABYTE and (
            most_tokens is None or tokens <= most_tokens
        )

    def add(self, call: Call, line: bytes, tokens: int, usd: float) -> Sealed | None:
        """Write a call; gives the file before, where it had no room for this one."""
        kind = call.model, call.endpoint
        growing = self._growing.get(kind)
        sealed = None
        if growing is not None and not self._has_room(call.model, growing, line, tokens):
            sealed = self._seal(kind)
            growing = None
        growing = growing or self._open(kind)
        try:
            growing.file.write(line)
        except OSError as error:
            raise self.failed(self.path(growing.token), error) from error
        growing.digest.update(line)
        growing.calls.append(BatchCall(call.key, call.step, tokens))
        growing.keys.add(call.key)
        growing.size_bytes += len(line)
        growing.tokens += tokens
        growing.usd += usd
        return sealed

    def seal_all(self) -> list[Sealed]:
        """All that has been written, in whole files."""
        return [self._seal(kind) for kind in list(self._growing)]

    def is_known(self, token: str) -> None:
        """The store knows the calls of a file from now on."""
        self._handed.pop(token, None)

    def remove(self, token: str) -> None:
        """Remove the file of a batch, and the folder with the last one."""
        self.path(token).unlink(missing_ok=True)
        self._remove_folder()

    def tidy(self, kept: Container[str]) -> None:
        """Remove what a killed process has left: all files but those of these batches."""
        for path in self._folder.glob("*.jsonl"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)
        self._remove_folder()

    def close(self) -> None:
        """Drop what is not sealed."""
        for growing in self._growing.values():
            with suppress(OSError):  # a full disk, which is told already
                growing.file.close()
            with suppress(OSError):
                self.path(growing.token).unlink(missing_ok=True)
        self._growing.clear()
        self._remove_folder()

    def make_folder(self) -> None:
        """For this user's eyes: the files hold prompts and answers."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _remove_folder(self) -> None:
        with suppress(OSError):  # it is not there, or there are files in it
            self._folder.rmdir()

    def _has_room(self, model: str, growing: _Growing, line: bytes, tokens: int) -> bool:
        limits = self._limits
        most_tokens = limits.enqueued_tokens
        return (
            len(growing.calls) < limits.requests
            and growing.size_bytes + len(line) <= limits.megabytes * _MEGABYTE
            and (most_tokens is None or growing.tokens + tokens <= most_tokens)
            and not self.is_too_large(model, growing.tokens + tokens)
        )

    def _open(self, kind: tuple[str, str]) -> _Growing:
        token = self._new_token()
        try:
            self.make_folder()
            self.path(token).touch(0o600)
            file = self.path(token).open("wb")
        except OSError as error:
            raise self.failed(self.path(token), error) from error
        growing = _Growing(token, file, blake2b(digest_size=_DIGEST_BYTES))
        self._growing[kind] = growing
        return growing

    def _seal(self, kind: tuple[str, str]) -> Sealed:
        growing = self._growing.pop(kind)
        try:
            growing.file.close()
        except OSError as error:
            raise self.failed(self.path(growing.token), error) from error
        self._handed[growing.token] = growing.keys
        return Sealed(
            growing.token,
            *kind,
            growing.calls,
            growing.tokens,
            growing.size_bytes,
            growing.digest.hexdigest(),
            growing.usd,
        )

    @staticmethod
    def failed(path: Path, error: OSError) -> StoreError:
        """What a person is told of a file that cannot be written."""
        return StoreError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="make room beside the store, or move it with --store; the same command goes on",
        )
