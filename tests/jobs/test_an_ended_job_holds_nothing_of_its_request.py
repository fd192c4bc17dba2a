"""What a job is about is let go of with its ending; not even the failure by which it ended holds on to it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from kyma_proxy.core.jobs.job import Job
from kyma_proxy.errors import GatewayError
from tests.jobs.studio import FAL, OPENAI, look, order, plays, refused, studio, taken

NO = {"error": {"message": "No such cats."}}


def holds(error: BaseException | None) -> list[str]:
    """The functions whose locals an exception keeps alive."""
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
        (OPENAI, (refused("400 Bad Request", NO),), {}),
        (OPENAI, (refused("500 Internal Server Error"),), {}),
        (OPENAI, (refused("429 Too Many Requests"),) * 3, {}),
        (FAL, (taken(), look("COMPLETED"), refused("422 Unprocessable Content", {"detail": "No such cats."})), {}),
        (FAL, (), {"response_format": "b64_json"}),
    ],
    ids=["refused", "broken", "busy", "refused-late", "unsayable"],
)  # fmt: skip
async def test_a_failure_holds_no_frame_in_which_the_prompt_could_be(
    tmp_path: Path, dialect: str, answers: tuple[bytes, ...], wanted: dict[str, Any], prefer: str
) -> None:
    async with studio(tmp_path, dialect) as (here, provider):
        plays(provider, *answers)
        caller = await here.caller()
        for at in range(1, 3):
            answer = await order(caller, headers=prefer, idempotency_key="one and the same", **wanted)
            assert answer.status >= 400 if prefer else answer.status == (202 if at == 1 else 200)
            await here.is_at_rest()
            (job,) = here.scheduler.finished
            assert isinstance(job, Job)
            assert isinstance(job.failure, GatewayError)
            assert (job.request, holds(job.failure)) == (None, [])
