"""A job drops its request when it ends, and not even the exception that it failed with keeps it alive."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from kyma_proxy.core.jobs.job import Job
from kyma_proxy.errors import GatewayError
from tests.jobs.image_gateway import FAL, OPENAI, accepted, error_answer, image_gateway, play, queue_status, submit

NO = {"error": {"message": "No such cats."}}
DETAIL = {"detail": "No such cats."}


def holds(error: BaseException | None) -> list[str]:
    """The names of the functions whose local variables an exception keeps alive."""
    names: list[str] = []
    while error is not None:
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            names.append(trace.tb_frame.f_code.co_qualname)
            trace = trace.tb_next
        error = error.__context__
    return names


@pytest.mark.parametrize("prefer", ["", "prefer: wait=20\r\n"])
@pytest.mark.parametrize(
    ("dialect", "answers", "wanted"),
    [
        (OPENAI, (error_answer("400 Bad Request", NO),), {}),
        (OPENAI, (error_answer("500 Internal Server Error"),), {}),
        (OPENAI, (error_answer("429 Too Many Requests"),) * 3, {}),
        (FAL, (accepted(), queue_status("COMPLETED"), error_answer("422 Unprocessable Content", DETAIL)), {}),
        (FAL, (), {"response_format": "b64_json"}),
    ],
    ids=["refused", "broken", "busy", "refused-late", "unsupported"],
)  # fmt: skip
async def test_a_failure_holds_no_frame_in_which_the_prompt_could_be(
    tmp_path: Path, dialect: str, answers: tuple[bytes, ...], wanted: dict[str, Any], prefer: str
) -> None:
    async with image_gateway(tmp_path, dialect) as (images, provider):
        play(provider, *answers)
        caller = await images.caller()
        for at in range(1, 3):
            answer = await submit(caller, headers=prefer, idempotency_key="one and the same", **wanted)
            assert answer.status >= 400 if prefer else answer.status == (202 if at == 1 else 200)
            await images.all_jobs_end()
            (job,) = images.scheduler.finished
            assert isinstance(job, Job)
            assert isinstance(job.failure, GatewayError)
            assert (job.request, holds(job.failure)) == (None, [])
