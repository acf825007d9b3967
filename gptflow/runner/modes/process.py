"""Mode `process`: each worker is a process of its own, with a core to itself where there is one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from gptflow.errors import WorkerFailed
from gptflow.runner.crew.frames import Frames
from gptflow.runner.crew.inside import work
from gptflow.runner.crew.mailbox import Mailbox
from gptflow.runner.garbage import rare_collections
from gptflow.runner.loop import run_coroutine

GRACE_S = 3.0
"""Seconds that a process gets to end by itself, before it is killed."""

_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from gptflow.runner.modes.process import live
live({line}, {life})
"""


class Processes:
    """Starts worker processes on this machine."""

    title = "process"

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
        self._closing = False
        self._gone = asyncio.Event()

    async def open(self, on_batch: Callable[[bytes], object]) -> None:
        """Starts the process.

        Raises:
            WorkerFailed: the system does not let it.
        """
        ours, theirs = socket.socketpair()
        read_end, self._life = os.pipe()
        try:
            self._process = _start(theirs.fileno(), read_end)
        except OSError as error:
            ours.close()
            os.close(self._life)
            raise WorkerFailed(f"no process can be started: {error.strerror}") from error
        finally:
            theirs.close()  # or the end of the worker would not end the line
            os.close(read_end)
        loop = asyncio.get_running_loop()
        _, self._frames = await loop.create_connection(
            lambda: Frames(on_batch, self._ended), sock=ours
        )

    def send(self, batch: bytes) -> None:
        """See link.Link."""
        self._frames.send(batch)

    async def close(self) -> None:
        """See link.Link. Kills it after GRACE_S, or at once where nobody waits so long."""
        self._closing = True
        self._frames.close()
        try:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, GRACE_S)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            os.close(self._life)

    def _ended(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().create_task(self._tell_loss())

    async def _tell_loss(self) -> None:
        try:
            code = await asyncio.to_thread(self._process.wait, GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = None
        self._on_lost(_ending(code))


def _start(line: int, life: int) -> subprocess.Popen[bytes]:
    program = _PROGRAM.format(path=sys.path, line=line, life=life)
    return subprocess.Popen(  # noqa: S603  # this very Python, with a program of our own
        # Without -P the working directory would come first on its path.
        [sys.executable, "-P", "-c", program],
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


def _ending(code: int | None) -> str:
    """How a process has ended, for a person."""
    if code is None:
        return "closed its line"
    if code >= 0:
        return f"ended with exit code {code}"
    known = {signal_.value: signal_.name for signal_ in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"


def live(line: int, life: int) -> None:
    """The life of a worker process, which was given its end of the line.

    `life`: the end of a pipe whose other end only the run has: it ends when the run does.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_run, args=(life,), name="gptflow-run", daemon=True).start()
    with rare_collections():
        run_coroutine(_work(socket.socket(fileno=line)))


def _die_with_run(life: int) -> None:
    """Ends the process when the run has ended: nobody will take its answers, or pay for them."""
    os.read(life, 1)
    os._exit(1)


async def _work(line: socket.socket) -> None:
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    _, frames = await loop.create_connection(lambda: Frames(mailbox.put, mailbox.end), sock=line)
    mailbox.send = frames.send
    await work(mailbox)
    frames.close()
