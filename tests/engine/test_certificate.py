"""What TLS libraries say of a certificate, in our words."""

from __future__ import annotations

import pytest

from gptflow.engine.certificate import certificate_words


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            "Other(OtherError(CaUsedAsEndEntity))",
            "its certificate is that of a CA: make one with basicConstraints=CA:FALSE",
        ),
        (
            (
                'certificate not valid for name "127.0.0.1"; certificate is only valid for '
                'DnsName("a.example") or IpAddress(10.0.0.1)'
            ),
            "its certificate is not valid for 127.0.0.1, only for a.example, 10.0.0.1",
        ),
        (
            (
                "certificate expired: verification time 1800000000 (UNIX), but certificate is not "
                "valid after 1700000000 (100000000 seconds ago)"
            ),
            "its certificate has expired",
        ),
        ("Other(OtherError(TrailingData))", "trailing data"),
        ("self-signed certificate", "self-signed certificate"),
    ],
)
def test_a_text_of_a_tls_library_is_said_in_words_for_a_person(told: str, words: str) -> None:
    assert certificate_words(told) == words
