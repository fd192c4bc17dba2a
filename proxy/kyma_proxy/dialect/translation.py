"""This file says what it takes to ask a source in another dialect than the caller's. (Contract §3.4, §4.)

A translation is made for one attempt at one source. Where caller and source speak the same dialect there is none: bytes stay
bytes. What has no place on the other side is dropped and named, never silently.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.http.endpoints import Endpoint


class TranslatedRequest(NamedTuple):
    """A request in the source's dialect: where it goes, its body, and the members of the caller's that were dropped."""

    endpoint: Endpoint
    body: bytes
    dropped: tuple[str, ...] = ()


class TranslatedAnswer(NamedTuple):
    """A whole answer in the caller's dialect, and the names of what of the source's has no place in it."""

    status: int
    body: bytes
    usage: Usage
    dropped: tuple[str, ...] = ()


class StreamTranslation(Protocol):
    """Turns a source's stream into the caller's, event by event; none is held longer than the event that it needs."""

    @property
    def usage(self) -> Usage:
        """What the source has reported so far."""

    @property
    def is_finished(self) -> bool:
        """Whether the source has said that its answer is whole."""

    @property
    def has_failed(self) -> bool:
        """Whether the caller has been told, by an event, that the answer will not be whole."""

    def feed(self, piece: bytes) -> bytes:
        """The caller's bytes that a piece of the source's stream makes ready; b"" where an event is not whole yet."""

    def flush(self) -> bytes:
        """The caller's bytes that are left when the source's stream has ended well."""


class Translation(Protocol):
    """One request's way to a source of another dialect and back."""

    @property
    def asked(self) -> TranslatedRequest:
        """What the source is asked."""

    def whole(self, status: int, body: bytes) -> TranslatedAnswer:
        """A whole answer of the source's, an error (status 400 and above) among them. Raises ValueError where it is none."""

    def stream(self) -> StreamTranslation:
        """For a 2xx answer that streams."""

    def streamed(self, body: bytes) -> bytes:
        """The source's stream that a whole answer of the source's amounts to, for a caller who wants one."""

    def folded(self, body: bytes) -> TranslatedAnswer:
        """The whole answer that a whole stream of the source's amounts to, for a caller who wants that.

        Raises ValueError where the stream is not whole, or ends with an error.
        """
