"""Defines the body of an attempt: it makes the request, and turns the answer's body into the caller's."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kyma_proxy.core.accounts.usage import Usage
from kyma_proxy.core.http.headers import AnswerHead
from kyma_proxy.core.routing.failures import FailureKind


class BadAnswer(Exception):
    """A source has sent no answer, or no whole one. `last` are bytes that still go to the caller."""

    def __init__(self, kind: FailureKind, detail: str, *, last: bytes = b"") -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.last = last


class Body(ABC):
    """One attempt's request and the body of its answer.

    The calls come in this order: `request` (again for a fresh connection), `begin`, `feed` for each piece, `finish`. `dropped`
    names what the other dialect has no place for; it is known before the first bytes are returned.
    """

    __slots__ = ("dropped",)

    dropped: tuple[str, ...]

    @abstractmethod
    def request(self) -> list[bytes | memoryview]:
        """The bytes of the request for the source."""

    @abstractmethod
    def begin(self, head: AnswerHead) -> None:
        """The head has come. It may be changed until the first bytes are returned."""

    @abstractmethod
    def feed(self, piece: bytes) -> bytes | None:
        """The bytes for the caller, or None while it is not known whether this is an answer.

        Raises BadAnswer if it is none; once bytes have been returned it no longer does.
        """

    @abstractmethod
    def finish(self, *, is_certain: bool) -> bytes:
        """The last bytes for the caller. `is_certain` is False if only the connection's end says that the answer is whole.

        Raises BadAnswer if it is not whole, or is no answer.
        """

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """True if the stream that has gone out says of itself that it is whole."""

    @property
    @abstractmethod
    def is_between_events(self) -> bool:
        """True if the stream that has gone out stands between two events."""

    @property
    @abstractmethod
    def has_reported_error(self) -> bool:
        """True if an error event of the source's has told the caller that the answer will not be whole."""

    @abstractmethod
    def usage(self) -> Usage:
        """The usage that the source reported."""

    @abstractmethod
    def delivered(self, size: int) -> int:
        """About how many tokens have gone out in `size` bytes."""
