"""The life of a worker process, as it is from inside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading

from gptflow.runner.crew.frames import Frames
from gptflow.runner.crew.inside import work
from gptflow.runner.crew.mailbox import Mailbox
from gptflow.runner.garbage import rare_collections
from gptflow.runner.loop import run_coroutine

_OF_THE_RUN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal or a service manager sends them to all processes of a run. They are for the run alone,
which lets the calls in flight come back; its worker ends when it is told to, or with the run."""


def live(line: int, life: int) -> None:
    """The life of a worker process, which was given its end of the line.

    `life`: the end of a pipe whose other end only the run has: it ends when the run does.
    """
    for descriptor in (line, life):  # a program that a hook starts would hold them open
        os.set_inheritable(descriptor, False)
    for number in _OF_THE_RUN:
        # Not SIG_IGN, which such a program would inherit.
        signal.signal(number, lambda *_: None)
    os.register_at_fork(after_in_child=_heed_signals)
    sys.stdout = sys.stderr  # what hooks print, as in the run's own process; and line by line
    threading.Thread(target=_die_with_run, args=(life,), name="gptflow-run", daemon=True).start()
    with rare_collections():
        run_coroutine(_work(socket.socket(fileno=line)))


def _heed_signals() -> None:
    """A pool of processes that a hook has could not be ended otherwise."""
    for number in _OF_THE_RUN:
        signal.signal(number, signal.SIG_DFL)


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
