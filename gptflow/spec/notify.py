"""The part of the language that says whom to tell how a run goes."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pydantic import Field, SecretStr, field_validator

from gptflow.spec.part import SpecModel

Occasion = Literal["start", "finish", "failure", "exhausted"]
_HOOK = re.compile(r"https://[^\s/]+/\S+|http://(localhost|127(\.\d+){3}|\[::1\])(:\d+)?/\S+")
_HINT = (
    "copy the URL from the group's settings, Bots, Custom bot: it begins with "
    "https://open.larksuite.com or https://open.feishu.cn; best kept in the environment, as "
    'hook: "${LARK_HOOK}"'
)


class LarkSpec(SpecModel):
    """Messages to a Lark (Feishu) group, by the webhook of its custom bot."""

    hook: SecretStr = Field(
        description='The webhook: an https URL, which is a secret. Write "${LARK_HOOK}" and keep '
        "it in the environment.",
        examples=["${LARK_HOOK}"],
    )
    secret: SecretStr | None = Field(
        default=None,
        description="What signs the messages, where the bot's settings ask for a signature.",
        examples=["${LARK_SECRET}"],
    )
    keyword: str = Field(
        default="",
        max_length=100,
        description="Put into each message, for a bot that only takes messages with a keyword.",
    )
    on: list[Occasion] = Field(
        default=list(get_args(Occasion)),
        description="What to tell: start, finish, failure (the run stopped or crashed), exhausted "
        "(keys that are spent or out, no usable key, an outage). Without it all of them.",
    )
    base_wait_s: float = Field(
        default=30,
        gt=0,
        le=86_400,
        description="While no key is usable, that is told again after 1, 2, 4 ... times so many "
        "seconds.",
    )

    @field_validator("hook")
    @classmethod
    def _is_hook(cls, hook: SecretStr) -> SecretStr:
        text = hook.get_secret_value().strip()
        # A variable that is not set is a problem of its own.
        if "${" not in text and not _HOOK.fullmatch(text):
            wrong = ValueError("the hook is not an https URL")
            wrong.add_note(_HINT)
            raise wrong
        return hook


class NotifySpec(SpecModel):
    """Whom to tell how the run goes. It changes nothing of what is asked."""

    lark: LarkSpec | None = Field(default=None, description="A Lark group.")

    @property
    def base_wait_s(self) -> float:
        """The wait before it is told again that no key is usable."""
        return self.lark.base_wait_s if self.lark else LarkSpec.model_fields["base_wait_s"].default
