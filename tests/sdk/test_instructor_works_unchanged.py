"""instructor works as it is over a source of each dialect, by tools and by a schema: only its client's base URL is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.processes import GatewayProcess
from tests.sdk.scripted import ScriptedProvider
from tests.sdk.test_pydantic_ai_works_unchanged import SOURCES, call_of, text_of

instructor = pytest.importorskip("instructor", reason="pip install instructor")

ROME = {"city": "Rome", "degrees": 20}
ASKED: Any = [{"role": "user", "content": "How is it in Rome?"}]


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


@pytest.fixture
def client(translating: tuple[GatewayProcess, ScriptedProvider]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{translating[0].base}/v1", api_key="ky-any", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_an_answer_is_read_as_a_model(client: openai.OpenAI, provider: ScriptedProvider, source: str, mode: str) -> None:
    asking = instructor.from_openai(client, mode=instructor.Mode[mode])
    if mode == "TOOLS":
        provider.plays(call_of(source, "Weather", ROME, streams=False))
    else:
        provider.plays(text_of(source, json.dumps(ROME), streams=False))
    found = asking.chat.completions.create(model=source, messages=ASKED, response_model=Weather, max_retries=0)
    assert found.model_dump() == ROME


@pytest.mark.parametrize("source", SOURCES)
def test_a_partial_answer_grows_while_it_streams(client: openai.OpenAI, provider: ScriptedProvider, source: str) -> None:
    provider.plays(call_of(source, "PartialWeather", ROME, streams=True))
    asking = instructor.from_openai(client)
    grown = [*asking.chat.completions.create_partial(model=source, messages=ASKED, response_model=Weather, max_retries=0)]
    assert grown[-1].model_dump() == ROME


@pytest.mark.parametrize("source", SOURCES)
def test_the_anthropic_client_reads_an_answer_as_a_model(
    translating: tuple[GatewayProcess, ScriptedProvider], provider: ScriptedProvider, source: str
) -> None:
    provider.plays(call_of(source, "Weather", ROME, streams=False))
    with anthropic.Anthropic(base_url=translating[0].base, api_key="ky-any", max_retries=0) as claude:
        asking = instructor.from_anthropic(claude)
        found = asking.messages.create(model=source, max_tokens=99, messages=ASKED, response_model=Weather, max_retries=0)
    assert found.model_dump() == ROME
