"""Defines the body of an attempt: it makes the request, and turns the answer's body into the caller's."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kyma_proxy.core.http.headers import AnswerHead
from kyma_proxy.net.upstream.outflow import LargeRequest


class Body(ABC):
    """One attempt's request, and what the caller gets of the body of its answer.

    The calls come in this order: `request` (again for a fresh connection), `begin`, `feed` for each piece, `finish`. `dropped`
    names what the other dialect has no place for; it is known before the first bytes are returned. What the answer says is
    read by `dialect.answers.reader`.
    """

    __slots__ = ("changes", "dropped", "endpoint", "is_translated")

    changes: bool
    """False, once the answer has begun, if every piece passes as it is."""
    dropped: tuple[str, ...]
    is_translated: bool
    """True if the caller reads another dialect than the source writes."""
    endpoint: str
    """The name of the endpoint that the source is asked at."""

    @abstractmethod
    def request(self) -> list[bytes | memoryview]:
        """The bytes of the request for the source."""

    @property
    def is_once(self) -> bool:
        """True if the request can be sent only once, as what has been sent is not kept."""
        return False

    def send_more(self, outgoing: LargeRequest) -> None:  # noqa: B027  (most requests are whole)
        """The request, a large one, is about to be sent: from now on more may be added to it."""

    @abstractmethod
    def begin(self, head: AnswerHead, *, streams: bool) -> None:
        """The answer begins; `streams` is True if it is an event stream. The head may be changed until bytes are returned."""

    @abstractmethod
    def feed(self, piece: bytes) -> bytes | None:
        """The bytes for the caller; None if the answer can't go out yet. Raises BadAnswer if it can't go out at all."""

    def passes(self, chunks: bytes, size: int) -> bool:
        """True if these whole chunks, with `size` bytes that end with an event, would be fed in vain: they pass unchanged."""
        return not self.changes

    @abstractmethod
    def finish(self) -> bytes:
        """The last bytes for the caller: the source's answer is whole. Raises BadAnswer if it can't be given to the caller."""

    @property
    @abstractmethod
    def is_finished(self) -> bool:
        """True unless what has gone out lacks an end that `finish` would add, or has an error event instead."""

    @property
    @abstractmethod
    def is_between_events(self) -> bool | None:
        """True if the stream that has gone out stands between two events; None if it stands where the source's does."""

    @property
    @abstractmethod
    def has_reported_error(self) -> bool:
        """True if the caller was sent an error event that the source did not write as it stands."""
