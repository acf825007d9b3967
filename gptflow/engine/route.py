"""How requests of a key go: to which URL, with which headers, through which proxy, until when."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from gptflow import __version__
from gptflow.engine.attempt import FaultKind, TransportFault
from gptflow.engine.config import KeyEntry
from gptflow.engine.proxies import Proxy, proxy_of
from gptflow.engine.trust import trust_problem
from gptflow.errors import ConfigError

LONGEST_CONNECTING_S = 10.0
"""Name look-up, TCP, the proxy's tunnel and TLS together."""


class Route(NamedTuple):
    """How requests of one key to one path go."""

    url: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, each once. Holds the key."""
    proxy: Proxy | None
    connect_s: float
    """Deadline for a connection."""
    whole_s: float
    """Deadline on the wall for the whole attempt."""


class Routes:
    """Finds the routes of keys, by the environment as it is."""

    def __init__(self, timeout_s: float, environ: Mapping[str, str]) -> None:
        self._timeout_s = timeout_s
        self.connect_s = min(LONGEST_CONNECTING_S, timeout_s)
        self._environ = environ

    def find(self, key: KeyEntry, path: str, *, json_body: bool) -> Route | TransportFault:
        """The route to a path below the key's base URL, or what is wrong on the way there."""
        url = f"{key.base_url}/{path}"
        try:
            proxy = proxy_of(url, self._environ)
        except ConfigError as error:
            return TransportFault(FaultKind.PROXY, error.message, error.hint)
        if url.startswith("https:") and self._distrust:
            variable = self._distrust.partition("=")[0]
            hint = f"correct {variable}, or unset it"
            return TransportFault(FaultKind.CERTIFICATE, self._distrust, hint)
        return Route(
            url=url,
            headers=_headers(key, json_body=json_body),
            proxy=proxy,
            connect_s=self.connect_s,
            whole_s=key.timeout_s or self._timeout_s,
        )

    @cached_property
    def _distrust(self) -> str | None:
        return trust_problem(self._environ)


def _headers(key: KeyEntry, *, json_body: bool) -> tuple[tuple[str, str], ...]:
    """Ours, and those of the entry, which come in place of ours by the same name."""
    headers = {
        "accept": "application/json",
        "authorization": f"Bearer {key.api_key.reveal()}",
        "user-agent": f"gptflow/{__version__}",
    }
    if json_body:
        headers["content-type"] = "application/json"
    if key.organization:
        headers["openai-organization"] = key.organization
    return tuple((headers | {name: value.reveal() for name, value in key.headers}).items())
