"""The files of a single round: one for each worker while it goes on, one with all at its end.

A line is a JSON object with `id`, `system_prompt`, `prompt` and `response`. A line is an answer if
its first three are those of an item that is asked now; any other, a torn one too, is passed over.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from gptflow.errors import OutputError, UsageError


class Item(NamedTuple):
    """One question of a round."""

    id: int
    """Its place in the list of prompts, from 0."""
    system_prompt: Any
    prompt: Any


class RoundFiles:
    """Where a round's answers are: `fout`, and worker0_NAME, worker1_NAME ... beside it."""

    def __init__(self, fout: str | os.PathLike[str]) -> None:
        """Find the place of the files, and make its folder.

        Raises:
            UsageError: `fout` is no place for a file.
            OutputError: its folder cannot be made.
        """
        if not isinstance(fout, str | os.PathLike) or not os.fspath(fout):
            raise UsageError(f"fout is {fout!r}", hint="name the file of the answers: out.jsonl")
        self.fout = Path(os.path.realpath(fout))
        if self.fout.exists() and not self.fout.is_file():
            kind = "a folder" if self.fout.is_dir() else "not a regular file"
            raise UsageError(f"fout is {fout}, which is {kind}")
        try:
            self.fout.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.fout, error) from None

    def of_worker(self, worker: int) -> Path:
        """The file that a worker writes."""
        return self.fout.with_name(f"worker{worker}_{self.fout.name}")

    def of_workers(self) -> list[Path]:
        """The files that workers have left, of this run and of earlier ones."""
        name = re.compile(rf"worker\d+_{re.escape(self.fout.name)}")
        paths = (path for path in self.fout.parent.iterdir() if name.fullmatch(path.name))
        return sorted(path for path in paths if path.is_file())

    def answers(self, items: Sequence[Item]) -> dict[int, Any]:
        """What is answered already, by id."""
        found: dict[int, Any] = {}
        for path in [*self.of_workers(), self.fout]:
            for line in _lines(path):
                if _is_answer(line, items):
                    found.setdefault(line["id"], line["response"])
        return found

    def is_finished(self, items: Sequence[Item]) -> bool:
        """Whether `fout` has the answers to these items alone, and no worker's file is left."""
        if not self.fout.is_file() or self.of_workers():
            return False
        ids = [line["id"] if _is_answer(line, items) else None for line in _lines(self.fout)]
        return ids == list(range(len(items)))

    def finish(self, items: Sequence[Item], answers: Mapping[int, Any]) -> None:
        """Writes all answers to `fout`, in order, and removes the workers' files.

        On return they outlive a power cut. Until then `fout` is what it was.

        Raises:
            OutputError: it cannot be written. The workers' files are kept.
        """
        part = self.fout.with_name(f"{self.fout.name}.part")
        try:
            with part.open("wb") as stream:
                stream.writelines(_line(item, answers[item.id]) for item in items)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self.fout)
            _sync_folder(self.fout.parent)
            for path in self.of_workers():
                path.unlink()
        except OSError as error:
            raise unwritable(self.fout, error) from None


class AnswerLog:
    """A worker's file, being written: an answer is with the operating system when it is added."""

    def __init__(self, path: Path) -> None:
        """Go on with a file, or begin it.

        Raises:
            OutputError: it cannot be written.
        """
        self._path = path
        try:
            self._stream = path.open("ab")
            if not _ends_line(path):  # torn by a crash: the next answer needs a line of its own
                self._stream.write(b"\n")
        except OSError as error:
            raise unwritable(path, error) from None

    def add(self, item: Item, response: Any) -> None:
        """Writes an answer.

        Raises:
            OutputError: it cannot be written, in whole at least.
        """
        try:
            self._stream.write(_line(item, response))
            self._stream.flush()
        except OSError as error:
            raise unwritable(self._path, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # after a failed write closing fails once more, which is no news
            self._stream.close()


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file of a round that cannot be written."""
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}",
        hint="make room, or choose another fout; what is answered is kept in the workers' files "
        "beside it, and the same call goes on from there",
    )


def _line(item: Item, response: Any) -> bytes:
    value = {**item._asdict(), "response": response}
    try:
        return msgspec.json.encode(value) + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, which JSON can write as \ud800
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _lines(path: Path) -> Iterator[Any]:
    """Each line decoded; None for one that is no JSON. A file that is not there has none."""
    with suppress(FileNotFoundError), path.open("rb") as stream:
        for raw in stream:
            if raw.strip():
                yield _decoded(raw)


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        with suppress(ValueError, RecursionError):  # a lone surrogate is fine for json
            return json.loads(raw)
        return None


def _is_answer(line: Any, items: Sequence[Item]) -> bool:
    if not isinstance(line, dict) or "response" not in line:
        return False
    at = line.get("id")
    if type(at) is not int or not 0 <= at < len(items):
        return False
    return Item(at, line.get("system_prompt"), line.get("prompt")) == items[at]


def _ends_line(path: Path) -> bool:
    with path.open("rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    # The new name is an entry of the folder: without this, a power cut may bring the old one back.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
