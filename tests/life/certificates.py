"""A certificate in files, for gateways in processes of their own, and who trusts it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

_AUTHORITY = trustme.CA()


def written_certificate(directory: Path, name: str = "tls") -> str:
    """The section `tls` of a configuration with a new certificate in this directory."""
    made = _AUTHORITY.issue_cert("localhost")
    certificate, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return f"tls: {{certificate: '{certificate}', key: '{key}'}}\n"


def trusting() -> ssl.SSLContext:
    """The context of a caller who trusts these certificates."""
    context = ssl.create_default_context()
    _AUTHORITY.configure_trust(context)
    return context
