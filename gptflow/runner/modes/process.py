"""Mode `process`: each worker is a process of its own, with a core to itself where there is one."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

from gptflow.errors import WorkerFailed
from gptflow.runner.crew.frames import Frames
from gptflow.runner.modes.process_end import ProcessEnd

GRACE_S = 3.0
"""Seconds that a process gets to end by itself, before it is killed; and that the line to one which
has ended gets to bring what it has said, if another process holds it open."""
START_S = 120.0
"""Seconds for a process to begin: it imports what the user's functions do."""

_PROGRAM = """\
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.path[:] = {path!r}
from gptflow.runner.modes.process_life import live
live({line}, {life})
"""


class Processes:
    """Starts worker processes on this machine."""

    title = "process"
    start_s: float | None = START_S

    async def hire(
        self, number: int, on_batch: Callable[[bytes], object], on_lost: Callable[[str], object]
    ) -> ProcessLink:
        """Starts a process. See link.Mode."""
        del number
        link = ProcessLink(on_lost)
        await link.open(on_batch)
        return link

    async def close(self) -> None:
        """See link.Mode. There is nothing beside the workers."""


class ProcessLink:
    """The run's end of the line to a process."""

    def __init__(self, on_lost: Callable[[str], object]) -> None:
        self._on_lost = on_lost
        self._line_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened = ExitStack()

    async def open(self, on_batch: Callable[[bytes], object]) -> None:
        """Starts the process. If it cannot, or is cancelled, nothing is left of it.

        Raises:
            WorkerFailed: the system does not let it.
        """
        self._frames = Frames(on_batch, self._note_line)
        with ExitStack() as opening:
            try:
                await self._open(opening)
            except OSError as error:
                raise _not_started(error.strerror or str(error), error.errno) from error
            except RuntimeError as error:  # a thread that cannot be started
                raise _not_started(str(error)) from error
            self._opened = opening.pop_all()
        self._watching = asyncio.create_task(self._watch())

    async def _open(self, opening: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        opening.callback(ours.close)
        with theirs:  # or the end of the worker would not end the line
            read_end, write_end = os.pipe()
            opening.callback(os.close, write_end)
            try:
                self._process = _start(theirs.fileno(), read_end)
            finally:
                os.close(read_end)
        opening.callback(self._kill)
        self._end = ProcessEnd(self._process)
        opening.callback(self._end.close)
        opening.callback(self._frames.abort)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._frames, sock=ours)

    def send(self, batch: bytes) -> None:
        """See link.Link."""
        self._frames.send(batch)

    async def close(self) -> None:
        """See link.Link. Kills it after GRACE_S, or at once where nobody waits so long."""
        self._watching.cancel()
        self._frames.close()
        with self._opened:
            await asyncio.wait([self._end.seen], timeout=GRACE_S)

    async def _watch(self) -> None:
        """Tells of an end that nobody has asked for.

        What the process has said before is heard first: the line has it still. A line without end
        is one that a child of the process holds, and a process without end has closed its line.
        """
        signs: list[asyncio.Future[None] | asyncio.Future[int]] = [self._line_ended, self._end.seen]
        await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(signs, timeout=GRACE_S)
        if self._end.seen.done():
            self._on_lost(_ending(self._end.seen.result()))
        else:
            self._process.kill()
            self._on_lost("closed its line")

    def _note_line(self) -> None:
        if not self._line_ended.done():
            self._line_ended.set_result(None)

    def _kill(self) -> None:
        self._process.kill()  # does nothing to one that has ended
        self._process.wait()


def _start(line: int, life: int) -> subprocess.Popen[bytes]:
    # Others than strings may be on the path, and mean nothing to Python.
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return subprocess.Popen(  # noqa: S603  # this very Python, with a program of our own
        # Without -P the working directory would come first on its path.
        [sys.executable, "-P", "-c", _PROGRAM.format(path=path, line=line, life=life)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if _has_descriptor() else subprocess.DEVNULL,
        pass_fds=(line, life),
        process_group=0,  # a Ctrl-C is for the run alone, which lets its calls come back
    )


def _has_descriptor() -> bool:
    """Whether stderr is a file of the system: in a notebook it is not."""
    try:
        return sys.stderr.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False


def _not_started(why: str, number: int | None = None) -> WorkerFailed:
    of_files = number in (errno.EMFILE, errno.ENFILE)
    hint = "raise the limit of open files (ulimit -n), or take" if of_files else "take"
    return WorkerFailed(f"no process can be started: {why}", hint=f"{hint} fewer workers")


def _ending(code: int) -> str:
    """How a process has ended, for a person."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {signal_.value: signal_.name for signal_ in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"
