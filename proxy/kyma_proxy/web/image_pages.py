"""Serves image jobs: submits, lists, shows and cancels them. (Contract §10.)"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Final

from aiohttp import web

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.core.http.measured_fields import content_type_of
from kyma_proxy.core.jobs.edit_request import edit_members
from kyma_proxy.core.jobs.job import Job, JobState
from kyma_proxy.core.jobs.request import read_image_request
from kyma_proxy.errors import GatewayError, Kind, accounts_unavailable
from kyma_proxy.jobs.service import JobService
from kyma_proxy.store.contract import StoreUnavailable
from kyma_proxy.web.control_plane_bridge import CALLER, ERROR_HEADERS, REQUEST_ID_HEADER, WHEN_SENT
from kyma_proxy.web.job_documents import Document, images_document, job_document, jobs_document
from kyma_proxy.web.reading import query_number, query_text, read_body
from kyma_proxy.web.responses import Handler, json_response

_SECONDS: Final = re.compile(r'([0-9]+)|"([0-9]+)"')
_MAX_WAIT_S: Final = 300
_MAX_BODY_BYTES: Final = 8 * 2**20
_MAX_LIMIT: Final = 100
_DEFAULT_LIMIT: Final = 20
PATHS: Final = (
    ("POST", "/v1/images/generations"), ("POST", "/v1/images/edits"), ("GET", "/v1/jobs"), ("GET", "/v1/jobs/{id}"),
    ("DELETE", "/v1/jobs/{id}"),
)  # fmt: skip


class ImagePages:
    """The endpoints of image jobs. Without a meter no key is needed, and every caller sees all jobs. `wall` is Unix time."""

    def __init__(
        self, current: Callable[[], Snapshot], jobs: JobService, meter: Meter | None, *, wall: Callable[[], float]
    ) -> None:
        self._current = current
        self._jobs = jobs
        self._meter = meter
        self._wall = wall

    def add_to(self, app: web.Application) -> None:
        """Add the routes of `PATHS`."""
        handlers = (self._submit, self._submit, self._list, self._show, self._cancel)
        for (method, path), handler in zip(PATHS, handlers, strict=True):
            app.router.add_route(method, path, self._with_key(handler))

    def _with_key(self, handler: Callable[[web.Request, Key | None], Awaitable[web.Response]]) -> Handler:
        """A handler that requires a valid key if requests are metered, and passes it on. Raises GatewayError without one."""

        async def authenticated(request: web.Request) -> web.StreamResponse:
            key = None
            if self._meter is not None:
                key = request[CALLER] = self._meter.identify(list(request.raw_headers))
            try:
                return await handler(request, key)
            except StoreUnavailable:
                raise accounts_unavailable() from None

        return authenticated

    async def _submit(self, request: web.Request, key: Key | None) -> web.Response:
        try:
            job, is_new = await self._submitted_job(request, key)
        except GatewayError:
            request[ERROR_HEADERS] = self._limits_left(key)
            raise
        if self._meter is not None and key is not None:
            self._meter.note_use(key, self._wall())
        wait = await self._wait_as_preferred(request, job)
        if wait is not None and job.failure is not None:
            # The gateway has asked every source: a client that retries would only start another job.
            request[ERROR_HEADERS] = {
                "Location": f"/v1/jobs/{job.id}", "X-Should-Retry": "false", **self._limits_left(key),
            }  # fmt: skip
            raise job.failure.fresh()
        is_done = wait is not None and job.state is JobState.SUCCEEDED and bool(job.pictures)
        document = images_document(job) if is_done else job_document(job)
        response = self._job_response(request, job, document, 202 if is_new and not is_done else 200)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        response.headers.update(self._limits_left(key))
        return response

    def _limits_left(self, key: Key | None) -> dict[str, str]:
        """The `x-ratelimit-*` headers, as on the answers that are relayed; none for callers that are not metered."""
        if self._meter is None or key is None:
            return {}
        lines = self._meter.lines(key.account, self._current().tiers, monotonic()).decode().splitlines()
        return {name: value for name, _, value in (line.partition(": ") for line in lines)}

    async def _submitted_job(self, request: web.Request, key: Key | None) -> tuple[Job, bool]:
        """The job for a request, and True if it is new. The body is local to this function, so that nothing else keeps it."""
        body = await read_body(request, _MAX_BODY_BYTES)
        if request.path == "/v1/images/edits":
            body = edit_members(content_type_of(list(request.raw_headers)), body)
        image_request = read_image_request(body, self._current(), request.headers.get("Idempotency-Key"))
        return await self._jobs.submit(image_request, key, request.headers.get(REQUEST_ID_HEADER, ""))

    async def _list(self, request: web.Request, key: Key | None) -> web.Response:
        limit = query_number(request, "limit", default=_DEFAULT_LIMIT, minimum=1, maximum=_MAX_LIMIT)
        jobs = await self._jobs.newest(_account(key), query_text(request, "before"), limit + 1)
        return json_response(jobs_document(jobs, limit))

    async def _show(self, request: web.Request, key: Key | None) -> web.Response:
        job = await self._find_job(request, key)
        await self._wait_as_preferred(request, job)
        return self._job_response(request, job, job_document(job))

    async def _cancel(self, request: web.Request, key: Key | None) -> web.Response:
        job = await self._find_job(request, key)
        await self._jobs.cancel(job)
        return self._job_response(request, job, job_document(job), 200 if job.has_ended else 202)

    async def _wait_as_preferred(self, request: web.Request, job: Job) -> int | None:
        """Wait for a job's end as long as the caller prefers. Returns that time in seconds, or None without a preference."""
        wait = preferred_wait(request.headers.getall("Prefer", ()))
        if wait is not None:
            await self._jobs.wait(job, wait)
        return wait

    def _job_response(self, request: web.Request, job: Job, document: Document, status: int = 200) -> web.Response:
        """The response about a job. Its headers name the model, the fallback layer, the applied preference and a retry time."""
        response = json_response(document, status)
        by, wait = job.accepted_by, preferred_wait(request.headers.getall("Prefer", ()))
        response.headers["X-Kyma-Model"] = job.model if by is None else by.model
        if job.alias is not None:
            response.headers["X-Kyma-Alias"] = job.alias
        if by is not None and by.layer:
            response.headers["X-Kyma-Fallback"] = "true"
            response.headers["X-Kyma-Fallback-Layer"] = str(by.layer)
        if wait is not None:
            response.headers["Preference-Applied"] = f"wait={wait}"
        if not job.has_ended:
            response.headers["Retry-After"] = "1"
        if job.state is JobState.SUCCEEDED:  # not only by the time when this is sent: it must have the pictures
            request[WHEN_SENT] = lambda: self._jobs.mark_delivered(job)
        return response

    async def _find_job(self, request: web.Request, key: Key | None) -> Job:
        """The caller's job that the path names. Raises GatewayError if there is none."""
        job = await self._jobs.find(_account(key), request.match_info["id"])
        if job is None:
            raise GatewayError(Kind.NOT_FOUND, "There is no such job; GET /v1/jobs lists yours, of the last 30 days.")
        return job


def _account(key: Key | None) -> Account | None:
    return None if key is None else key.account


def preferred_wait(values: Iterable[str]) -> int | None:
    """The seconds of `Prefer: wait=N`, at most 300, from the values of that header; None if it has no such wait. (RFC 7240.)"""
    for preference in ",".join(values).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        found = _SECONDS.fullmatch(value.strip())
        if name.strip().lower() == "wait" and found is not None:
            return min(int((found[1] or found[2])[:9]), _MAX_WAIT_S)
    return None
