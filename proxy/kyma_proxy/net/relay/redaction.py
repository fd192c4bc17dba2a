"""Masks the operator's credentials in a provider's error, at once or piece by piece. (Contract §1.)"""

from __future__ import annotations


def masked(text: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """The same text, as long as before, with stars for each of these secrets."""
    for secret in secrets:
        text = text.replace(secret, b"*" * len(secret))
    return text


class Redactor:
    """Masks `secrets` in a body, also where one is cut between two pieces.

    The length of the body stays the same. The last bytes are held, as they may be the beginning of a secret.
    """

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._most_held = max(map(len, secrets), default=1) - 1
        self._held = b""

    def mask(self, plain: bytes) -> bytes:
        """Return what can go out, now that these plain bytes have come."""
        text = masked(self._held + plain, self._secrets)
        end = max(0, len(text) - self._most_held)
        self._held = text[end:]
        return text[:end]

    def flush(self) -> bytes:
        """Return what is held at the end."""
        held, self._held = self._held, b""
        return held
