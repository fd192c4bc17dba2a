"""Makes the access log's records of requests and image jobs that have ended."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from kyma_proxy.core.accounts.accounts import Key
from kyma_proxy.core.accounts.usage import cost_nano_usd
from kyma_proxy.core.exchange import Exchange, State
from kyma_proxy.core.http.endpoints import IMAGE_JOBS
from kyma_proxy.core.jobs.job import Job, JobState
from kyma_proxy.errors import Kind
from kyma_proxy.telemetry.record import LabelledRecord, Labels, Record, written

_MAX_MODEL_CHARACTERS: Final = 128
_MAX_LABELS: Final = 1024
_labelled: Final = LabelledRecord  # compiled, a name of this module is found faster than another module's
_Key = tuple[str, str | None, str | None, str | None, bool, int, State, str | None, int, str | None, str | None]


class Recording:
    """Makes the records of relayed requests. Labels that have been written stay written: they are half of a line's work."""

    __slots__ = ("_written",)

    def __init__(self) -> None:
        self._written: dict[_Key, Raw] = {}

    def record_of(self, exchange: Exchange, wall: float, now: float) -> LabelledRecord:
        """The record of a request that has ended; `wall` is Unix time, `now` the monotonic clock."""
        inbound = exchange.inbound
        received = inbound.received
        usage = exchange.usage
        cost = exchange.cost
        model = exchange.model
        if cost is None and model is not None:
            cost = cost_nano_usd(usage, model.price)
        key = exchange.key
        first_byte = exchange.first_byte
        return _labelled(
            wall,
            inbound.request_id,
            None if key is None else key.account.id,
            None if key is None else key.prefix,
            self._labels_of(exchange),
            _milliseconds(first_byte - received) if first_byte else None,
            _milliseconds(now - received),
            int(exchange.overhead_s * 1e6 + 0.5),
            exchange.provider_request_id,
            exchange.bytes_in,
            exchange.bytes_out,
            usage.prompt,
            usage.completion,
            usage.cached,
            usage.source,
            None if cost is None else cost / 1e9,
        )

    @property
    def written_labels(self) -> int:
        """The number of labels that stay written."""
        return len(self._written)

    def _labels_of(self, exchange: Exchange) -> Raw:
        attempts = exchange.attempts
        if len(attempts) > 1 or exchange.asked_at is not None:
            return written(_labels(exchange))
        routing, model, source, tried = exchange.routing, exchange.model, exchange.answered_by, None
        if attempts:
            tried = attempts[0]
        key: _Key = (
            exchange.endpoint.name,
            None if routing is None else routing.model[:_MAX_MODEL_CHARACTERS],
            None if model is None else model.id,
            None if source is None else source.provider.name,
            routing is not None and routing.streams,
            exchange.status,
            exchange.state,
            exchange.error_code,
            exchange.layer,
            None if tried is None else tried.step.source.provider.name,
            None if tried is None else tried.result,
        )
        labels = self._written.get(key)
        if labels is None:
            if len(self._written) >= _MAX_LABELS:  # callers' names of unknown models are in it
                self._written.clear()
            labels = self._written[key] = written(_labels(exchange))
        return labels


def _labels(exchange: Exchange) -> Labels:
    routing, model, source = exchange.routing, exchange.model, exchange.answered_by
    return Labels(
        exchange.endpoint.name,
        exchange.endpoint.dialect,
        None if routing is None else routing.model[:_MAX_MODEL_CHARACTERS],
        None if model is None else model.id,
        None if source is None else source.provider.name,
        routing is not None and routing.streams,
        exchange.status,
        exchange.state.value,
        exchange.error_code,
        exchange.layer,
        [f"{attempt.provider}:{attempt.result}" for attempt in exchange.attempts],
        exchange.asked_at,
    )


def _milliseconds(seconds: float) -> float:
    """Milliseconds to three places. (Python's `round` writes a number and reads it again.)"""
    return int(seconds * 1e6 + 0.5) / 1e3


def other_record(
    request_id: str, endpoint: str, status: int, wall: float, *, duration_s: float = 0.0, bytes_in: int = 0, bytes_out: int = 0,
    key: Key | None = None, ending: str | None = None,
) -> Record:  # fmt: skip
    """The record of a request that was not relayed: to the control plane, or refused by the listener (endpoint "-").

    `ending` is that of a request that got no whole answer; the status tells the others.
    """
    if ending is None:
        ending = "completed" if status < 400 else "rejected"
    account, prefix = (None, None) if key is None else (key.account.id, key.prefix)
    return Record(
        wall, request_id, account, prefix, endpoint, "-", None, None, None, False, status, ending, None, 0, [], None, None,
        _milliseconds(duration_s), 0, None, bytes_in, bytes_out, None, None, None, "none", None,
    )  # fmt: skip


def job_record(job: Job, wall: float) -> Record:
    """The record of an image job that has ended; the request that submitted it has its own record, with the same id."""
    by, failure = job.accepted_by, job.failure
    provider: str | None
    provider_job: str | None
    if job.state is JobState.SUCCEEDED:
        ending = "completed"
    elif job.state is JobState.REFUNDED:
        ending = "client_gone" if failure is not None and failure.kind is Kind.JOB_CANCELLED else "drained"
    else:
        ending = "failed"
    account = None if job.account is None else job.account.id
    model, provider, layer, provider_job = job.model, None, 0, None
    if by is not None:
        model, provider, layer, provider_job = by.model, by.provider, by.layer, by.provider_job or None
    return Record(
        wall, job.request_id, account, job.key_prefix, "image.job", IMAGE_JOBS.dialect, job.alias or job.model, model, provider,
        False, 200 if failure is None else failure.kind.status, ending, None if failure is None else failure.kind.code, layer,
        [*job.attempts], None, None,
        _milliseconds(wall - job.created), 0, provider_job, 0, 0, None, None, None, "none", job.charged / 1e9,
    )  # fmt: skip
