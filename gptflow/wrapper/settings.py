"""What a wrapper is built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptflow.notify.lark import LarkBot

DEFAULT_PATH = "./config.json"


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
