from __future__ import annotations

import pytest

from gptflow.engine.proxies import proxy_of
from gptflow.errors import ConfigError

URL = "https://api.example.com/v1/chat/completions"


def address(url: str = URL, **environ: str) -> str | None:
    proxy = proxy_of(url, environ)
    return proxy.address if proxy else None


def test_the_scheme_of_the_url_chooses_the_variable() -> None:
    both = {"HTTP_PROXY": "http://plain:1", "HTTPS_PROXY": "http://tls:2"}

    assert address(**both) == "http://tls:2"
    assert address("http://api.example.com/v1", **both) == "http://plain:1"


def test_all_proxy_stands_in_for_a_variable_that_is_missing_or_empty() -> None:
    assert address(ALL_PROXY="http://any:3") == "http://any:3"
    assert address(ALL_PROXY="http://any:3", HTTPS_PROXY="") == "http://any:3"
    assert address(ALL_PROXY="http://any:3", HTTPS_PROXY="http://tls:2") == "http://tls:2"


def test_the_lower_case_name_comes_first() -> None:
    assert address(https_proxy="http://lower:1", HTTPS_PROXY="http://upper:2") == "http://lower:1"
    assert address(https_proxy="", HTTPS_PROXY="http://upper:2") is None


def test_without_a_variable_there_is_no_proxy() -> None:
    assert address() is None
    assert address(HTTP_PROXY="http://plain:1") is None


def test_a_header_of_a_visitor_is_no_proxy_of_a_cgi_program() -> None:
    cgi = {"REQUEST_METHOD": "POST", "HTTP_PROXY": "http://evil:1"}

    assert address("http://api.example.com/v1", **cgi) is None
    assert address("http://api.example.com/v1", **cgi, http_proxy="http://p:1") == "http://p:1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://proxy.example/", "http://proxy.example"),
        ("socks5h://127.0.0.1:1080", "socks5h://127.0.0.1:1080"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("http://my_proxy-1:3128", "http://my_proxy-1:3128"),
        ("http://bücher.example:3128", "http://bücher.example:3128"),
    ],
)
def test_a_proxy_is_named_in_several_ways(text: str, expected: str) -> None:
    assert address(HTTPS_PROXY=text) == expected


def test_user_and_password_are_read_and_never_shown() -> None:
    proxy = proxy_of(URL, {"HTTPS_PROXY": "http://me:p%40ss-word@proxy.example:3128"})

    assert proxy is not None
    assert (proxy.user, proxy.password.reveal()) == ("me", "p@ss-word")
    assert str(proxy) == "the proxy proxy.example:3128 (HTTPS_PROXY)"
    assert "ss-word" not in repr(proxy)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://me:secret@h:1",
        "http://me:secret@",
        "http://me:secret@h:x",
        "http://me:secret@exa mple:3128",
        "http://me:secret@ex_ample%zz:3128",
        "http://me:secret@999.1.1.1:3128",
        "http://me:secret@[fe80::1%eth0]:3128",
        "http://me:secret@a|b:3128",
    ],
)
def test_what_is_no_proxy_is_an_error_without_its_text(text: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY holds no URL of a proxy") as caught:
        proxy_of(URL, {"HTTPS_PROXY": text})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", URL, True),
        ("api.example.com", URL, True),
        ("API.Example.com", URL, True),
        ("example.com", URL, True),
        (".example.com", URL, True),
        ("*.example.com", URL, True),
        ("ample.com", URL, False),
        ("other.example, example.com", URL, True),
        ("other.example example.com", URL, True),
        ("example.com:443", URL, True),
        ("example.com:8443", URL, False),
        ("", URL, False),
        ("box", "https://box:8000/v1", True),
        ("10.0.0.1", "https://10.0.0.1:8000/v1", True),
        ("10.0.0.1:8000", "https://10.0.0.1:8000/v1", True),
        ("10.0.0.0/8", "https://10.0.0.1:8000/v1", True),
        ("10.0.0.0/8", "https://192.168.0.1:8000/v1", False),
        ("fd00::1", "https://[fd00::1]:8000/v1", True),
        ("[fd00::1]", "https://[fd00::1]:8000/v1", True),
    ],
)
def test_no_proxy_names_what_is_asked_directly(no_proxy: str, url: str, direct: bool) -> None:
    found = address(url, HTTPS_PROXY="http://p:1", NO_PROXY=no_proxy)

    assert (found is None) is direct


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("localhost.", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("[::1]", True),
        ("localhost.example", False),
        ("128.0.0.1", False),
        ("[::2]", False),
    ],
)
def test_no_proxy_stands_before_this_machine_itself(host: str, direct: bool) -> None:
    found = address(f"http://{host}:8000/v1", HTTP_PROXY="http://p:1", ALL_PROXY="http://p:2")

    assert (found is None) is direct
