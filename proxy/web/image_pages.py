"""This file answers those who want images: it takes jobs in, and says how they fare. (Contract §10.)"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from proxy.accounting.meter import Meter
from proxy.config.snapshot import Snapshot
from proxy.core.accounts import Account, Key
from proxy.core.image_request import read_image_request
from proxy.core.job import Job, JobState
from proxy.errors import GatewayError, Kind, accounts_unavailable
from proxy.jobs.desk import Jobs
from proxy.store.contract import StoreUnavailable
from proxy.web.job_documents import images_document, job_document, jobs_document
from proxy.web.lane import CALLER, REQUEST_ID_HEADER
from proxy.web.reading import json_answer, number, read_body

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?:$|[,;\s])", re.IGNORECASE)
_LONGEST_WAIT_S: Final = 300
_MOST_BODY_BYTES: Final = 8 * 2**20
_MOST_LISTED: Final = 100
_USUALLY_LISTED: Final = 20
PATHS: Final = (
    ("POST", "/v1/images/generations"), ("GET", "/v1/jobs"), ("GET", "/v1/jobs/{id}"), ("DELETE", "/v1/jobs/{id}"),
)  # fmt: skip


class ImagePages:
    """The pages of image jobs. Without a meter everybody may call, and all jobs are everybody's who knows their ids."""

    def __init__(self, current: Callable[[], Snapshot], jobs: Jobs, meter: Meter | None) -> None:
        self._current = current
        self._jobs = jobs
        self._meter = meter

    def add_to(self, app: web.Application) -> None:
        """Add the routes of `PATHS`."""
        handlers = (self._submit, self._list, self._show, self._cancel)
        for (method, path), handler in zip(PATHS, handlers, strict=True):
            app.router.add_route(method, path, self._mine(handler))

    def _mine(self, handler: Callable[[web.Request, Key | None], Awaitable[web.Response]]) -> _Handler:
        """The handler, for whoever may call."""

        async def answer(request: web.Request) -> web.StreamResponse:
            key = None
            if self._meter is not None:
                key = request[CALLER] = self._meter.identify(list(request.raw_headers))
            try:
                return await handler(request, key)
            except StoreUnavailable:
                raise accounts_unavailable() from None

        return answer

    async def _submit(self, request: web.Request, key: Key | None) -> web.Response:
        body = await read_body(request, _MOST_BODY_BYTES)
        wanted = read_image_request(body, self._current(), request.headers.get("Idempotency-Key"))
        job, is_new = await self._jobs.submit(wanted, key, request.headers.get(REQUEST_ID_HEADER, ""))
        wait = _wait(request)
        if wait is not None:
            await self._jobs.wait(job, wait)
            if job.state is JobState.SUCCEEDED and job.pictures:
                self._jobs.delivered(job)
                return _told(json_answer(images_document(job)), job, wait)
            if job.failure is not None:
                raise job.failure.fresh()
        response = _told(json_answer(job_document(job), 202 if is_new else 200), job, wait)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        self._jobs.delivered(job)
        return response

    async def _list(self, request: web.Request, key: Key | None) -> web.Response:
        limit = number(request, "limit", default=_USUALLY_LISTED, least=1, most=_MOST_LISTED)
        jobs = await self._jobs.newest(_account(key), request.query.get("before"), limit + 1)
        return json_answer(jobs_document(jobs, limit))

    async def _show(self, request: web.Request, key: Key | None) -> web.Response:
        job = await self._found(request, key)
        wait = _wait(request)
        if wait is not None:
            await self._jobs.wait(job, wait)
        response = _told(json_answer(job_document(job)), job, wait)
        self._jobs.delivered(job)
        return response

    async def _cancel(self, request: web.Request, key: Key | None) -> web.Response:
        job = await self._found(request, key)
        await self._jobs.cancel(job)
        response = _told(json_answer(job_document(job)), job, None)
        self._jobs.delivered(job)
        return response

    async def _found(self, request: web.Request, key: Key | None) -> Job:
        job = await self._jobs.find(_account(key), request.match_info["id"])
        if job is None:
            raise GatewayError(Kind.NOT_FOUND, "There is no such job; GET /v1/jobs lists yours, of the last 30 days.")
        return job


def _account(key: Key | None) -> Account | None:
    return None if key is None else key.account


def _wait(request: web.Request) -> float | None:
    """For how many seconds the answer shall wait, `Prefer: wait=N`; None where it shall not. (RFC 7240 §4.3.)"""
    found = _WAIT.search(", ".join(request.headers.getall("Prefer", ())))
    return None if found is None else min(float(found[1]), _LONGEST_WAIT_S)


def _told(response: web.Response, job: Job, wait: float | None) -> web.Response:
    """The answer with what its head says: which model, by which way, and which preference was followed."""
    taken = job.taken
    response.headers["X-Kyma-Model"] = job.model if taken is None else taken.model
    if job.alias is not None:
        response.headers["X-Kyma-Alias"] = job.alias
    if taken is not None and taken.layer:
        response.headers["X-Kyma-Fallback"] = "true"
        response.headers["X-Kyma-Fallback-Layer"] = str(taken.layer)
    if wait is not None:
        response.headers["Preference-Applied"] = f"wait={wait:g}"
    return response
