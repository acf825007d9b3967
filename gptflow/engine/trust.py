"""Whether the certificates that the environment tells us to trust can be read."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

_SET_FOR_OTHERS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def trust_problem(environ: Mapping[str, str]) -> str | None:
    """What is wrong with SSL_CERT_FILE or SSL_CERT_DIR; None if nothing is.

    They are the two that OpenSSL and the openai package read, and they stand in place of the
    system's certificates. The TLS library says nothing of a file that it cannot read: all servers
    would merely be unknown to it.
    """
    file, folder = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    if file:
        wrong = _unreadable(file)
        return wrong and f"SSL_CERT_FILE={file}: {wrong}"
    if folder and not Path(folder).is_dir():
        return f"SSL_CERT_DIR={folder}: there is no such folder"
    return None


def advice(environ: Mapping[str, str]) -> str:
    """What may help against an issuer that nobody here knows; empty for nothing."""
    if environ.get("SSL_CERT_FILE"):
        return "; SSL_CERT_FILE does not hold its issuer"
    other = next((name for name in _SET_FOR_OTHERS if environ.get(name)), None)
    if other:
        return f"; {other} is set, but only SSL_CERT_FILE is read"
    return "; name the file with its issuer in SSL_CERT_FILE"


def spare_roots() -> Path:
    """The file of certificates that came with us, for a machine that has none: a bare container."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return Path(str(DEFAULT_CA_BUNDLE_PATH))


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """What Python's own TLS is to trust."""
    if trust_problem(environ):  # then nothing is asked by TLS, but a context there must be
        return ssl.create_default_context()
    file, folder = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    context = ssl.create_default_context(cafile=file or None, capath=folder or None)
    if not (file or folder or context.get_ca_certs()):
        context.load_verify_locations(cafile=spare_roots())
    return context


def _unreadable(file: str) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        return "holds no certificates in PEM form"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None
