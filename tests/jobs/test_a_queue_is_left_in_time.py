"""A job that only waits in a provider's queue is withdrawn there, and another source asked, unless none could make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.jobs.image_gateway import (
    FAL,
    OPENAI,
    PRICE,
    accepted,
    error_answer,
    image_gateway,
    images_answer,
    maybe_withdrawn,
    play,
    queue_result,
    queue_status,
    submitted_and_ended,
    withdrawn,
)

AT_ONCE = "{leave_queue_after: 0s}"
WAITS, WORKS, DONE = (queue_status(word) for word in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"))


def asked(provider: Any) -> list[str]:
    """The methods of the requests that a provider got."""
    return [one.line.partition(" ")[0] for one in provider.received]


async def test_a_job_that_only_waits_is_withdrawn_and_the_next_source_is_asked(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI, first=AT_ONCE) as (images, first, second):
        play(first, accepted(), WAITS, withdrawn())
        play(second, images_answer())
        caller = await images.caller()
        assert (await submitted_and_ended(caller))["status"] == "succeeded"
        assert (asked(first), len(second.received)) == (["POST", "GET", "PUT"], 1)
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)]


async def test_a_job_that_the_queue_may_have_begun_is_followed_to_its_end(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI, first=AT_ONCE) as (images, first, second):
        play(first, accepted(), WAITS, maybe_withdrawn(), WAITS, WORKS, DONE, queue_result())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"
        assert (asked(first).count("PUT"), second.received) == (1, [])


async def test_a_withdrawal_that_shows_only_in_the_result_leads_to_the_next_source(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI, first=AT_ONCE) as (images, first, second):
        cancelled = error_answer("499 Client Closed", {"detail": "cancelled", "error_type": "client_cancelled"})
        play(first, accepted(), WAITS, maybe_withdrawn(), DONE, cancelled)
        play(second, images_answer())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"
        assert len(second.received) == 1


@pytest.mark.parametrize(
    ("dialects", "first"), [((FAL,), AT_ONCE), ((FAL, OPENAI), "{leave_queue_after: null}"), ((FAL, OPENAI), "{most: 4}")]
)
async def test_a_queue_is_not_left_without_another_source_or_before_its_time(
    tmp_path: Path, dialects: tuple[str, ...], first: str
) -> None:
    async with image_gateway(tmp_path, *dialects, first=first) as (images, provider, *others):
        play(provider, accepted(), WAITS, WAITS, WORKS, DONE, queue_result())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"
        assert "PUT" not in asked(provider)
        assert all(other.received == [] for other in others)


async def test_a_job_that_is_being_drawn_is_not_withdrawn(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, OPENAI, first=AT_ONCE) as (images, provider, other):
        play(provider, accepted(), WORKS, WORKS, DONE, queue_result())
        assert (await submitted_and_ended(await images.caller()))["status"] == "succeeded"
        assert ("PUT" in asked(provider), other.received) == (False, [])


async def test_a_queue_is_not_left_for_a_source_that_cannot_make_what_is_asked(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL, FAL, first=AT_ONCE) as (images, first, second):
        path = images.running.file
        anything = path.read_text().replace("sizes: [1024x1024, 512x512], ", "")
        path.write_text(anything.replace(AT_ONCE, "{leave_queue_after: 0s, sizes: {'1:1': square}}"))
        assert (await images.running.configuration.reload("the test")).result == "reloaded"
        play(first, accepted(), WAITS, WORKS, DONE, queue_result())
        assert (await submitted_and_ended(await images.caller(), size="1:1"))["status"] == "succeeded"
        assert ("PUT" in asked(first), second.received) == (False, [])
