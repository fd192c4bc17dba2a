"""The address and the credentials of providers are compiled, and every mistake in them is reported with its path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kyma_proxy.config.origin import Way
from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.loading.compiling import load
from tests.factories import messages

KEY, OTHER = "hunter2-0123456789", "hunter3-0123456789"


def text(provider: str = "", source: str = "", url: str = "https://p.example/v1") -> str:
    more = f", {provider}" if provider else ""
    own = f", {source}" if source else ""
    return (
        f"providers:\n  - {{name: p, base_url: '{url}', dialect: openai{more}}}\n"
        f"models:\n  - {{id: m, pool: [{{provider: p, model: real/1{own}}}]}}\n"
    )


def compiled(provider: str = "", source: str = "", url: str = "https://p.example/v1", **environment: str) -> Snapshot:
    return load(text(provider, source, url), environment)


PROBLEMS = {
    ("api_key: a, api_keys: [b]", ""): ("providers[0].api_keys", "the key is also given by api_key"),
    ("api_key: a, api_key_file: /f", ""): ("providers[0].api_key_file", "the key is also given by api_key"),
    ("api_key_file: /f, api_key_command: [c]", ""): ("providers[0].api_key_command", "the key is also given by api_key_file"),
    ("api_keys: []", ""): ("providers[0].api_keys", "the list must not be empty"),
    (f"api_keys: [{KEY}, {KEY}]", ""): ("providers[0].api_keys[1]", "is the same key as one before it"),
    (f'api_keys: [{KEY}, "hunter\\n2"]', ""): ("providers[0].api_keys[1]", "has characters that no header can carry"),
    ("api_key_command: []", ""): ("providers[0].api_key_command", "the list must not be empty"),
    ("api_key_command: c", ""): ("providers[0].api_key_command", "a list is expected here"),
    ("api_key_command: [c], api_key_refresh: 10ms", ""): ("providers[0].api_key_refresh", "must be 1s or more"),
    ("api_key_command: [c], api_key_timeout: 0s", ""): ("providers[0].api_key_timeout", "must be more than 0"),
    ("api_key: a, api_key_header: two words", ""): ("providers[0].api_key_header", "is not a valid name of a header"),
    ("api_key: a, api_key_header: Host", ""): ("providers[0].api_key_header", "is set by the gateway itself"),
    ("api_keys: [a], headers: {Authorization: b}", ""): ("providers[0].headers.authorization", "is also set by api_keys"),
    ("headers: {Host: b}", ""): ("providers[0].headers.Host", "is set by the gateway itself"),
    ("", "headers: {Host: b}"): ("models[0].pool[0].headers.Host", "is set by the gateway itself"),
    ("", 'headers: {x: "a\\nb"}'): ("models[0].pool[0].headers.x", "is not a valid header"),
    ("body: {model: x}", ""): ("providers[0].body.model", "is read or set by the gateway itself"),
    ("", "body: {stream: true}"): ("models[0].pool[0].body.stream", "is read or set by the gateway itself"),
    ("body: {a: 010}", ""): ("providers[0].body.a", "write a number in decimal digits"),
    ("body: {a: [{b: 1, b: 2}]}", ""): ("providers[0].body.a[0].b", "is there twice"),
    ("query: {'': x}", ""): ("providers[0].query", "has a parameter without a name"),
    ("proxy: 'socks5://hunter2@p:1'", ""): ("providers[0].proxy", "a proxy is http://host:port"),
    ("", "proxy: 'https://hunter2@p:1'"): ("models[0].pool[0].proxy", "a proxy is http://host:port"),
}


@pytest.mark.parametrize(("given", "problem"), PROBLEMS.items(), ids=[found[0] + found[1][:20] for found in PROBLEMS.values()])
def test_a_mistake_is_reported_with_its_path_and_without_a_secret(given: tuple[str, str], problem: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        compiled(*given)
    assert [one.path for one in refused.value.problems] == [problem[0]]
    assert refused.value.problems[0].message.startswith(problem[1])
    assert refused.value.problems[0].line in (2, 4)
    assert "hunter" not in str(refused.value)


@pytest.mark.parametrize(("url", "message"), [
    ("unix:run/x.sock:/v1", "a unix socket is unix:, its absolute path"),
    ("unix:", "a unix socket is unix:, its absolute path"),
    ("http://unix:x", "a unix socket is unix:, its absolute path"),
    ("unix:/a b:/v1", "a unix socket is unix:, its absolute path"),
    ("unix:/a:/v1?x", "a unix socket is unix:, its absolute path"),
    (f"unix:/{'x' * 107}:/v1", "the path of a unix socket has 107 bytes at most"),
    ("https://p.example/{name}/v1", "the path of a base URL may have {model} in braces, and nothing else"),
])  # fmt: skip
def test_a_base_url_that_can_not_be_used_is_reported(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compiled(url=url)
    assert [one.path for one in refused.value.problems] == ["providers[0].base_url"]
    assert refused.value.problems[0].message.startswith(message)


@pytest.mark.parametrize(("url", "socket", "path"), [
    ("unix:/run/vllm.sock", "/run/vllm.sock", b""),
    ("unix:/run/vllm.sock:", "/run/vllm.sock", b""),
    ("unix:/run/vllm.sock:/v1/", "/run/vllm.sock", b"/v1"),
    ("http://unix:/run/vllm.sock:/v1", "/run/vllm.sock", b"/v1"),
    ("unix:///run/vllm.sock:/v1", "///run/vllm.sock", b"/v1"),
])  # fmt: skip
def test_a_unix_socket_has_a_path_of_its_own_and_one_of_its_url(url: str, socket: str, path: bytes) -> None:
    provider = compiled(url=url).providers["p"]
    assert (provider.origin.way, provider.base_path) == (Way(socket=socket), path)
    assert provider.header_lines.startswith(b"host: localhost\r\n")


@pytest.mark.parametrize("member", ["headers: {x-team: '${MISSING}'}", "query: {key: '${MISSING}'}", "proxy: '${MISSING}'"])
def test_a_missing_variable_switches_off_the_provider_or_the_source_that_names_it(member: str) -> None:
    reason = "the environment variable MISSING is not set"
    snapshot = compiled(member)
    assert snapshot.providers["p"].off == reason
    assert messages(snapshot.warnings) == (
        f"provider p is off: {reason}",
        "model m has no source: all its providers are off",
    )
    snapshot = compiled("", member)
    assert (snapshot.providers["p"].off, snapshot.models["m"].pool[0].provider.off) == (None, reason)
    assert messages(snapshot.warnings) == (
        f"the source real/1 of model m is off: {reason}", "model m has no source: all its providers are off",
    )  # fmt: skip
    assert snapshot.routes["chat"]["m"].pool == ()
    assert compiled(member, MISSING="http://there:1").providers["p"].off is None


def test_all_keys_must_be_missing_for_a_provider_to_be_off() -> None:
    keys = "api_keys: ['${ONE}', '${TWO}']"
    assert compiled(keys).providers["p"].off == "the environment variables ONE, TWO are not set"
    snapshot = compiled(keys, TWO=KEY)
    assert (snapshot.providers["p"].off, snapshot.providers["p"].keys) == (None, 1)
    assert messages(snapshot.warnings) == ("provider p is without one of its keys: ONE is not set",)


def test_a_key_goes_into_the_header_that_the_provider_names() -> None:
    lines = compiled(f"api_keys: [{KEY}, {OTHER}], api_key_header: API-Key").models["m"].pool[0]
    assert [one.provider.header_lines.endswith(f"\r\napi-key: {key}\r\n".encode()) for one, key in zip(
        lines.with_keys, (KEY, OTHER), strict=True
    )] == [True, True]  # fmt: skip
    assert b"authorization" not in lines.provider.header_lines
    assert lines.provider.secrets == (KEY.encode(),)


def test_the_model_stands_in_a_path_percent_encoded() -> None:
    source = compiled(url="https://r.example/openai/deployments/{model}").models["m"].pool[0]
    assert source.provider.targets[b"/chat/completions"] == b"/openai/deployments/real%2F1/chat/completions"


def test_sources_that_are_reached_alike_share_a_breaker_and_others_have_their_own() -> None:
    given = text().replace(
        "pool: [{provider: p, model: real/1}]",
        "pool: [{provider: p, model: a}, {provider: p, model: a, headers: {x: y}}, {provider: p, model: a, query: {x: y}}]",
    )
    given += "  - {id: n, pool: [{provider: p, model: a}]}\n"
    models = load(given, {}).models
    keys = [source.key for source in models["m"].pool]
    assert len(set(keys)) == 3
    assert models["n"].pool[0].key == keys[0]


def test_a_provider_shows_neither_key_nor_proxy_in_a_repr() -> None:
    snapshot = compiled(f"api_keys: [{KEY}, {OTHER}], proxy: 'http://u:{KEY}@proxy:1', query: {{key: {KEY}}}")
    assert KEY not in repr(snapshot)
    assert OTHER not in repr(snapshot)


def test_the_guides_recipes_are_a_configuration() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "providers.md"
    recipes, supports, patterns = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", recipes), KEY) | {
        "OPENROUTER_API_KEY_2": OTHER,
        "COMPANY_PROXY": "p:1",
    }
    snapshot = load(recipes, variables)
    off = {name: one.off for name, one in snapshot.providers.items() if one.off}
    assert off == {  # nothing is read or run here
        "vertex": "its api_key_command is not run here", "bedrock": "its api_key_command is not run here",
        "openai": "the file /var/run/secrets/openai/key is not read here",
    }  # fmt: skip
    (azure, _) = snapshot.models["gpt-4o"].pool
    target = b"/openai/deployments/my-gpt-4o/chat/completions?api-version=2024-10-21"
    assert azure.provider.targets[b"/chat/completions"] == target
    listed = load(patterns, dict.fromkeys(re.findall(r"\$\{(\w+)\}", patterns), KEY))
    assert [one.prefix for one in listed.patterns] == ["claude-", "groq/", "fast/", ""]
    assert {"claude-opus-4-1", "gpt-4o-mini"} <= set(listed.models)
    (scout,) = load(supports, {"GROQ_API_KEY": KEY}).models["scout"].pool
    assert (scout.supports.stop, scout.supports.images, scout.supports.assistant_first) == (4, False, False)
