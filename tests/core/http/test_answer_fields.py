"""Every header field that a provider is known to send is sorted: what is useful passes, what is the operator's stays behind."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.http.answer_fields import OWN_LIMITS, is_never_passed, matches, pass_problem, reaches_caller

PASSES = {
    "every server": (
        "content-type content-disposition content-language content-encoding date server vary etag expires age last-modified "
        "cache-control retry-after warning link deprecation sunset server-timing x-content-type-options"
    ),
    "Cloudflare, AWS, Google, Tencent in front": (
        "cf-ray cf-cache-status x-cache x-cache-hits cache-status x-amz-cf-id x-amzn-requestid x-amzn-trace-id "
        "x-cloud-trace-context eo-log-uuid traceparent tracestate"
    ),
    "OpenAI": "openai-processing-ms openai-version openai-model x-should-retry retry-after-ms",
    "Anthropic": "request-id x-should-retry x-envoy-upstream-service-time",
    "Azure": "apim-request-id x-ms-client-request-id x-ms-request-id x-ms-served-model retry-after-ms",
    "Gemini": "server-timing",
    "Mistral": "mistral-correlation-id x-kong-request-id x-kong-upstream-latency x-kong-proxy-latency",
    "Groq": "x-groq-region",
    "Together": "x-together-request-id",
    "Fireworks": "fireworks-server-processing-time fireworks-server-time-to-first-token fireworks-prefill-queue-duration",
    "DeepSeek": "x-ds-trace-id",
    "Moonshot": "msh-request-id msh-context-cache-id",
    "Cohere": "x-debug-trace-id x-api-warning",
    "xAI": "x-metrics-e2e-ms x-metrics-ttft-ms",
    "OpenRouter": "x-generation-id",
    "DashScope": "req-cost-time req-arrive-time resp-start-time",
    "SiliconFlow": "x-siliconcloud-trace-id",
    "text-generation-inference": (
        "x-compute-time x-total-time x-validation-time x-queue-time x-inference-time x-time-per-token"
    ),
    "LiteLLM": "x-litellm-call-id x-litellm-response-duration-ms x-litellm-overhead-duration-ms",
}  # fmt: skip
STAYS = {
    "hop-by-hop, framing, credentials": (
        "connection keep-alive proxy-connection te trailer transfer-encoding upgrade content-length set-cookie set-cookie2 "
        "www-authenticate proxy-authenticate authentication-info authorization x-api-key"
    ),
    "the gateway's own": "x-request-id x-kyma-model x-kyma-fallback access-control-allow-origin access-control-expose-headers",
    "proxies and browsers in front": (
        "x-accel-redirect x-accel-buffering x-accel-expires x-sendfile x-lighttpd-send-file x-lighttpd-send-tempfile "
        "x-reproxy-url surrogate-control surrogate-key cdn-cache-control cloudflare-cdn-cache-control clear-site-data alt-svc "
        "strict-transport-security report-to reporting-endpoints nel refresh content-security-policy expect-ct"
    ),
    "addresses": "location content-location via x-served-by x-backend-host x-upstream-host x-envoy-decorator-operation",
    "OpenAI": (
        "openai-organization openai-project x-ratelimit-limit-requests x-ratelimit-remaining-tokens x-ratelimit-reset-requests "
        "x-ratelimit-limit-tokens_usage_based"
    ),
    "Anthropic": (
        "anthropic-organization-id anthropic-ratelimit-requests-limit anthropic-ratelimit-tokens-reset "
        "anthropic-fast-output-tokens-remaining anthropic-priority-input-tokens-limit anthropic-ratelimit-unified-status"
    ),
    "Azure": (
        "x-ms-deployment-name x-ms-region azure-openai-deployment-utilization azureml-model-session azureml-model-group "
        "x-ms-rai-invoked"
    ),
    "Mistral": (
        "x-ratelimitbysize-limit-minute x-ratelimitbysize-remaining-month ratelimitbysize-query-cost "
        "x-ratelimit-tokens-query-cost"
    ),
    "Together": "x-tokenlimit-limit x-tokenlimit-remaining x-ratelimit-reset",
    "Moonshot": "msh-org-id msh-uid msh-gid msh-project-id",
    "Cohere": "x-trial-endpoint-call-remaining x-trial-endpoint-call-limit x-endpoint-monthly-call-limit",
    "Fireworks": "fireworks-deployment x-ratelimit-over-limit fireworks-backend-host x-ratelimit-limit-tokens-prompt",
    "others": "x-rate-limit-limit x-rate-limit-remaining rate-limit-reset ratelimit x-quota-used x-credits-left",
    "LiteLLM": (
        "x-litellm-key-spend x-litellm-model-api-base x-litellm-response-cost x-litellm-key-max-budget x-litellm-key-tpm-limit "
        "x-litellm-model-id x-litellm-team-id x-litellm-cache-key x-litellm-attempted-retries "
        "llm_provider-openai-organization llm_provider-x-ratelimit-limit-requests"
    ),
    "names with an underscore, whatever they would be with a hyphen": (
        "content_type cache_control retry_after request_id x_accel_redirect set_cookie content_length date_ _etag "
        "llm_provider-req-cost-time llm_provider-x-request-id"
    ),
    "nobody knows": "x-unheard-of x-internal-note p3p",
}  # fmt: skip


def names(table: dict[str, str]) -> list[bytes]:
    return sorted({name.encode() for row in table.values() for name in row.split()})


@pytest.mark.parametrize("name", names(PASSES))
def test_a_field_of_a_useful_kind_reaches_the_caller(name: bytes) -> None:
    assert reaches_caller(name)


@pytest.mark.parametrize("name", names(STAYS))
def test_a_field_of_the_operator_or_of_no_known_kind_stays_behind(name: bytes) -> None:
    assert not reaches_caller(name)


@pytest.mark.parametrize("useful", ["request-id", "processing-ms", "cache-status", "response-time", "retry-after"])
@pytest.mark.parametrize(
    "telling",
    [
        "ratelimit", "rate-limit", "ratelimitbysize", "tokenlimit", "limit", "remaining", "quota", "spend", "cost", "credits",
        "balance", "billing", "budget", "org", "organization", "organisation", "project", "account", "tenant", "workspace",
        "team", "user", "key", "apikey", "secret", "deployment", "api-base", "backend", "host", "node", "endpoint",
        "trial", "tier",
    ],
)  # fmt: skip
def test_a_word_about_the_operators_account_wins_over_a_useful_kind(telling: str, useful: str) -> None:
    for name in (f"x-{telling}-{useful}", f"{telling}-{useful}", f"vendor_x-{telling}-{useful}"):
        assert not reaches_caller(name.encode())


def test_no_name_that_is_known_to_be_useful_tells_of_the_account_but_a_time_that_is_called_a_cost() -> None:
    telling = [name for name in names(PASSES) if re.search(rb"cost|limit|org|key|account|remaining|quota", name)]
    assert telling == [b"req-cost-time"]


def test_pass_headers_adds_names_exactly_or_by_their_beginning() -> None:
    assert reaches_caller(b"x-unheard-of", (b"x-unheard-of",))
    assert reaches_caller(b"x-ratelimit-limit-requests", (b"x-ratelimit-*",))
    assert reaches_caller(b"location", (b"location",))
    assert not reaches_caller(b"x-unheard-of-more", (b"x-unheard-of",))
    assert not reaches_caller(b"y-unheard-of", (b"x-*",))


@given(
    st.sampled_from(names({"": STAYS["hop-by-hop, framing, credentials"], "own": STAYS["the gateway's own"]})), st.integers(1)
)
def test_pass_headers_can_not_add_framing_credentials_or_the_gateways_own(name: bytes, length: int) -> None:
    assert is_never_passed(name)
    assert not reaches_caller(name, (name, name[:length] + b"*"))
    assert pass_problem(name.decode().title()) is not None


def test_a_header_that_a_proxy_in_front_obeys_passes_only_by_its_exact_name() -> None:
    assert reaches_caller(b"x-accel-buffering", (b"x-accel-buffering",))
    assert not reaches_caller(b"x-accel-redirect", (b"x-*", b"x-accel-*"))


def test_a_name_with_an_underscore_passes_only_where_the_configuration_spells_the_underscore() -> None:
    assert reaches_caller(b"x_region", (b"x_region",))
    assert reaches_caller(b"llm_provider-x-region", (b"llm_provider-*",))
    assert not reaches_caller(b"llm_provider-x_region", (b"llm_provider-*",))
    assert not reaches_caller(b"x_region", (b"x-region", b"x*"))
    assert not reaches_caller(b"x_accel_redirect", (b"x_accel_*",))
    for name in (b"set_cookie", b"content_length", b"x_kyma_model", b"transfer_encoding", b"x_api_key"):
        assert not reaches_caller(name, (name,))
        assert pass_problem(name.decode()) is not None


@pytest.mark.parametrize("pattern", ["*", "", "x y", "x*y", "**", "x-kyma-*", "Set-Cookie*", "connection-*", "Ünïcode", "a:b"])
def test_what_can_never_pass_or_is_no_name_is_a_problem_of_the_configuration(pattern: str) -> None:
    assert pass_problem(pattern) is not None


@pytest.mark.parametrize("pattern", ["x-*", "X-RateLimit-*", "openai-organization", "content-*", "llm_provider-*"])
def test_any_other_name_is_none(pattern: str) -> None:
    assert pass_problem(pattern) is None


def test_the_gateways_own_limits_are_matched_by_what_would_double_them() -> None:
    assert all(re.fullmatch(rb"x-ratelimit-(limit|remaining|reset)-(requests|tokens)", name) for name in OWN_LIMITS)
    assert len(OWN_LIMITS) == 6
    assert matches(b"x-*", OWN_LIMITS[0])
    assert not matches(b"x-tokenlimit-*", OWN_LIMITS[0])
