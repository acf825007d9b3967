"""What a wrapper is built from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptflow.errors import UsageError
from gptflow.notify.lark import LarkBot

DEFAULT_PATH = "./config.json"
LONGEST_TIMEOUT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Pickles, and holds no key: each process reads its own."""

    config_path: Path | None
    """Absolute. None: the key of the environment."""
    base_wait_s: float
    bot: LarkBot | None
    strategy: Literal["sequential", "spread"]
    attempts: int
    timeout_s: float
    key_wait_s: float | None

    def __post_init__(self) -> None:
        """Raise UsageError for what no wrapper can work with."""
        wait_s = 0.0 if self.key_wait_s is None else self.key_wait_s
        for told, value, is_right in (
            ("base_wait_time", self.base_wait_s, _is_number(self.base_wait_s)),
            ("timeout_s", self.timeout_s, _is_number(self.timeout_s, most=LONGEST_TIMEOUT_S)),
            ("attempts", self.attempts, _is_number(self.attempts, kind=int)),
            ("key_wait_s", self.key_wait_s, wait_s == 0 or _is_number(wait_s)),
            ("lark_hook", type(self.bot), isinstance(self.bot, LarkBot | None)),
            ("strategy", self.strategy, self.strategy in ("sequential", "spread")),
        ):
            if not is_right:
                raise UsageError(f"{told} cannot be {value!r}")


def _is_number(value: object, *, kind: type[float] = float, most: float = math.inf) -> bool:
    """Whether it is a number above 0."""
    return isinstance(value, int | kind) and 0 < value <= most
