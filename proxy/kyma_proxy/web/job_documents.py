"""Builds the documents about image jobs. Amounts are in US dollars, times in Unix seconds. (Contract §10.)"""

from __future__ import annotations

import orjson

from kyma_proxy.config.snapshot import NANO
from kyma_proxy.core.jobs.job import Job, JobState, Picture

Document = dict[str, object]
_GONE = (
    "The pictures are gone: they are kept for an hour, only in memory, and an account's newest ones push out its older ones if "
    "they are large. Their cost stays charged."
)


def job_document(job: Job, *, with_output: bool = True) -> Document:
    """A job, with its pictures unless it is part of a list."""
    return {
        "id": job.id,
        "object": "image.job",
        "status": job.status,
        "model": job.model,
        "created_at": int(job.created),
        "completed_at": job.completed if job.has_ended else None,
        "output": images_document(job) if with_output and job.state is JobState.SUCCEEDED and job.pictures else None,
        "error": _error(job),
        "estimated_cost": job.held / NANO,
        "charged_amount": job.charged / NANO if job.has_ended else None,
    }


def images_document(job: Job) -> Document:
    """The pictures of a job, in the shape of OpenAI's images API."""
    return {"created": job.completed or int(job.created), "data": [_picture(picture) for picture in job.pictures]}


def jobs_document(jobs: list[Job], limit: int) -> Document:
    """A page of a list. `jobs` has one more than `limit` if there is a next page."""
    shown, has_more = jobs[:limit], len(jobs) > limit
    return {
        "object": "list",
        "data": [job_document(job, with_output=False) for job in shown],
        "has_more": has_more,
        "next_before": shown[-1].id if has_more else None,
    }


def _picture(picture: Picture) -> Document:
    return {"url": picture.url} if picture.b64_json is None else {"b64_json": orjson.Fragment(picture.b64_json)}


def _error(job: Job) -> Document | None:
    if job.failure is not None:
        return {"code": job.failure.kind.code, "message": job.failure.message}
    if job.state is JobState.SUCCEEDED and not job.pictures:
        return {"code": "output_gone", "message": _GONE}
    return None
