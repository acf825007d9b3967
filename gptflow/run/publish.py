"""Publishing: from the store to the output files, in input order, while the run goes on.

The output grows as `<output>.part` and is renamed over the target when the run is done, so the
target is whole or absent. The store alone is read: any run can be published, dead or alive.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gptflow.data.sinks.failed import FailedRows, failed_path
from gptflow.data.sinks.sink import open_sink
from gptflow.data.sinks.whole import WholeFile
from gptflow.errors import GptflowError
from gptflow.records import RowStatus
from gptflow.store.reader import StoreReader

BATCH_ROWS = 2_000
INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where finished rows go, and what of them."""

    path: Path
    columns: tuple[str, ...] | None
    """The columns to write, or None for all of `known_columns`."""
    known_columns: tuple[str, ...]
    """Every column and field that a row may have, in order."""


class Publisher(threading.Thread):
    """Writes the finished rows of a run as far as they go, every second, in a thread."""

    def __init__(self, store_path: Path, run_id: int, target: Target) -> None:
        super().__init__(name="publisher", daemon=True)
        self._store_path = store_path
        self._run_id = run_id
        self._target = target
        self._ended = threading.Event()
        self._commit = False
        self._error: BaseException | None = None

    def finish(self, *, commit: bool) -> None:
        """Writes what is left. With `commit` the output is put in its place.

        Raises:
            GptflowError, OSError: the output cannot be written.
        """
        self._commit = commit
        self._ended.set()
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """The thread's body."""
        try:
            with StoreReader(self._store_path) as reader:
                self._publish(reader)
        except (GptflowError, OSError) as error:
            self._error = error

    def _publish(self, reader: StoreReader) -> None:
        with Publication(self._target) as publication:
            while not self._ended.wait(INTERVAL_S):
                publication.advance(reader, self._run_id)
            publication.advance(reader, self._run_id)
            if self._commit:
                publication.commit()


class Publication:
    """The output files of one run, being written."""

    def __init__(self, target: Target) -> None:
        self._position = 0
        self._whole = WholeFile(target.path)
        self._sink = open_sink(
            self._whole.stream, target.path.suffix, target.columns, target.known_columns
        )
        self._failed = FailedRows(failed_path(target.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._failed.abandon()
        self._whole.close()

    def advance(self, reader: StoreReader, run_id: int) -> None:
        """Writes the rows that have ended since, up to the first that is still pending."""
        while True:
            batch = reader.finished_prefix(run_id, self._position, BATCH_ROWS)
            for result in batch:
                if result.status is RowStatus.DONE:
                    self._sink.write(result)
                else:
                    self._failed.write(result)
            self._position += len(batch)
            if len(batch) < BATCH_ROWS:
                break
        self._whole.flush()

    def commit(self) -> None:
        """Puts the files in their places; an empty file of failed rows is removed."""
        self._sink.close()
        self._whole.commit()
        self._failed.commit()
