"""A Lark webhook: its address and its signing secret, neither of which is ever shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_HOW = (
    "Hint: a hook is https://open.larksuite.com/open-apis/bot/v2/hook/... (or open.feishu.cn), "
    "from the group's settings, Bots, Custom bot"
)


@dataclass(frozen=True, slots=True, repr=False)
class Hook:
    """Who holds the URL may write to the group: it is as secret as the secret.

    It pickles, both included: a worker process sends to the same hook.
    """

    url: str
    secret: str = ""

    @classmethod
    def find(
        cls, url: str | None, secret: str | None, environ: Mapping[str, str] = os.environ
    ) -> Hook:
        """The hook that was given, else that of LARK_HOOK; the same for secret and LARK_SECRET.

        Raises:
            ValueError: there is none, or it is no hook. The message does not hold it.
        """
        if not isinstance(url, str | None):
            raise ValueError(f"the Lark hook is no text\n{_HOW}")  # noqa: TRY004  # as if it is bad
        url = (environ.get("LARK_HOOK", "") if url is None else url).strip()
        secret = environ.get("LARK_SECRET", "") if secret is None else secret
        if not url:
            raise ValueError(f"no Lark hook: give hook_url, or set LARK_HOOK\n{_HOW}")
        problem = hook_problem(url)
        if problem:
            raise ValueError(f"{problem}\n{_HOW}")
        return cls(url, secret.strip())

    @property
    def host(self) -> str:
        """The only part of the URL that may be shown."""
        return urlsplit(self.url).hostname or ""

    @property
    def hidden(self) -> tuple[str, str, str]:
        """What may be seen nowhere: the URL, the token at its end, and the secret."""
        return self.url, urlsplit(self.url).path.rpartition("/")[2], self.secret

    @property
    def fingerprint(self) -> str:
        """Tells hooks apart without naming them."""
        return hashlib.sha256(self.url.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Hook({self.host})"


def hook_problem(url: str) -> str | None:
    """Why a text is no hook, in words that do not hold it; None if it is one."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "the Lark hook has a character that no URL has"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "the Lark hook is not a URL"
    if not host or parts.scheme not in ("http", "https"):
        return "the Lark hook is not an https URL"
    if parts.scheme == "http" and not _is_loopback(host):
        return "the Lark hook is http; outside this machine it must be https"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def signature(timestamp: str, secret: str) -> str:
    """What a hook with a signing secret wants to see beside `timestamp` (seconds, as text).

    The text to sign is the key of the HMAC and its message is empty:
    https://open.larksuite.com/document/client-docs/bot-v3/add-custom-bot
    """
    key = f"{timestamp}\n{secret}".encode()
    return base64.b64encode(hmac.digest(key, b"", "sha256")).decode()
