"""Declares who receives an answer from a connection to a provider."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.routing.failures import FailureKind
from kyma_proxy.net.upstream.outflow import LargeRequest


class ResponseHandler(ABC):
    """Receives one answer. Exactly one of `on_end` and `on_cut` is called, last; nothing after `UpstreamConnection.abort`."""

    __slots__ = ()

    @abstractmethod
    def on_head(self, status: int, reason: bytes, headers: Headers, fields: dict[bytes, bytes]) -> None:
        """The answer's head has come; `fields` has the same by lower-case name."""

    @abstractmethod
    def on_body(self, piece: bytes) -> None:
        """A piece of the answer's body has come."""

    def on_chunks(self, chunks: bytes, size: int) -> None:  # noqa: B027  (only who asked for them gets any)
        """Whole chunks of the body have come, with `size` bytes of it; the last ends with an event."""

    @abstractmethod
    def on_end(self, *, is_certain: bool) -> None:
        """The answer is whole; `is_certain` is False if only the end of the connection says so (RFC 9112 §6.3)."""

    @abstractmethod
    def on_cut(self, kind: FailureKind, detail: str, *, nothing_came: bool) -> None:
        """There will be no (more) answer; `nothing_came` is True if not one byte of it did."""

    @property
    def is_light(self) -> bool:
        """True if a body's bytes cost the handler next to nothing, so that it may be given many at once."""
        return True

    def on_hold_over(self) -> None:  # noqa: B027  (who never asks need not listen)
        """The time has ended for which the handler asked with `UpstreamConnection.hold`."""

    def on_outgoing(self, outgoing: LargeRequest) -> None:  # noqa: B027  (most requests are whole)
        """A large request is about to be sent, to which more may be added."""
