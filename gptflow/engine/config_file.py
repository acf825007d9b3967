"""The language of config.json: what may stand in it. Its JSON Schema and the docs follow it."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

DEFAULT_BASE_URL = "https://api.openai.com/v1"

RESERVED_HEADERS = frozenset(
    {
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that each request has of its own, or that belong to the connection."""

_VISIBLE = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")
_ENDPOINT = re.compile(r"(/completions|/responses|/v\d\w*/models)$")
"""What gptflow adds to a base URL, or others do; some servers have their API below a /models."""
_DIGITS = re.compile(r"\s*\+?\d{1,18}\s*")
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
    if text.lstrip().startswith("$"):
        raise ValueError("begins with '$'")
    return _header_text(text)


def _organization(text: str) -> str | None:
    if _PLACEHOLDER.search(text.strip()):
        raise ValueError("is a placeholder, not an organization")
    return _header_text(text) if text.strip() else None


def _base_url(text: str) -> str:
    text = _header_text(text)
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:  # a port that is no number, brackets that hold no address
        raise ValueError("is not a URL") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("is not a URL that begins with http:// or https://")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("may not hold a user, a password, a query or a fragment")
    text = text.rstrip("/")
    if _ENDPOINT.search(text):
        raise ValueError("holds the path of an endpoint, which gptflow adds itself")
    return text


def _shown(text: str) -> str:
    """A text that stands in messages: it must fit on a line of a terminal."""
    text = text.strip()
    if not text:
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError("holds a line end, a tab or another character that cannot be shown")
    return text


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("is no name of a header")
    if name.lower() in RESERVED_HEADERS:
        raise ValueError("is a header that gptflow sets itself")
    return name


def _header_value(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("is empty")
    if not _VALUE.fullmatch(text):
        raise ValueError("holds a line end or a letter outside of ASCII")
    return text


def _whole(value: Any) -> Any:
    """A whole number, also in the digits that "${NAME}" is replaced by. True is no number."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is not a whole number")  # noqa: TRY004  # pydantic takes no TypeError
    return value


def _believable(amount: int) -> int:
    if amount > 1_000_000_000:
        raise ValueError("is above 1,000,000,000")
    return amount


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError("is not a number of seconds") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError("is not a number of seconds")
    return value


Amount = Annotated[int, Field(ge=1), BeforeValidator(_whole), AfterValidator(_believable)]
ShownText = Annotated[str, Field(min_length=1), AfterValidator(_shown)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]


class _Model(BaseModel):
    # The input is a key more often than not: it must not turn up in a message.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KeyItem(_Model):
    """One key, with where it may be sent and how much it may be used."""

    api_key: Annotated[str, AfterValidator(_api_key)] = Field(
        description='The key itself, or "${NAME}" to read it from the environment. A server that '
        "asks for none takes any word."
    )
    name: Annotated[ShownText, Field(max_length=40)] | None = Field(
        default=None, description='How to call it in messages; "key 1", "key 2" ... if not given.'
    )
    organization: Annotated[str, AfterValidator(_organization)] | None = Field(
        default=None,
        description="OpenAI organization. Keys that name the same one at the same host share its "
        "rate limits.",
    )
    base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        default=DEFAULT_BASE_URL,
        description="Where the API is, for most servers up to and with /v1.",
    )
    models: Annotated[list[ShownText], Field(min_length=1)] | None = Field(
        default=None, description="The models that this key serves; all if not given."
    )
    rpm: Amount | None = Field(
        default=None,
        description="Requests per minute that the key may send; if not given, what the server "
        "tells.",
    )
    tpm: Amount | None = Field(
        default=None,
        description="Tokens per minute that the key may use; if not given, what the server tells.",
    )
    concurrency: Amount | None = Field(
        default=None,
        description="Calls of this key in flight at once, at most; if not given, as many as go "
        "well.",
    )
    headers: dict[HeaderName, HeaderValue] | None = Field(
        default=None,
        description="Further headers of its requests, such as a gateway wants. Their values are "
        "kept as secret as the key.",
    )
    timeout_s: Annotated[float, Field(gt=0, le=86_400), BeforeValidator(_seconds)] | None = Field(
        default=None,
        description="Seconds that one attempt of a call with this key may take in all; if not "
        "given, limits.timeout_s of the spec, or timeout_s of GPTWrapper.",
    )


class ConfigFile(_Model):
    """The API keys that gptflow may use, each bound to its host."""

    json_schema: str | None = Field(
        default=None, alias="$schema", description="The JSON Schema of this file, for editors."
    )
    key_index: Annotated[int, Field(ge=0), BeforeValidator(_whole)] = Field(
        default=0, description="The place in `key_list`, from 0, of the key to begin with."
    )
    key_list: Annotated[list[KeyItem], Field(min_length=1)] = Field(description="The keys.")
