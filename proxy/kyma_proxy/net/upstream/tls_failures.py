"""Says in one sentence why TLS with a provider failed: OpenSSL's own words mean little to an operator."""

from __future__ import annotations

import ssl
from types import MappingProxyType
from typing import Final

_OLD: Final = "it speaks TLS 1.0 or 1.1 only, and the gateway requires TLS 1.2 or later"
_PLAIN: Final = "it answers without TLS at this port; base_url should begin with http://, or have another port"
_CLOSED: Final = "it closed the connection during the handshake, as servers do that speak TLS 1.0 or 1.1 only, or no TLS"
_CLIENT_CERTIFICATE: Final = "it requires a client certificate, and the gateway has none"
# By OpenSSL's reason (`ssl.SSLError.reason`).
_SENTENCES: Final = MappingProxyType({
    "UNSUPPORTED_PROTOCOL": _OLD, "TLSV1_ALERT_PROTOCOL_VERSION": _OLD, "WRONG_SSL_VERSION": _OLD,
    "TLSV1_ALERT_INAPPROPRIATE_FALLBACK": _OLD,
    "WRONG_VERSION_NUMBER": _PLAIN, "HTTP_REQUEST": _PLAIN, "PACKET_LENGTH_TOO_LONG": _PLAIN, "RECORD_LAYER_FAILURE": _PLAIN,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it accepts none of the ciphers and versions that the gateway offers",
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": "it accepts none of the ciphers that the gateway offers",
    "DH_KEY_TOO_SMALL": "its key exchange is too weak", "EE_KEY_TOO_SMALL": "the key of its certificate is too weak",
    "CA_MD_TOO_WEAK": "the signature of its certificate is too weak",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know the host name of base_url",
    "SSLV3_ALERT_UNRECOGNIZED_NAME": "it does not know the host name of base_url",
    "TLSV1_ALERT_UNRECOGNIZED_NAME": "it does not know the host name of base_url",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _CLIENT_CERTIFICATE,
    "UNEXPECTED_EOF_WHILE_READING": _CLOSED,
})  # fmt: skip
# By OpenSSL's code of a failed verification (X509_V_ERR_…, `ssl.SSLCertVerificationError.verify_code`).
_CERTIFICATES: Final = MappingProxyType({
    9: "it is not valid yet, by the clock of this machine", 10: "it has expired",
    18: "it is self-signed; name it in ca_file if that is meant", 19: "its authority is not trusted; see ca_file",
    20: "its authority is not trusted; see ca_file", 21: "its authority is not trusted, or its chain is missing; see ca_file",
    23: "it was revoked", 62: "it is for another host name", 64: "it is for another address",
})  # fmt: skip


def tls_sentence(error: ssl.SSLError | ConnectionError) -> str:
    """Why TLS failed. It quotes nothing that the provider sent."""
    if isinstance(error, ConnectionError):
        return _CLOSED
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _CERTIFICATES.get(error.verify_code)
        return f"its certificate is not valid: {known}" if known else f"its certificate is not valid ({error.verify_message})"
    reason = error.reason or "HANDSHAKE_FAILURE"
    return _SENTENCES.get(reason) or f"the handshake failed ({reason.lower().replace('_', ' ')})"
