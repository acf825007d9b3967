"""What the TLS libraries say of a certificate that is no good, in words for a person."""

from __future__ import annotations

import re

_NAMES = re.compile(r'not valid for name "([^"]+)"(?:.*?only valid for (.+))?')
_NAME = re.compile(r'(?:DnsName|IpAddress)\("?([^")]+)"?\)')
_WRAPPED = re.compile(r"^(?:Other\()?OtherError\((\w+)\)+$")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORDS = {
    "CaUsedAsEndEntity": "its certificate is that of a CA: make one with basicConstraints=CA:FALSE",
    "EndEntityUsedAsCa": "the certificate of its issuer is not that of a CA",
    "UnknownIssuer": "the issuer of its certificate is unknown (UnknownIssuer)",
    "certificate expired": "its certificate has expired",
    "not valid yet": "its certificate is not valid yet; is this machine's clock right?",
    "UnsupportedCertVersion": "its certificate is of an old version: make one of X.509 version 3",
    "BadSignature": "its certificate has a wrong signature",
    "BadEncoding": "its certificate cannot be read",
    "InvalidPurpose": "its certificate is not for servers: extendedKeyUsage lacks serverAuth",
    "RequiredEkuNotFound": "its certificate is not for servers: extendedKeyUsage lacks serverAuth",
    "Revoked": "its certificate is revoked",
}
"""By what a text of rustls holds: mostly the bare names of its errors."""


def certificate_words(told: str) -> str:
    """What is wrong with a certificate. What is not known here stays as the library says it."""
    names = _NAMES.search(told)
    if names:
        others = _NAME.findall(names[2] or "")
        only = f", only for {', '.join(others)}" if others else ""
        return f"its certificate is not valid for {names[1]}{only}"
    known = next((words for sign, words in _WORDS.items() if sign in told), None)
    wrapped = _WRAPPED.match(told)
    return known or (_CAPITAL.sub(" ", wrapped[1]).lower() if wrapped else told)
