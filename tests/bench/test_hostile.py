"""The hostile row: it has a point for every hostile body and answer, and each is what it claims to be."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from bench.hostile import provider
from bench.hostile.answers import ANSWERS, model_of, of_model
from bench.hostile.bodies import BODIES, MAX_BYTES
from bench.hostile.caller import ending_of, request_of
from bench.scenario_file import read


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of the hostile provider."""
    server = await provider.listen(0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def test_every_hostile_body_and_answer_has_a_point_of_the_row() -> None:
    points = [point for point in read("all").points if point.scenario == "hostile"]
    assert {point.load.hostile for point in points} == {"", *BODIES, *ANSWERS}
    assert all(point.load.hostile == point.name for point in points[1:])


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_no_larger_than_the_gateway_allows(name: str) -> None:
    head, _, body = request_of(name, "").partition(b"\r\n\r\n")
    assert 100_000 < len(body) <= MAX_BYTES
    assert re.search(rb'"model":"short', body[:100])
    assert head.endswith(b"content-length: %d" % len(body))


@pytest.mark.parametrize("name", [name for name, answer in ANSWERS.items() if not answer.more])
async def test_a_whole_hostile_answer_comes_to_its_end(port: int, name: str) -> None:
    assert of_model(model_of(name)) == ANSWERS[name]
    assert await ending_of(port, request_of(name, ""), 10.0) == "200"


@pytest.mark.parametrize("name", [name for name, answer in ANSWERS.items() if answer.more])
async def test_an_endless_answer_goes_on_until_its_caller_leaves(port: int, name: str) -> None:
    answer = ANSWERS[name]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_of(name, ""))
    async with asyncio.timeout(10.0):
        await reader.readexactly(len(answer.start))
        assert await reader.readexactly(3 * len(answer.more)) == 3 * answer.more
    writer.close()
