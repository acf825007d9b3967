"""Messages in the background: the work goes on, whatever becomes of them."""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gptflow.errors import LarkError
from gptflow.notify.lark import LarkBot
from gptflow.notify.message import Color, Message

MOST_WAITING = 200
"""Beyond this the oldest message is left out."""
MOST_SINGLY = 4
"""With more than this waiting, all of them go as one."""
JOINED_CHARACTERS = 6_000
"""What a message of several may hold; every one of them has its share."""
EXIT_S = 3.0
"""How long a process that ends waits for its messages."""


class Messenger:
    """Sends messages by a thread of its own, in order. Nothing here raises, and only `close` waits.

    Where messages come faster than Lark takes them, those that wait go as one. A hook that will
    never take one (deleted, wrong secret, IP not allowed, keyword missing) is told to `on_trouble`
    once, and then given up; a passing trouble is told once until a message goes through again.
    When the process ends, messages have EXIT_S to go out. A forked child begins with none.
    """

    def __init__(self, bot: LarkBot, *, on_trouble: Callable[[str], None] | None = None) -> None:
        """`on_trouble`: called on the messenger's thread; without it, a Python warning is given."""
        self._bot = bot
        self._on_trouble = on_trouble
        self._reset()

    def _reset(self) -> None:
        """A state without messages and thread: at first, and in a forked child."""
        self._pid = os.getpid()
        self._turn = threading.Lock()
        self._waiting: deque[Message] = deque()
        self._left_out = 0
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._has_given_up = False
        self._is_in_trouble = False

    def post(self, text: str) -> None:
        """Sends a text, some time."""
        self._post(Message(str(text)))

    def post_card(
        self, title: str, content: str, *, color: Color = "blue", markdown: bool = False
    ) -> None:
        """Sends a card, some time."""
        self._post(Message(str(content), str(title), "interactive", color, markdown))

    def close(self, timeout_s: float = EXIT_S) -> bool:
        """Waits until all messages went out; False, and a word of trouble, if they did not.

        A messenger may be used again afterwards.
        """
        if self._pid != os.getpid():
            return True
        with self._turn:
            thread = self._thread
        if thread:
            self._closing.set()
            thread.join(max(timeout_s, 0))
        if not self._waiting and not (thread and thread.is_alive()):
            return True
        _BUSY.discard(self)  # the end of the process does not wait for the same again
        if timeout_s > 0 and not self._is_in_trouble:
            self._say(f"Lark did not take all messages within {timeout_s:.2g} s")
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        return Messenger, (self._bot,)

    def __repr__(self) -> str:
        return f"Messenger({self._bot!r})"

    def _post(self, message: Message) -> None:
        if self._pid != os.getpid():
            self._reset()  # the lock, and a thread that fork did not copy, are the parent's
        with self._turn:
            if self._has_given_up:
                return
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self._left_out += 1
            self._waiting.append(message)
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        """Starts the thread. It ends when nothing waits any more."""
        self._closing.clear()
        thread = threading.Thread(target=self._work, name="gptflow-lark", daemon=True)
        # A process at its end has no more imports to give, and one at its limit no thread.
        with suppress(RuntimeError, ImportError):
            _drain_at_exit(self)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        try:
            while message := self._next():
                self._deliver(message)
        finally:  # whatever ended it, the next message finds no dead thread
            with self._turn:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _deliver(self, message: Message) -> None:
        try:
            self._bot.deliver(message)
        except LarkError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 (its words may be anything, a hook's too)
            self._tell(LarkError(f"a message could not be sent ({type(error).__name__})"))
        else:
            self._is_in_trouble = False

    def _next(self) -> Message | None:
        """The next message, joined with those behind it if they are many."""
        self._closing.wait(self._bot.pace.wait_s(time.monotonic()))
        with self._turn:
            if self._has_given_up or not self._waiting:
                self._waiting.clear()
                self._thread = None
                return None
            if len(self._waiting) <= MOST_SINGLY:
                return self._waiting.popleft()
            joined = _joined(self._waiting, self._left_out)
            self._waiting.clear()
            self._left_out = 0
            return joined

    def _tell(self, error: LarkError) -> None:
        """Tells of a message that did not go through, once for all that follow it."""
        if error.is_final:
            with self._turn:
                self._has_given_up = True
            text = f"this Lark hook gets no more messages from this process: {error}"
        elif self._is_in_trouble:
            return
        else:
            self._is_in_trouble = True
            text = str(error)
        self._say(text)

    def _say(self, text: str) -> None:
        with suppress(Exception):  # a listener's fault, or warnings that are errors
            (self._on_trouble or _warn)(text)


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _joined(messages: deque[Message], left_out: int) -> Message:
    """Several messages as one text."""
    share = JOINED_CHARACTERS // len(messages)
    texts = [_shortened(message.plain.text, share) for message in messages]
    if left_out:
        texts.insert(0, f"({left_out:,} earlier messages are left out)")
    return Message("\n\n".join(texts))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


_BUSY: weakref.WeakSet[Messenger] = weakref.WeakSet()
_DRAINED_PIDS: set[int] = set()


def _drain_at_exit(messenger: Messenger) -> None:
    """Sees to it that the process waits for a messenger at its end.

    By multiprocessing's finalizers, since a child of multiprocessing does not run `atexit`.
    """
    from multiprocessing.util import Finalize

    _BUSY.add(messenger)
    if os.getpid() not in _DRAINED_PIDS:
        _DRAINED_PIDS.add(os.getpid())
        Finalize(None, _drain, exitpriority=100)


def _drain() -> None:
    ends_s = time.monotonic() + EXIT_S
    busy = list(_BUSY)
    for messenger in busy:
        messenger.close(0)  # lets all of them hurry before one is waited for
    for messenger in busy:
        messenger.close(ends_s - time.monotonic())
