"""The files of a single round: one for each worker while it goes on, one with all at its end.

A third one keeps what is answered, but not asked for by this call: it was paid, and a later call
may ask for it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gptflow.errors import UsageError
from gptflow.files import real, sync_folder
from gptflow.wrapper.answer_log import unwritable
from gptflow.wrapper.round_line import Answer, Asked, Item, answers_in, is_just, line_of


class Found(NamedTuple):
    """The answers that there are already."""

    answers: dict[int, Any]
    """To the items of this call, by id."""
    rest: dict[Asked, Answer]
    """To anything else."""


class RoundFiles:
    """Where answers are: `fout`, and worker0_NAME, worker1_NAME ... and .NAME.rest beside it."""

    def __init__(self, fout: str | os.PathLike[str]) -> None:
        """Find the place of the files, and make its folder.

        Raises:
            UsageError: `fout` is no place for a file.
            OutputError: its folder cannot be made.
        """
        if not isinstance(fout, str | os.PathLike) or not os.fspath(fout):
            raise UsageError(f"fout is {fout!r}", hint="name the file of the answers: out.jsonl")
        self.fout = real(Path(fout))
        self.rest = self.fout.with_name(f".{self.fout.name}.rest")
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

    def find(self, items: Sequence[Item]) -> Found:
        """What is answered already, in whichever file. The first of several answers counts."""
        wanted = {item.asked: item.id for item in items}
        found = Found({}, {})
        for path in [*self.of_workers(), self.fout, self.rest]:
            for answer in answers_in(path, counts_itself=path == self.fout):
                asked = answer.item.asked
                if asked in wanted:
                    found.answers.setdefault(wanted[asked], answer.response)
                else:
                    found.rest.setdefault(asked, answer)
        return found

    def is_finished(self, items: Sequence[Item]) -> bool:
        """Whether `fout` has the answers to these items alone, and no worker's file is left."""
        return self.fout.is_file() and not self.of_workers() and is_just(self.fout, items)

    def finish(self, items: Sequence[Item], found: Found) -> None:
        """Writes the answers to `items` to `fout`, in order, and removes the workers' files.

        On return they outlive a power cut, and so does the rest. Until then `fout` is what it was.

        Raises:
            OutputError: a file cannot be written. The workers' files are kept.
        """
        kept = {answer.item.asked: answer for answer in answers_in(self.rest, counts_itself=False)}
        both = kept | found.rest
        try:
            if len(both) > len(kept):  # first: some of it may be in `fout`, which is replaced next
                self._keep(both)
            answers = (Answer(item, found.answers[item.id]) for item in items)
            _write(self.fout, answers, counts_itself=True)
            if len(both) > len(found.rest):
                self._keep(found.rest)
            for path in self.of_workers():
                path.unlink()
        except OSError as error:
            raise unwritable(self.fout, error) from None

    def _keep(self, rest: Mapping[Asked, Answer]) -> None:
        if rest:
            _write(self.rest, rest.values(), counts_itself=False)
        else:
            self.rest.unlink()


def _write(path: Path, answers: Iterable[Answer], *, counts_itself: bool) -> None:
    """Puts a file with these answers in the place of `path`, or leaves it as it is."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as stream:
        stream.writelines(line_of(*answer, counts_itself=counts_itself) for answer in answers)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    sync_folder(path.parent)
