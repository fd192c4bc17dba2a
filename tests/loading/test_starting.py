"""A configuration is made of the keys that are there, or of one base URL; what is made can be served."""

from __future__ import annotations

from pathlib import Path

import pytest

from kyma_proxy.core.http.endpoints import Endpoint
from kyma_proxy.core.routing.resolve import Routes
from kyma_proxy.dialect.registry import DIALECTS, MAIN_ENDPOINTS
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.known_providers import FAMILIES, KnownProvider, read_known_providers
from kyma_proxy.loading.starting import built_in_configuration, provider_at, starting_file, with_keys

CATALOGUE = Path(__file__).parents[2] / "config" / "kyma.yaml"
CHAT: Endpoint = MAIN_ENDPOINTS["openai"]


@pytest.fixture(scope="module")
def known() -> tuple[KnownProvider, ...]:
    return read_known_providers(CATALOGUE.read_text(encoding="utf-8"))


def keys(*names: str) -> dict[str, str]:
    return {name: f"secret-of-{name.lower()}" for name in names}


def test_the_known_providers_are_those_of_the_catalogue_that_relay_requests(known: tuple[KnownProvider, ...]) -> None:
    text = CATALOGUE.read_text(encoding="utf-8")
    shipped = load(text, {one.variable: "some-secret-key" for one in known})
    relaying = [one for one in shipped.providers.values() if one.dialect in DIALECTS]
    assert [one.name for one in known] == [one.name for one in relaying]
    assert all(one.off is None for one in relaying)
    assert set(FAMILIES) <= {one.name for one in known}
    assert all(one.example for one in known)


@pytest.mark.parametrize(
    ("variables", "name", "provider", "model"),
    [
        (("OPENAI_API_KEY",), "gpt-4o", "openai", "gpt-4o"),
        (("OPENAI_API_KEY",), "openai/gpt-4o", "openai", "gpt-4o"),
        (("ANTHROPIC_API_KEY",), "claude-haiku-4-5", "anthropic", "claude-haiku-4-5"),
        (("GROQ_API_KEY",), "openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        (("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"), "gpt-4o", "openai", "gpt-4o"),
        (("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"), "new-model", "openai", "new-model"),
        (("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"), "claude-opus", "anthropic", "claude-opus"),
        (("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"), "anthropic/claude-opus", "anthropic", "claude-opus"),
        (("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"), "groq/openai/gpt-oss", "groq", "openai/gpt-oss"),
        (("GROQ_API_KEY", "TOGETHER_API_KEY"), "together/x/y", "together", "x/y"),
        (("GEMINI_API_KEY", "DEEPSEEK_API_KEY"), "gemini-2.5-flash", "google", "gemini-2.5-flash"),
    ],
)
def test_every_model_of_a_provider_with_a_key_is_passed_on(
    known: tuple[KnownProvider, ...], variables: tuple[str, ...], name: str, provider: str, model: str
) -> None:
    environment = keys(*variables)
    snapshot = load(built_in_configuration(with_keys(known, environment), environment), environment)
    assert (len(snapshot.providers), snapshot.warnings) == (len(variables), ())
    (source,) = Routes().of(snapshot, CHAT, name)[0].pool
    assert (source.provider.name, source.model) == (provider, model)


def test_an_empty_variable_is_no_key(known: tuple[KnownProvider, ...]) -> None:
    assert with_keys(known, {"OPENAI_API_KEY": "", "GROQ_API_KEY": "x"})[0].name == "groq"
    assert with_keys(known, {"FAL_KEY": "x"}) == ()


def test_no_key_is_in_the_text(known: tuple[KnownProvider, ...]) -> None:
    environment = keys(*(one.variable for one in known), "KYMA_ADMIN_TOKEN")
    text = built_in_configuration(with_keys(known, environment), environment)
    assert "secret-of" not in text + starting_file(with_keys(known, environment), known)
    admin = load(text, environment).admin
    assert admin is not None
    assert admin.token is not None


@pytest.mark.parametrize(
    ("url", "base", "name"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1", "local"),
        ("http://localhost:11434/", "http://localhost:11434/v1", "local"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1", "local"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1", "local"),
        ("https://vllm.internal/openai", "https://vllm.internal/openai", "vllm.internal"),
        ("https://api.anthropic.com", "https://api.anthropic.com/v1", "anthropic"),
        ("https://api.deepseek.com", "https://api.deepseek.com", "deepseek"),
    ],
)
def test_a_provider_is_given_by_its_base_url(known: tuple[KnownProvider, ...], url: str, base: str, name: str) -> None:
    provider = provider_at(url, None, known)
    assert (provider.name, provider.base_url) == (name, base)
    snapshot = load(built_in_configuration([provider], {}), {})
    (compiled,) = snapshot.providers.values()
    assert compiled.dialect == ("anthropic" if name == "anthropic" else "openai")
    assert (compiled.secrets, compiled.off) == ((), None)
    assert Routes().of(snapshot, CHAT, "any/name:tag")[0].pool[0].model == "any/name:tag"


def test_its_key_is_that_of_the_variable(known: tuple[KnownProvider, ...]) -> None:
    environment = keys("MY_KEY")
    provider = provider_at("http://localhost:1/v1", "MY_KEY", known)
    snapshot = load(built_in_configuration([provider], environment), environment)
    assert snapshot.providers["local"].secrets == (b"secret-of-my_key",)


@pytest.mark.parametrize(
    "url", ["localhost:11434", "ftp://x", "http://", "http://a b", "http://u:p@h/", "http://h/?q", "http://[x"]
)
def test_what_is_no_base_url_is_refused(known: tuple[KnownProvider, ...], url: str) -> None:
    with pytest.raises(ValueError, match="a provider is given by its base URL"):
        provider_at(url, None, known)


@pytest.mark.parametrize("variables", [("OPENAI_API_KEY",), ("GROQ_API_KEY", "ANTHROPIC_API_KEY"), ()])
def test_the_file_to_begin_with_has_no_problem(known: tuple[KnownProvider, ...], variables: tuple[str, ...]) -> None:
    environment = keys(*variables)
    snapshot = load(starting_file(with_keys(known, environment), known), environment)
    assert len(snapshot.providers) == max(1, len(variables))
    assert bool(snapshot.warnings) == (not variables)


def test_what_is_commented_out_in_it_can_be_used(known: tuple[KnownProvider, ...]) -> None:
    environment = keys(*(one.variable for one in known))
    text = starting_file(with_keys(known, keys("OPENAI_API_KEY")), known)
    whole = "\n".join(
        line.replace("  # ", "  ", 1) if line.startswith(("  # - {", "  # - id", "  #   ")) else line
        for line in text.split("\n")
    )
    whole = whole.replace("# aliases", "aliases").replace("# fallbacks", "fallbacks")
    snapshot = load(whole, environment)
    assert len(snapshot.providers) == len(known) + 1
    assert snapshot.models["my-model"].pool[0].model == "gpt-5.4-mini"
    assert snapshot.fallbacks["my-model"] == ("openai/gpt-5.4-mini",)
