"""LarkBot: messages to a Lark (or Feishu) group, by its custom bot's webhook."""

from __future__ import annotations

import random
import time

from gptflow.errors import LarkError, UsageError
from gptflow.notify.answer import TOO_FREQUENT, is_form_refused, refusal
from gptflow.notify.hook import Hook, signature
from gptflow.notify.message import COLORS, Color, Message, encoded
from gptflow.notify.pace import Pace, pace_of
from gptflow.notify.wire import post

TRIES = 5
"""How often a message is sent that comes too soon for Lark's limits."""


class LarkBot:
    """Sends to one hook, within Lark's limits: 5 messages a second, 100 a minute, 20 KB each.

    All bots and threads of a process share the limits of a hook; a send waits for its turn. A
    longer message is cut, with a mark. A bot pickles, with its hook; nothing else shows the hook.
    """

    def __init__(
        self,
        hook_url: str | None = None,
        *,
        secret: str | None = None,
        keyword: str = "",
        timeout_s: float = 10.0,
        backoff_s: float = 1.0,
    ) -> None:
        """A bot for `hook_url`, else for the hook in LARK_HOOK.

        Args:
            hook_url: any https URL, or http on this machine.
            secret: signs, where the bot's settings ask for it; else LARK_SECRET; "" for none.
            keyword: put before each message that does not have it near its beginning, for bots
                that only take messages with a keyword.
            timeout_s: for one attempt.
            backoff_s: the first wait when Lark says that messages come too often (11232). It
                doubles; after TRIES attempts it is an error.

        Raises:
            ValueError: there is no hook, or it is not one.
        """
        self._hook = Hook.find(hook_url, secret)
        self._keyword = keyword
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s

    def send(self, content: str) -> None:
        """Sends a text. On return Lark has taken it.

        Raises:
            LarkError: Lark refused it, or could not be reached.
            UsageError: it is no text.
        """
        _check(content=content)
        self.deliver(Message(content))

    def send_card(
        self, title: str, content: str, *, color: Color = "blue", markdown: bool = True
    ) -> None:
        """Sends a card: a title on a colour, and text below, in Lark's markdown unless told not.

        What Lark does not take as a card goes as text. Raises as `send` does, and UsageError for a
        colour that there is not.
        """
        _check(title=title, content=content)
        if color not in COLORS:
            raise UsageError(f"there is no colour {color!r}", hint=f"one of {', '.join(COLORS)}")
        self.deliver(Message(content, title, "interactive", color, markdown))

    def send_post(self, title: str, content: str) -> None:
        """Sends a text with a title. Raises as `send` does."""
        _check(title=title, content=content)
        self.deliver(Message(content, title, "post"))

    def deliver(self, message: Message) -> None:
        """Sends a message of any kind. Raises LarkError as `send` does."""
        message = message.with_keyword(self._keyword)
        error = self._patient(message)
        if error and is_form_refused(error) and message.kind != "text":
            error = self._patient(message.plain)
        if error:
            raise error

    @property
    def pace(self) -> Pace:
        """When the hook takes the next message."""
        return pace_of(self._hook.fingerprint)

    def __repr__(self) -> str:
        return f"LarkBot({self._hook.host})"

    def _patient(self, message: Message) -> LarkError | None:
        """Sends a message, again while it only came too soon."""
        error = self._once(message)
        for attempt in range(1, TRIES):
            if not error or error.code != TOO_FREQUENT:
                break
            backoff_s = self._backoff_s * 2 ** (attempt - 1)
            time.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311 (spreads, hides nothing)
            error = self._once(message)
        return error

    def _once(self, message: Message) -> LarkError | None:
        time.sleep(self.pace.take(time.monotonic()))
        body = message.body()
        if self._hook.secret:
            # Signed at each attempt: Lark compares the time with its own clock.
            timestamp = str(int(time.time()))
            body |= {"timestamp": timestamp, "sign": signature(timestamp, self._hook.secret)}
        answer = post(self._hook, encoded(body), self._timeout_s)
        if isinstance(answer, str):
            return LarkError(f"a message did not reach Lark: {answer}")
        return refusal(answer.status, answer.content, self._hook.hidden)


def _check(**texts: str) -> None:
    for name, text in texts.items():
        if not isinstance(text, str):
            raise UsageError(
                f"LarkBot: {name} is of type {type(text).__name__}, and no text",
                hint=f"str({name}) makes one of it",
            )
