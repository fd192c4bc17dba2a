"""Azure, Vertex AI, Bedrock and OpenRouter are reached by settings alone. Each stand-in refuses what the real one refuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.configurations import ProviderEntry, configuration
from tests.harness import Gateway, Provider, Received, gateway, providers, whole

KEY = "key-of-the-service-0123456789"
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def refused(status: str, document: object) -> bytes:
    return whole(json.dumps(document).encode(), status=status)


def azure(request: Received) -> bytes | None:
    """The deployment is in the path, and each request names a version of the API; the key has a header of its own.

    https://learn.microsoft.com/azure/ai-services/openai/reference (Authentication, REST API versioning, Chat completions);
    the texts are from https://github.com/SciSharp/BotSharp/issues/386.
    """
    url = urlsplit(request.line.split(" ")[1])
    place = re.fullmatch(r"/openai/deployments/([A-Za-z0-9._%-]+)/(chat/completions|embeddings)", url.path)
    version = parse_qs(url.query).get("api-version", [])
    if place is None or len(version) != 1 or not re.fullmatch(r"20\d\d-\d\d-\d\d(-preview)?", version[0]):
        return refused("404 Not Found", {"error": {"code": "404", "message": "Resource not found"}})
    if request.headers.get("api-key") != KEY or "authorization" in request.headers:
        message = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key."
        return refused("401 Unauthorized", {"error": {"code": "401", "message": message}})
    if place[1] != "gpt-4o-mine":
        message = "The API deployment for this resource does not exist."
        return refused("404 Not Found", {"error": {"code": "DeploymentNotFound", "message": message}})
    return None


def vertex(request: Received) -> bytes | None:
    """The path names project and location, the model its publisher, and the credential is a token that lives for an hour.

    https://cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/auth-and-credentials;
    the text is from https://github.com/google-gemini/gemini-cli/issues/1463.
    """
    if not re.match(r"POST /v1(beta1)?/projects/[^/]+/locations/[^/]+/endpoints/openapi/chat/completions HTTP", request.line):
        return refused("404 Not Found", [{"error": {"code": 404, "status": "NOT_FOUND"}}])
    if not request.headers.get("authorization", "").startswith("Bearer ya29.fresh"):
        message = "API keys are not supported by this API. Expected OAuth2 access token."
        return refused("401 Unauthorized", [{"error": {"code": 401, "message": message, "status": "UNAUTHENTICATED"}}])
    if not re.fullmatch(r"[a-z]+/[a-z0-9.@-]+", json.loads(request.body)["model"]):
        return refused("400 Bad Request", [{"error": {"code": 400, "message": "Malformed publisher model", "status": ""}}])
    return None


def bedrock(request: Received) -> bytes | None:
    """OpenAI's API below /openai/v1, with a key of Bedrock's own, which may be one for some hours.

    https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html;
    the text is from https://github.com/ai4s-research/open-science/issues/53.
    """
    if not request.line.startswith("POST /openai/v1/chat/completions HTTP"):
        return refused("404 Not Found", {"Message": "Not found"})
    if not request.headers.get("authorization", "").startswith("Bearer bedrock-api-key-fresh"):
        message = "Authentication failed: Please make sure your API Key is valid."
        return refused("403 Forbidden", {"Message": message})
    return None


_ROUTING = {
    "order": list, "only": list, "ignore": list, "allow_fallbacks": bool, "require_parameters": bool, "data_collection": str,
    "zdr": bool, "quantizations": list, "sort": str, "max_price": dict,
}  # fmt: skip


def openrouter(request: Received) -> bytes | None:
    """`provider` is an object with these members alone. https://openrouter.ai/docs/features/provider-routing"""
    routing = json.loads(request.body).get("provider", {})
    if not isinstance(routing, dict) or any(not isinstance(value, _ROUTING.get(name, ())) for name, value in routing.items()):
        return refused("400 Bad Request", {"error": {"code": 400, "message": "provider: Invalid input"}})
    return None


async def status_of(running: Gateway, body: bytes = BODY, *, more: str = "", query: str = "") -> int:
    client = await running.client()
    client.post(body, path=f"/v1/chat/completions{query}", more=more)
    return (await client.answer()).status


AZURE = "query: {api-version: 2024-10-21}"


def at_azure(provider: Provider, *, more: str = AZURE, key: str = f"api_key: {KEY}, api_key_header: api-key") -> str:
    url = f"http://127.0.0.1:{provider.port}/openai/deployments/{{model}}"
    text = configuration(ProviderEntry(url, api_key=None, more=", ".join(filter(None, (more, key)))))
    return text.replace("real-0", "gpt-4o-mine")


async def test_an_azure_deployment_gets_its_path_its_version_and_its_key(tmp_path: Path) -> None:
    async with providers() as (provider,), gateway(at_azure(provider), tmp_path) as running:
        provider.judge = azure
        assert await status_of(running, more="authorization: Bearer the-callers-0123456789\r\napi-key: the-callers\r\n") == 200
        assert await status_of(running, query="?api-version=1999-01-01") == 200


@pytest.mark.parametrize(("more", "key", "status"), [
    ("", f"api_key: {KEY}, api_key_header: api-key", 404),
    (AZURE, f"api_key: {KEY}", 503),
    (AZURE, f"headers: {{api-key: {KEY}}}", 200),
])  # fmt: skip
async def test_what_azure_insists_on_comes_from_the_settings(tmp_path: Path, more: str, key: str, status: int) -> None:
    async with providers() as (provider,), gateway(at_azure(provider, more=more, key=key), tmp_path) as running:
        provider.judge = azure
        assert await status_of(running) == status


async def test_several_deployments_of_azure_are_sources_of_one_provider(tmp_path: Path) -> None:
    async with providers() as (provider,):
        text = at_azure(provider).replace(
            "pool: [", "policy: priority, pool: [{provider: p0, model: gone}, {provider: p0, model: gone-too}, "
        )
        async with gateway(text, tmp_path) as running:
            provider.judge = azure
            assert await status_of(running) == 200
            assert [one.line.split("/")[3] for one in provider.received] == ["gone", "gone-too", "gpt-4o-mine"]


SERVICES = {
    "vertex": (vertex, "/v1/projects/p/locations/global/endpoints/openapi", "google/gemini-2.5-flash", "ya29."),
    "bedrock": (bedrock, "/openai/v1", "openai.gpt-oss-120b-1:0", "bedrock-api-key-"),
}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_token_that_expires_is_replaced_by_what_the_command_prints_next(tmp_path: Path, service: str) -> None:
    judge, path, model, prefix = SERVICES[service]
    token = tmp_path / "token"
    token.write_text(f"{prefix}stale-{'t' * 1500}\n")
    async with providers() as (provider,):
        script = "import sys; print(open(sys.argv[1]).read())"
        more = f"api_key_command: ['{sys.executable}', -c, '{script}', '{token}'], api_key_refresh: 50m"
        entry = ProviderEntry(f"http://127.0.0.1:{provider.port}{path}", api_key=None, more=more)
        async with gateway(configuration(entry).replace("real-0", f"'{model}'"), tmp_path) as running:
            provider.judge = judge
            for _ in range(3):
                assert await status_of(running) == 503
            token.write_text(f"{prefix}fresh-{'t' * 1500}\n")
            await running.configuration.reload("a test")
            assert await status_of(running) == 200  # at once, although the stale token's failures had opened the circuit


@pytest.mark.parametrize(("body", "status"), [
    (BODY, 200),
    (BODY.replace(b'"messages"', b'"provider":{"sort":"price"},"messages"'), 200),
    (BODY.replace(b'"messages"', b'"provider":"the-callers-mistake","messages"'), 400),
])  # fmt: skip
async def test_openrouter_gets_its_routing_unless_the_caller_has_one(tmp_path: Path, body: bytes, status: int) -> None:
    more = "body: {provider: {order: [a], allow_fallbacks: false, data_collection: deny, max_price: {prompt: 1.5}}}"
    async with providers() as (provider,), gateway(configuration(ProviderEntry(provider.port, more=more)), tmp_path) as running:
        provider.judge = openrouter
        assert await status_of(running, body) == status
        routing = json.loads(provider.received[0].body)["provider"]
        given = json.loads(body).get("provider")
        assert routing == (given or {
            "order": ["a"], "allow_fallbacks": False, "data_collection": "deny", "max_price": {"prompt": 1.5},
        })  # fmt: skip
