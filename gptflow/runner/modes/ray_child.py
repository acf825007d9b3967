"""The process that speaks with Ray, as the run has it: its start, what it says, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from gptflow.errors import UsageError
from gptflow.runner.crew.frames import Frames
from gptflow.runner.modes.ray_folder import RayFolder, sweep_folders
from gptflow.runner.modes.ray_frames import (
    Frame,
    Kind,
    Refused,
    Size,
    Wanted,
    decoded,
    encoded,
)
from gptflow.spec.parallelism import RaySpec

JOIN_S = 55.0
"""For a cluster to answer. Where nobody listens, that is told sooner (`ray_cluster.REACH_S`)."""
BEGIN_S = 90.0
"""For one to begin on this machine."""
LEAVE_S = 8.0
"""For a cluster on this machine to end. What is left then is killed."""
_TOLD_CHARACTERS = 300
_NOTICE = "Token authentication is enabled"
"""What Ray says to everybody: it is no reason."""

_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from gptflow.runner.modes.ray_driver import main
main({line})
"""


class RayChild:
    """Starts the process with `join`; from then on `post` and `on_frame` are the line to it."""

    def __init__(self, on_frame: Callable[[Frame], None], on_end: Callable[[str], None]) -> None:
        """Both are called on the loop that joins; `on_end` with how it ended, if by itself."""
        self._on_frame = on_frame
        self._on_end = on_end
        # Ray puts the working directory on the import path of all workers: it gets one of its own.
        self._folder = RayFolder()
        self._frames = Frames(self._take, self._ended)
        self._process: subprocess.Popen[bytes] | None = None
        self._joined: asyncio.Future[Size] = asyncio.get_running_loop().create_future()
        self._closing = False

    def post(self, frame: Frame) -> None:
        """Sends a frame. Never waits; is ignored where the process has ended."""
        self._frames.send(encoded(frame))

    async def join(self, spec: RaySpec, cpus: int, *, grows: bool) -> Size:
        """Starts the process, and waits until it has joined the cluster, or begun one here.

        Raises:
            UsageError: there is no such cluster, or its nodes have another gptflow.
        """
        address = spec.address or os.environ.get("RAY_ADDRESS") or None
        if address == "local":  # Ray's own word for it
            address = None
        place = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        try:
            await self._start()
            wanted = Wanted(address, cpus, str(self._folder.path), spec.config, grows)
            self.post(Frame(Kind.JOIN, body=msgspec.json.encode(wanted)))
            return await asyncio.wait_for(self._joined, JOIN_S if address else BEGIN_S)
        except TimeoutError:
            said = self._last_words()
            await self.close(in_haste=True)
            raise UsageError(f"{place} does not answer{said}") from None
        except BaseException:
            await self.close(in_haste=True)
            raise

    async def close(self, *, in_haste: bool = False) -> None:
        """Ends it with all that it has started, and leaves no file of it behind.

        `in_haste`: it gets no time to end by itself.
        """
        self._closing = True
        self._frames.close()
        if self._process is not None:
            await _end(self._process, 0 if in_haste else LEAVE_S)
        await asyncio.to_thread(self._folder.remove)

    async def _start(self) -> None:
        await asyncio.to_thread(sweep_folders, Path(tempfile.gettempdir()))
        ours, theirs = socket.socketpair()
        with theirs, self._folder.open_log() as log:
            self._process = _start(theirs.fileno(), str(self._folder.path), log)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._frames, sock=ours)

    def _take(self, batch: bytes) -> None:
        frame = decoded(batch)
        if self._joined.done():
            self._on_frame(frame)
        elif frame.kind is Kind.JOINED:
            self._joined.set_result(msgspec.json.decode(frame.body, type=Size))
        else:
            refused = msgspec.json.decode(frame.body, type=Refused)
            self._joined.set_exception(UsageError(refused.message, hint=refused.hint))

    def _ended(self) -> None:
        if self._closing:
            return
        how = f"was lost with the connection to the cluster{self._last_words()}"
        if self._joined.done():
            self._on_end(how)
        else:
            how = f"the process that speaks with Ray has ended{self._last_words()}"
            self._joined.set_exception(UsageError(how))

    def _last_words(self) -> str:
        """What Ray wrote last: it gives its reasons there."""
        with suppress(OSError):
            lines = self._folder.log.read_text(errors="replace").split("\n")
            told = [line for line in lines if line.strip() and _NOTICE not in line]
            return f": {told[-1][:_TOLD_CHARACTERS]}" if told else ""
        return ""


def _start(line: int, folder: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # our own interpreter and program
        # Without -P the working directory would come first on its path.
        [sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path, line=line)],
        cwd=folder,
        pass_fds=[line],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # a Ctrl-C is for the run alone
    )


async def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Waits for a process, and kills what is then left of its group: Ray's agents outlive it."""
    # Not waited for in the usual way yet: from then on its number may be another's.
    ended = asyncio.ensure_future(
        asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    )
    await asyncio.wait([ended], timeout=grace_s)
    os.killpg(process.pid, signal.SIGKILL)
    await ended
    process.wait()
