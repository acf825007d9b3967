"""The money of a run: decides, from an estimate, whether there is room for one more call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from gptflow.engine.events import ReplyWasted
from gptflow.pipeline.token_estimate import BYTES_PER_TOKEN, estimate_tokens
from gptflow.records import Call, Reply, Usage
from gptflow.runner.events import RunEvent
from gptflow.runner.price import BATCH_SHARE, Price
from gptflow.runner.tally import TokenCount
from gptflow.store.record import ModelUsage

FIRST_COMPLETION_TOKENS = 500
"""What a reply is expected to have before any was seen, if `max_tokens` allows it."""


_ROUNDING = 1e-9
"""A sum of a million floats may be off by this share."""


class Room(Enum):
    """Whether there is room for a call."""

    FREE = auto()
    LATER = auto()
    """Perhaps when calls in flight have turned out cheaper than they were estimated."""
    NONE = auto()


class Quote(NamedTuple):
    """A call, as far as its price goes."""

    step: str
    model: str
    price: Price
    prompt_tokens: int
    """Estimated."""
    most_tokens: int | None
    """Of the reply, where the call limits them."""


@dataclass(slots=True)
class _Replies:
    """What the replies to a step have cost so far."""

    count: int = 0
    estimated_tokens: int = 0
    """Of their prompts."""
    prompt_usd: float = 0.0
    completion_tokens: int = 0


class Purse:
    """What is spent, and what is reserved for the calls in flight."""

    def __init__(
        self,
        limit_usd: float,
        prices: Mapping[str, Price],
        before: Iterable[ModelUsage] = (),
        estimates: Mapping[str, Usage] | None = None,
        *,
        discounted: Mapping[str, Usage] | None = None,
        share: float = 1.0,
    ) -> None:
        """Build a purse.

        Args:
            limit_usd: what may be spent.
            prices: of all models that are asked.
            before: what earlier commands have used of it, as far as their servers told. Of a
                process that was killed the replies in flight are missing: nobody has them.
            estimates: what they have used besides, by model.
            discounted: the part of both that was had in batches, by model.
            share: of the price of a call, what `prices` are.
        """
        self.limit_usd = limit_usd
        self.spent_usd = 0.0
        self.reserved_usd = 0.0
        self._prices = prices
        self._open = 0
        self._replies: dict[str, _Replies] = {}
        self._first_tokens: dict[str, float] = {}
        """The mean of earlier replies, by model."""
        for usage in before:
            count = TokenCount()
            count.add(Usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens))
            count.add((estimates or {}).get(usage.model, Usage()))
            batched = TokenCount()
            batched.add((discounted or {}).get(usage.model, Usage()))
            batched_usd = prices[usage.model].usd(batched)
            rest_usd = prices[usage.model].usd(count) - batched_usd
            self.spent_usd += (rest_usd + batched_usd * BATCH_SHARE) / share
            self._first_tokens[usage.model] = count.completion / usage.calls

    def quote(self, call: Call) -> Quote:
        """What a call's price hangs on."""
        prompt_tokens = _prompt_tokens(call)
        price = self._prices[call.model]
        return Quote(call.step, call.model, price, prompt_tokens, _most_tokens(call))

    def expected_usd(self, quote: Quote) -> float:
        """What a call may cost, judged by the replies to its step so far."""
        price, seen = quote.price, self._replies.get(quote.step)
        if seen is None:
            prompt_usd = price.input_usd * quote.prompt_tokens
            tokens = self._first_tokens.get(quote.model, FIRST_COMPLETION_TOKENS)
        else:
            prompt_usd = seen.prompt_usd / seen.estimated_tokens * quote.prompt_tokens
            tokens = seen.completion_tokens / seen.count
        if quote.most_tokens is not None:
            tokens = min(tokens, quote.most_tokens)
        return prompt_usd + price.output_usd * tokens

    def guess_usd(self, model: str, calls: int, prompt_tokens: int) -> float:
        """What calls may cost of which no more is known than the tokens of their prompts."""
        price = self._prices.get(model)
        if price is None:
            return 0.0
        tokens = self._first_tokens.get(model, FIRST_COMPLETION_TOKENS)
        return price.input_usd * prompt_tokens + price.output_usd * tokens * calls

    def room(self, usd: float) -> Room:
        """Whether there is room for a call. With none in flight it is never LATER."""
        limit_usd = self.limit_usd * (1 + _ROUNDING)
        if self.spent_usd + usd > limit_usd:
            return Room.NONE
        if self._open and self.spent_usd + self.reserved_usd + usd > limit_usd:
            return Room.LATER
        return Room.FREE

    def reserve(self, usd: float, calls: int = 1) -> None:
        """Keeps money for calls that are about to be asked."""
        self._open += calls
        self.reserved_usd += usd

    def give_back(self, usd: float, calls: int = 1) -> None:
        """The calls have ended: what was kept for them is free again."""
        self._open -= calls
        self.reserved_usd = self.reserved_usd - usd if self._open else 0.0

    def write_off(self, usd: float) -> None:
        """Counts a call whose answer was lost on its way: it is paid, most likely."""
        self.spent_usd += usd

    def hear(self, event: RunEvent) -> None:
        """Pays for a reply that is of no use, at once: its call may go on for long."""
        if isinstance(event, ReplyWasted):
            self.pay(self.quote(event.call), event.reply)

    def pay(self, quote: Quote, reply: Reply) -> None:
        """Counts a reply, also one that the row cannot use.

        What the server does not say of its tokens is estimated, as `untold` does.
        """
        count = TokenCount()
        count.add(reply.usage)
        if reply.usage.prompt_tokens is None:
            count.prompt = quote.prompt_tokens
        if reply.usage.completion_tokens is None:
            count.completion = _text_tokens(reply)
        self.spent_usd += quote.price.usd(count)
        seen = self._replies.setdefault(quote.step, _Replies())
        seen.count += 1
        seen.estimated_tokens += quote.prompt_tokens
        seen.prompt_usd += quote.price.prompt_usd(count)
        seen.completion_tokens += count.completion


def untold(call: Call, reply: Reply) -> Usage | None:
    """The tokens of a reply that its server did not tell, estimated; None if it told all."""
    told = reply.usage
    if told.prompt_tokens is not None and told.completion_tokens is not None:
        return None
    return Usage(
        _prompt_tokens(call) if told.prompt_tokens is None else 0,
        _text_tokens(reply) if told.completion_tokens is None else 0,
    )


def _prompt_tokens(call: Call) -> int:
    known = call.prompt_tokens
    return estimate_tokens(call.messages) if known is None else known


def _text_tokens(reply: Reply) -> int:
    return -(-len(reply.text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _most_tokens(call: Call) -> int | None:
    """The tokens that all replies to a call may have; None if it does not say."""
    params = call.params
    most, replies = params.get("max_completion_tokens") or params.get("max_tokens"), params.get("n")
    if not isinstance(most, int):
        return None
    return most * replies if isinstance(replies, int) and replies > 1 else most
