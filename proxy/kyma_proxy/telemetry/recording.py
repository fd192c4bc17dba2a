"""Makes the access log's records of requests and image jobs that have ended."""

from __future__ import annotations

from typing import Final

from kyma_proxy.core.accounts.accounts import Key
from kyma_proxy.core.accounts.usage import cost_nano_usd
from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.endpoints import IMAGE_JOBS
from kyma_proxy.core.jobs.job import Job, JobState
from kyma_proxy.errors import Kind
from kyma_proxy.telemetry.record import Record

_MAX_MODEL_CHARACTERS: Final = 128


def record_of(exchange: Exchange, wall: float, now: float) -> Record:
    """The record of a request that has ended; `wall` is Unix time, `now` the monotonic clock."""
    inbound = exchange.inbound
    usage = exchange.usage
    model = exchange.model
    source = exchange.answered_by
    cost = exchange.cost
    if exchange.reservation is None and model is not None:
        cost = cost_nano_usd(usage, model.price)
    key = exchange.key
    return Record(
        wall,
        inbound.request_id,
        None if key is None else key.account.id,
        None if key is None else key.prefix,
        exchange.endpoint.name,
        exchange.endpoint.dialect,
        None if exchange.routing is None else exchange.routing.model[:_MAX_MODEL_CHARACTERS],
        None if model is None else model.id,
        None if source is None else source.provider.name,
        exchange.routing is not None and exchange.routing.streams,
        exchange.status,
        exchange.state.value,
        exchange.error_code,
        exchange.layer,
        [f"{attempt.provider}:{attempt.result}" for attempt in exchange.attempts],
        round((exchange.first_byte - inbound.received) * 1e3, 3) if exchange.first_byte else None,
        round((now - inbound.received) * 1e3, 3),
        round(exchange.overhead_s * 1e6),
        exchange.provider_request_id,
        exchange.bytes_in,
        exchange.bytes_out,
        usage.prompt,
        usage.completion,
        usage.cached,
        usage.source,
        None if cost is None else cost / 1e9,
    )


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
        wall, request_id, account, prefix, endpoint, "-", None, None, None, False, status, ending, None, 0, [], None,
        round(duration_s * 1e3, 3), 0, None, bytes_in, bytes_out, None, None, None, "none", None,
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
        job.attempts, None,
        round((wall - job.created) * 1e3, 3), 0, provider_job, 0, 0, None, None, None, "none", job.charged / 1e9,
    )  # fmt: skip
