"""Publishing: from the store to the output files, in input order, while the run goes on.

The output grows as `<output>.part` and is renamed over the target when the run is done, so the
target is whole or absent. The store alone is read: any run can be published, dead or alive.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gptflow.data.sinks.failed import FailedSink, failed_path, remove_failed
from gptflow.data.sinks.sink import open_sink, output_format_of
from gptflow.data.sinks.whole import WholeFile
from gptflow.errors import OutputError, StoreError
from gptflow.pipeline.identity import digest_of
from gptflow.records import RowStatus
from gptflow.runner.prepare import Prepared
from gptflow.store.reader import RESULT_PAGE, StoreReader
from gptflow.store.record import RunRecord

INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of a run go, and what of them."""

    path: Path
    columns: tuple[str, ...] | None
    """The columns to write, or None for all of `known`."""
    known: tuple[str, ...]
    """Every column and field that a row may have, in order."""
    csv_safe: bool = False

    @classmethod
    def of(cls, prepared: Prepared, run: RunRecord) -> Target:
        """The target that a spec names for a run."""
        output = prepared.spec.output
        columns = tuple(output.columns) if output.columns else None
        known = (*run.columns, *prepared.plan.fields)
        return cls(prepared.output, columns, known, output.csv_safe)

    @property
    def digest(self) -> str:
        """Says whether an output was written as this target wants it."""
        wanted = [str(self.path), self.columns, self.known]
        # Appended, so that outputs of versions that did not know it need not be written again.
        return digest_of([*wanted, "csv_safe"] if self.csv_safe else wanted)

    def is_published(self, run: RunRecord) -> bool:
        """Whether the output of a finished run is in its place."""
        return run.output_digest == self.digest and self.path.is_file()


class Publisher(threading.Thread):
    """Writes the finished rows of a run as far as they go, every second, in a thread."""

    def __init__(self, store_path: Path, run_id: int, target: Target) -> None:
        """Opens the output at once: if it cannot be written, nothing should be asked.

        Raises:
            UsageError: the output cannot be written there.
        """
        super().__init__(name="publisher", daemon=True)
        self._store_path = store_path
        self._run_id = run_id
        self._target = target
        self._publication = Publication(target)
        self._ended = threading.Event()
        self._commit = False
        self._error: BaseException | None = None

    def finish(self, *, commit: bool) -> None:
        """Writes what is left. With `commit` the output is put in its place.

        Raises:
            OutputError: the output cannot be written.
            StoreError: the store cannot be read.
            Exception: whatever else has ended the thread, for then the output is not whole.
        """
        self._commit = commit
        self._ended.set()
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """The thread's body."""
        try:
            self._publish_twice()
        except OSError as error:
            self._error = OutputError.of(self._target.path, error)
        except BaseException as error:  # noqa: BLE001  # `finish` raises it on the caller's thread
            self._error = error

    def _publish_twice(self) -> None:
        """By the end a disk that was full may have room again, and a store be free to be read."""
        try:
            self._publish()
        except (OSError, StoreError):
            self._ended.wait()
            if not self._commit:
                raise
            self._publication = Publication(self._target)
            self._publish()

    def _publish(self) -> None:
        with self._publication as publication, StoreReader(self._store_path) as reader:
            while not self._ended.wait(INTERVAL_S):
                publication.advance(reader, self._run_id)
            publication.advance(reader, self._run_id)
            if self._commit:
                publication.commit()


class Publication:
    """The output files of one run, being written."""

    def __init__(self, target: Target) -> None:
        self._position = 0
        self._has_failed = False
        with ExitStack() as undo:
            self._whole = WholeFile(target.path)
            undo.callback(self._whole.abandon)
            self._failed = WholeFile(failed_path(target.path))
            undo.callback(self._failed.abandon)
            self._sinks = {
                RowStatus.DONE: open_sink(
                    self._whole.stream,
                    output_format_of(target.path),
                    columns=target.columns,
                    known=target.known,
                    csv_safe=target.csv_safe,
                ),
                RowStatus.FAILED: FailedSink(self._failed.stream),
            }
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._has_failed:
            self._failed.abandon()
        self._failed.close()
        self._whole.close()

    def advance(self, reader: StoreReader, run_id: int) -> None:
        """Writes the rows that have ended since, up to the first that is still pending."""
        while batch := reader.finished_prefix(run_id, self._position, RESULT_PAGE):
            for result in batch:
                self._sinks[result.status].write(result)
                self._has_failed |= result.status is RowStatus.FAILED
            self._position = batch[-1].position + 1
        for sink in self._sinks.values():
            sink.flush()

    def commit(self) -> None:
        """Puts the files in their places. Where no row failed, there is no file of failed rows."""
        for sink in self._sinks.values():
            sink.finish()
        self._whole.commit()
        if self._has_failed:
            self._failed.commit()
        else:
            self._failed.abandon()
            remove_failed(self._failed.path)
