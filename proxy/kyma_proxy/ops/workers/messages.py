"""Defines what the supervisor and its workers tell each other. (`channel` carries it; docs/ARCHITECTURE.md shows the order.)

Moments are seconds of the monotonic clock, which all processes of a machine share. Counts are those since the last report, so
that nothing is counted twice, and nothing that was counted is lost with a worker that dies later.
"""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The base of all messages."""


class Start(Message, frozen=True):
    """To a worker, first: serve. With a file that holds the snapshot's pieces, and the sockets to listen on."""

    number: int


class Accept(Message, frozen=True):
    """To a worker that is ready: accept connections."""


class Prepare(Message, frozen=True):
    """To a worker: get ready for another snapshot; its pieces are in the file that comes along."""

    version: int


class Apply(Message, frozen=True):
    """To a worker: put the snapshot of this version in force."""

    version: int


class Leave(Message, frozen=True):
    """To a worker: end within `drain`. At the second one nobody is waited for."""


class HandOver(Message, frozen=True):
    """To a worker: another process serves from now on. Leave the connections to it, and end when the last answer is sent."""


class BeAlone(Message, frozen=True):
    """To a worker that hands over: the other process has ended, so connections are closed after their answers."""


class Adopt(Message, frozen=True):
    """To a worker: take in a connection that comes along, of a process whose place was taken. `is_new`: nothing was read."""

    is_new: bool


class TellCounts(Message, frozen=True):
    """To a worker: send a report now."""


class CircuitState(msgspec.Struct, frozen=True, array_like=True):
    """A circuit that has opened (again), or has closed: that of a source if `endpoint` is "", else that of its endpoint.

    `open_until` is 0.0 for one that is closed. `failure` is the one that opened it: its members, the kinds by their values.
    """

    key: str
    endpoint: str
    is_main: bool
    open_until: float
    openings: int
    is_hinted: bool
    failure: tuple[str, str, str, int, int | None, str, bool, int] | None


class Circuits(Message, frozen=True):
    """Both ways: circuits that have opened or closed elsewhere."""

    changed: tuple[CircuitState, ...]


class Ready(Message, frozen=True):
    """From a worker: it can serve."""


class CannotServe(Message, frozen=True):
    """From a worker: it can't start, or can't put a snapshot in force that the others have, and ends."""

    why: str


class Prepared(Message, frozen=True):
    """From a worker: it could put the snapshot of this version in force; `why` says why not."""

    version: int
    why: str | None = None


class LogText(Message, frozen=True):
    """From a worker: whole lines of the access log."""

    lines: bytes


class Forwarded(Message, frozen=True):
    """From a worker: a connection on which a request waits that is not relayed comes along."""


class Left(Message, frozen=True):
    """From a worker that hands over: a connection for the process that serves now comes along."""

    is_new: bool


class HistogramCounts(msgspec.Struct, frozen=True, array_like=True):
    """The counts of a histogram's buckets, and the sum of the values."""

    counts: list[int]
    total: float


class SeriesCounts(msgspec.Struct, frozen=True, array_like=True):
    """The counts of one endpoint, model and provider; `endings` has statuses, ends and their counts."""

    key: tuple[str, str, str]
    endings: list[tuple[int, str, int]]
    bytes_in: int
    bytes_out: int
    prompt: int | None
    completion: int | None
    cached: int | None
    first_byte: HistogramCounts
    duration: HistogramCounts
    overhead: HistogramCounts


class SourceCounts(msgspec.Struct, frozen=True, array_like=True):
    """A source at an endpoint: when it was asked last, its times to the first byte, and how it did by traffic."""

    key: str
    endpoint: str
    is_main: bool
    asked_at: float
    streamed_s: float
    whole_s: float
    succeeded: int
    failed: int


class Report(Message, frozen=True):
    """From a worker, each second and when it is asked: what it has counted since the last one, and its present gauges."""

    series: list[SeriesCounts]
    attempts: list[tuple[tuple[str, str, str, str], int]]
    rejected: dict[str, int]
    stale_retries: int
    sources: list[SourceCounts]
    models: list[tuple[str, int, int]]
    gauges: dict[str, float]


ToWorker = Start | Accept | Prepare | Apply | Leave | HandOver | BeAlone | Adopt | TellCounts | Circuits
FromWorker = Ready | CannotServe | Prepared | LogText | Forwarded | Left | Report | Circuits
