"""The language of config.json: what may stand in it."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

DEFAULT_BASE_URL = "https://api.openai.com/v1"

_VISIBLE = re.compile(r"[!-~]+")
_PLACEHOLDER = re.compile(
    r"\.\.\.|…|^<.*>$|your[-_ ]?(?:openai[-_ ]?)?(?:api[-_ ]?)?key|^(?:sk-)?(?:proj-)?[x*]{3,}$",
    re.IGNORECASE,
)


def _header_text(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("is empty")
    if not _VISIBLE.fullmatch(text):
        raise ValueError("holds a space, a line end or a letter outside of ASCII")
    return text


def _api_key(text: str) -> str:
    if _PLACEHOLDER.search(text.strip()):
        raise ValueError("is a placeholder, not a key")
    return _header_text(text)


def _base_url(text: str) -> str:
    text = _header_text(text)
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("is not a URL that begins with http:// or https://")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("may not hold a user, a password, a query or a fragment")
    return text.rstrip("/")


class _Model(BaseModel):
    # The input is a key more often than not: it must not turn up in a message.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KeyItem(_Model):
    """One entry of `key_list`."""

    api_key: Annotated[str, AfterValidator(_api_key)]
    """The key itself, or "${NAME}" to read it from the environment."""
    name: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """How to call it in messages; "key 1", "key 2" ... if not given."""
    organization: Annotated[str, AfterValidator(_header_text)] | None = None
    """OpenAI organization. Keys that name the same one share its rate limits."""
    base_url: Annotated[str, AfterValidator(_base_url)] = DEFAULT_BASE_URL
    """Where the API is, for most servers up to and with /v1."""
    models: list[str] | None = None
    """The models that this key serves; all if not given."""


class ConfigFile(_Model):
    """config.json."""

    json_schema: str | None = Field(default=None, alias="$schema")
    key_index: Annotated[int, Field(ge=0)] = 0
    """The place in `key_list`, from 0, of the key to begin with."""
    key_list: Annotated[list[KeyItem], Field(min_length=1)]
    """The keys."""
