"""Which proxy a request goes through, by the variables that curl and requests read."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from gptflow.engine.secret import Secret
from gptflow.errors import ConfigError

_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy. Prints without the password that its URL may hold."""

    address: str
    """Scheme, host and port alone, as a URL."""
    user: str
    password: Secret
    """Both are empty where the URL names none."""
    variable: str
    """The environment variable that named it."""

    def __str__(self) -> str:
        return f"the proxy {self.address.partition('://')[2]} ({self.variable})"


def proxy_of(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to `url`; None for a direct connection.

    HTTPS_PROXY or HTTP_PROXY by the scheme of `url`, else ALL_PROXY; the lower-case name of each
    comes first. Past it goes what NO_PROXY names, and this machine itself, which no proxy can
    reach: localhost, 127.0.0.0/8, ::1.

    Raises:
        ConfigError: the variable holds no URL of a proxy.
    """
    target = urlsplit(url)
    named = _named(target.scheme, environ)
    if named is None or _is_here(target) or _goes_past(target, _read("no_proxy", environ)[1]):
        return None
    variable, text = named
    try:
        proxy = urlsplit(text if "://" in text else f"http://{text}")
        port = proxy.port
    except ValueError:
        proxy, port = SplitResult("", "", "", "", ""), None
    if proxy.scheme not in _SCHEMES or not proxy.hostname or not _is_host(proxy.hostname):
        raise ConfigError(
            f"{variable} holds no URL of a proxy",
            hint=f"correct it, such as {variable}=http://proxy.example:3128, or unset it",
        )
    host = f"[{proxy.hostname}]" if ":" in proxy.hostname else proxy.hostname
    return Proxy(
        address=f"{proxy.scheme}://{host}:{port}" if port else f"{proxy.scheme}://{host}",
        user=unquote(proxy.username or ""),
        password=Secret(unquote(proxy.password or "")),
        variable=variable,
    )


def _named(scheme: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    for name in (f"{scheme}_proxy", "all_proxy"):
        # A web server puts a visitor's header "Proxy" into HTTP_PROXY for its CGI programs.
        if name == "http_proxy" and "REQUEST_METHOD" in environ and not environ.get(name):
            continue
        variable, text = _read(name, environ)
        if text:
            return variable, text
    return None


def _read(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    found = name if name in environ else name.upper()
    return found, environ.get(found, "").strip()


def _is_host(text: str) -> bool:
    """Whether connections can be opened to it: an address without a zone, or a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_NAME.fullmatch(text)) and not text.rpartition(".")[2].isdigit()
    return "%" not in text


def _is_here(target: SplitResult) -> bool:
    host = target.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # it is a name
        return host.removesuffix(".") == "localhost"


def _goes_past(target: SplitResult, no_proxy: str) -> bool:
    host, port = target.hostname or "", str(target.port or _PORTS.get(target.scheme))
    entries = no_proxy.replace(",", " ").lower().split()
    return any(_covers(entry, host, port) for entry in entries)


def _covers(entry: str, host: str, port: str) -> bool:
    """Whether an entry of NO_PROXY names a host: by name, domain, address or network."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of the two is a name, or has a port
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit():
        if digits != port:
            return False
        entry = name.strip("[]")
    entry = entry.removeprefix("*").removeprefix(".")
    return host == entry or host.endswith(f".{entry}")
