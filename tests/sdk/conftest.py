"""The official clients speak to a real gateway process, in front of a real provider: simulated, or playing a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Running, free_port, serving, started
from tests.sdk.scripted import Scripted, scripted

FAILING = (400, 401, 404, 413, 422, 429, 500, 503, 529)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One gateway for all tests of this directory."""
    with started(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def provider(crossing: tuple[Running, Scripted]) -> Scripted:
    """The provider behind `crossing`, which has not been asked anything yet."""
    crossing[1].forget()
    return crossing[1]


@pytest.fixture(scope="session")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Scripted]]:
    """A gateway whose provider speaks only OpenAI for the model `gpt`, and only Anthropic for the model `claude`."""
    directory, address = tmp_path_factory.mktemp("crossing"), f"127.0.0.1:{free_port()}"
    with scripted() as provider:
        text = (
            f"listen: {address}\nadmin: null\naccess_log: '{directory / 'access.log'}'\nproviders:\n"
            f"  - {{name: openai, base_url: '{provider.base}', dialect: openai, api_key: provider-key}}\n"
            f"  - {{name: anthropic, base_url: '{provider.base}', dialect: anthropic, api_key: provider-key}}\n"
            "models:\n"
            "  - {id: gpt, input_modalities: [text, image], pool: [{provider: openai, model: real-gpt}]}\n"
            "  - {id: claude, input_modalities: [text, image], pool: [{provider: anthropic, model: claude-sonnet-4-5}]}\n"
        )
        for status in FAILING:  # a source that fails rests, so each failure has sources of its own
            text += f"  - {{id: gpt-{status}, pool: [{{provider: openai, model: real-{status}}}]}}\n"
            text += f"  - {{id: claude-{status}, pool: [{{provider: anthropic, model: claude-{status}}}]}}\n"
        with serving(text, directory, f"http://{address}") as running:
            yield running, provider
