"""The official clients speak to a gateway process, in front of a provider that is simulated or plays a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.configurations import ProviderEntry, configuration, listeners
from tests.processes import GatewayProcess, free_port, serving, serving_simulated
from tests.sdk.scripted import ScriptedProvider, scripted_provider

FAILING = (400, 401, 404, 413, 422, 429, 500, 503, 529)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway in front of a simulated provider, for all tests of this directory."""
    with serving_simulated(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def provider(translating: tuple[GatewayProcess, ScriptedProvider]) -> ScriptedProvider:
    """The provider behind `translating`, without any request so far."""
    translating[1].reset()
    return translating[1]


@pytest.fixture(scope="session")
def translating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, ScriptedProvider]]:
    """A gateway whose provider speaks only OpenAI for the model `gpt`, and only Anthropic for the model `claude`."""
    directory, address = tmp_path_factory.mktemp("translating"), f"127.0.0.1:{free_port()}"
    with scripted_provider() as provider:
        models = (
            "  - {id: gpt, input_modalities: [text, image], pool: [{provider: openai, model: real-gpt}]}\n"
            "  - {id: claude, input_modalities: [text, image], pool: [{provider: anthropic, model: claude-sonnet-4-5}]}\n"
        )
        for status in FAILING:  # a source that fails is skipped for a while, so each failure has sources of its own
            models += f"  - {{id: gpt-{status}, pool: [{{provider: openai, model: real-{status}}}]}}\n"
            models += f"  - {{id: claude-{status}, pool: [{{provider: anthropic, model: claude-{status}}}]}}\n"
        text = configuration(
            ProviderEntry(provider.base, "openai", "openai", "provider-key"),
            ProviderEntry(provider.base, "anthropic", "anthropic", "provider-key"),
            defaults="",
            pool=0,
            models=models,
            more=listeners(address, access_log=directory / "access.log"),
        )
        with serving(text, directory, f"http://{address}") as running:
            yield running, provider
