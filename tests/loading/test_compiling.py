"""A document is compiled into a snapshot, and every mistake of meaning is found at once, with its path and its line."""

from __future__ import annotations

import pytest

from kyma_proxy.config.addresses import parse_address
from kyma_proxy.config.problems import ConfigError, Problem
from kyma_proxy.config.snapshot import TcpAddress, UnixAddress
from kyma_proxy.loading.compiling import load
from tests.factories import SEVERAL as GOOD
from tests.factories import SEVERAL_KEYS as KEYS

# GOOD is ten lines that have no problem. A case appends lines (the first is line 11) or changes one of them.
NO_URL = (
    "a base URL is http:// or https://, a host and a path, with no user, query or fragment, such as https://api.openai.com/v1"
)
TIER_ORDER = "tiers are numbered 0, 1, 2, …, and min_purchased begins at 0 and rises"
NO_ADDRESS = "an address is written host:port, [ipv6]:port or unix:/path.sock"
NO_HEADER = "is not a valid header: printable ASCII only, and no space in the name"

NEVER_PASSED = "is never passed to callers: it frames the answer, is the gateway's own, or carries a credential"


def problems(text: str, environment: dict[str, str] = KEYS) -> list[Problem]:
    with pytest.raises(ConfigError) as refused:
        load(text, environment)
    return refused.value.problems


def provider(members: str) -> str:
    """The good text with members added to its first provider."""
    return GOOD.replace("dialect: openai,", f"dialect: openai, {members},")


def tier_line(tier: int, min_purchased: float) -> str:
    return f"  - {{tier: {tier}, min_purchased: {min_purchased}, rpm: 1, per_model_rpm: 1, tpm: 1, max_request_tokens: 1}}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            GOOD.replace("name: two", "name: one").replace("provider: two", "provider: one"),
            Problem("providers[1].name", 3, "one is there twice"),
        ),
        (GOOD.replace("id: large", "id: small"), Problem("models[1].id", 7, "small is there twice")),
        (GOOD.replace("https://one.example:8443/v1/", "ftp://one.example"), Problem("providers[0].base_url", 2, NO_URL)),
        (GOOD.replace("https://one", "https://me:word@one"), Problem("providers[0].base_url", 2, NO_URL)),
        (GOOD.replace("v1/", "v1?a=b"), Problem("providers[0].base_url", 2, NO_URL)),
        (GOOD.replace("v1/", "v 1"), Problem("providers[0].base_url", 2, NO_URL)),
        (GOOD.replace("8443", "84430"), Problem("providers[0].base_url", 2, NO_URL)),
        (GOOD.replace("one.example", "[::1"), Problem("providers[0].base_url", 2, NO_URL)),
        (
            GOOD.replace("two.example,", "two.example, ca_file: /ca.pem,"),
            Problem("providers[1].ca_file", 3, "has no effect, as base_url is not https"),
        ),
        (provider('headers: {"a b": x}'), Problem("providers[0].headers.a b", 2, NO_HEADER)),
        (provider('headers: {x-team: "a\\nb"}'), Problem("providers[0].headers.x-team", 2, NO_HEADER)),
        (provider("headers: {x-team: blå}"), Problem("providers[0].headers.x-team", 2, NO_HEADER)),
        (provider("headers: {Host: x}"), Problem("providers[0].headers.Host", 2, "is set by the gateway itself; leave it out")),
        *(
            (provider(f"pass_headers: [x-a, '{name}']"), Problem("providers[0].pass_headers[1]", 2, f"{name} {NEVER_PASSED}"))
            for name in ("Set-Cookie", "content-length", "connection", "X-Kyma-Model", "x-request-id", "www-authenticate")
        ),
        (
            provider("pass_headers: ['*']"),
            Problem("providers[0].pass_headers[0]", 2, "* is not the name of a header, with or without a * at its end"),
        ),
        (
            GOOD.replace("model: small-1", "model: small-1, pass_headers: [Set-Cookie]"),
            Problem("models[0].pool[0].pass_headers[0]", 6, f"Set-Cookie {NEVER_PASSED}"),
        ),
        (
            GOOD.replace("${ONE_KEY}", "a\\nb"),
            Problem("providers[0].api_key", 2, "has characters that no header can carry; is there a line break in it?"),
        ),
        (
            GOOD.replace("provider: two", "provider: tow"),
            Problem("models[1].pool[1].provider", 8, "there is no provider tow; did you mean two?"),
        ),
        (
            GOOD.replace("    price: {input", "    reserve: [{provider: zzzz, model: m}]\n    price: {input"),
            Problem("models[1].reserve[0].provider", 9, "there is no provider zzzz"),
        ),
        (
            GOOD.replace("small-1", "small-1, weight: 0"),
            Problem("models[0].pool", 6, "every weight is 0, so no source would ever be chosen"),
        ),
        (
            GOOD.replace("id: large", "id: large\n    created: 2026-02-30"),
            Problem("models[1].created", 8, "is not a date such as 2026-04-01"),
        ),
        (
            GOOD.replace("provider: two", "provider: art"),
            Problem("models[1]", 7, "provider art speaks fal_queue; this model needs openai or anthropic"),
        ),
        (
            GOOD.replace("provider: art", "provider: two"),
            Problem("models[2]", 10, "provider two speaks anthropic; this model needs openai_images or fal_queue"),
        ),
        (
            GOOD + "aliases: {small: large}\n",
            Problem("aliases.small", 11, "is also the id of a model; an alias needs a name of its own"),
        ),
        (GOOD + "aliases: {fast: smal}\n", Problem("aliases.fast", 11, "there is no model smal; did you mean small?")),
        (GOOD + "aliases: {a: small, b: a}\n", Problem("aliases.b", 11, "there is no model a")),
        (GOOD + "fallbacks: {lrge: [small]}\n", Problem("fallbacks.lrge", 11, "there is no model lrge; did you mean large?")),
        (GOOD + "fallbacks: {small: [small]}\n", Problem("fallbacks.small[0]", 11, "a model can't be its own substitute")),
        (GOOD + "fallbacks:\n  small:\n    - zz\n", Problem("fallbacks.small[0]", 13, "there is no model zz")),
        (GOOD + "fallbacks: {small: [large, large]}\n", Problem("fallbacks.small[1]", 11, "large is there twice")),
        (
            GOOD + "fallbacks: {small: [picture]}\n",
            Problem("fallbacks.small[0]", 11, "a text model and an image model can't be substitutes for each other"),
        ),
        (
            GOOD + "accounts: {database: 'postgres://a'}\n",
            Problem("accounts.database", 11, "must be sqlite:FILE, such as sqlite:/var/lib/kyma/kyma.db"),
        ),
        (
            GOOD + "admin:\n  token: too-short\n",
            Problem(
                "admin.token", 12, "is too short to be a secret; use 16 characters or more, e.g. of `openssl rand -hex 24`"
            ),
        ),
        (GOOD + "admin: {listen: nowhere}\n", Problem("admin.listen", 11, f"{NO_ADDRESS}; the port is missing")),
        (GOOD + "listen: 8080\n", Problem("listen", 11, f"{NO_ADDRESS}; write 127.0.0.1:8080, or :8080 for all addresses")),
        (GOOD + "tiers: []\n", Problem("tiers", 11, "the list must not be empty; leave it out for the shipped tiers")),
        (GOOD + "tiers:\n" + tier_line(0, 0) + tier_line(2, 5), Problem("tiers[1]", 13, TIER_ORDER)),
        (GOOD + "tiers:\n" + tier_line(0, 0) + tier_line(1, 5) + tier_line(2, 5), Problem("tiers[2]", 14, TIER_ORDER)),
        (GOOD + "tiers:\n" + tier_line(0, 1), Problem("tiers[0]", 12, TIER_ORDER)),
        (
            GOOD + "cors: {origins: [https://a.example/]}\n",
            Problem("cors.origins[0]", 11, "a browser never writes an origin so, but https://a.example"),
        ),
        (
            GOOD + "hosts: [gw.internal, 'gw.internal:8080']\n",
            Problem(
                "hosts[1]",
                11,
                "is not a host's name or address; write it without a scheme and a port, such as gateway.internal",
            ),
        ),
    ],
    ids=lambda case: f"{case.path}: {case.message[:30]}" if isinstance(case, Problem) else "",
)
def test_a_mistake_of_meaning_is_reported_with_its_path_and_line(text: str, problem: Problem) -> None:
    assert problems(text) == [problem]


def test_all_problems_of_shape_and_meaning_are_reported_in_the_files_order() -> None:
    text = (
        provider("headers: {Host: x}").replace("provider: two", "provider: tow")
        + "drain: 5\nlisten: x\nfallbacks: {small: [small]}\n"
    )
    assert [(problem.line, problem.path) for problem in problems(text)] == [
        (2, "providers[0].headers.Host"),
        (8, "models[1].pool[1].provider"),
        (11, "drain"),
        (12, "listen"),
        (13, "fallbacks.small[0]"),
    ]


def test_a_name_of_an_entry_with_a_problem_is_no_second_problem() -> None:
    assert [problem.path for problem in problems(GOOD.replace("dialect: anthropic", "dialect: x"))] == ["providers[1].dialect"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("localhost:0", TcpAddress("localhost", 0)),
        (":8080", TcpAddress("0.0.0.0", 8080)),
        ("unix:/run/kyma.sock", UnixAddress("/run/kyma.sock")),
    ],
)
def test_an_address_is_parsed_and_formatted_back(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "8080", "host", "host:", "host:x", "host:65536", "host:-1", "::1:80", "unix:", "unix:kyma.sock", "unix:/" + "x" * 107],
)
def test_a_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is written"):
        parse_address(text)


@pytest.mark.parametrize("text", ["[::1:80", "[::1]x:80", "[host]:80", "two words:80", "unix:/a\0b"])
def test_an_address_that_no_listener_can_use_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is written"):
        parse_address(text)


@pytest.mark.parametrize("alias", ["two words", "caf\u00e9", '"a\\r\\nb"', "x" * 129])
def test_an_alias_that_no_header_can_carry_is_a_problem(alias: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(GOOD + f"aliases: {{{alias}: small}}\n", {})
    assert "is not a valid name" in caught.value.problems[0].message


def test_a_source_passes_the_headers_that_it_and_its_provider_name() -> None:
    text = provider("pass_headers: [X-Team-*, openai-organization]").replace(
        "small-1", "small-1, pass_headers: [x-b, X-TEAM-*]"
    )
    models = load(text, KEYS).models
    assert models["small"].pool[0].pass_headers == (b"openai-organization", b"x-b", b"x-team-*")
    assert [source.pass_headers for source in models["large"].pool] == [(b"openai-organization", b"x-team-*"), ()]


@pytest.mark.parametrize("name", ["x-*", "X-RateLimit-*", "x-ratelimit-limit-tokens"])
def test_a_providers_limits_can_not_pass_where_the_gateway_tells_its_own(name: str) -> None:
    text = provider(f"pass_headers: ['{name}']")
    assert load(text, KEYS).models["small"].pool[0].pass_headers == (name.lower().encode(),)
    (problem,) = problems(text + "accounts: {required: true}\n")
    assert (problem.path, problem.line) == ("providers[0].pass_headers[0]", 2)
    assert "which the gateway sets itself" in problem.message


def test_the_credentials_of_a_provider_are_known_by_their_values() -> None:
    def secrets(members: str, key: str) -> tuple[bytes, ...]:
        return load(provider(members), {**KEYS, "ONE_KEY": key}).providers["one"].secrets

    assert secrets("headers: {X-Team: a-long-name-of-a-team}", "sk-0123456789") == (b"sk-0123456789",)
    assert secrets("headers: {X-Auth: 'Basic dXNlcjpwYXNz'}", "sk-0123456789") == (b"dXNlcjpwYXNz", b"sk-0123456789")
    assert secrets("headers: {}", "EMPTY") == ()


def test_a_source_has_the_endpoints_of_its_dialect_unless_it_or_its_provider_says_otherwise() -> None:
    text = """\
providers:
  - {name: a, base_url: http://a.example, dialect: openai}
  - {name: b, base_url: http://b.example, dialect: openai, endpoints: [chat, embeddings]}
models:
  - id: m
    policy: priority
    pool: [{provider: a, model: all}, {provider: b, model: listed}, {provider: b, model: own, endpoints: [responses]}]
"""
    routes = load(text, {}).routes
    assert {key: [one.model for one in routes[key]["m"].pool] for key in routes} == {
        "chat": ["all", "listed"], "completions": ["all"], "responses": ["all", "listed", "own"],
        "embeddings": ["all", "listed"], "messages": ["all", "listed"], "count_tokens": [], "images": [],
        "transcriptions": ["all"], "translations": ["all"], "speech": ["all"], "moderations": ["all"], "rerank": ["all"],
    }  # fmt: skip
    assert {one.endpoint for one in routes["messages"]["m"].pool} == {"chat"}
    assert [one.endpoint for one in routes["responses"]["m"].pool] == ["responses", "chat", "responses"]
    assert [None if one.translated is None else one.translated.endpoint for one in routes["responses"]["m"].pool] == [
        "chat",
        None,
        None,
    ]
    assert routes["messages"]["m"].pool[0].breaker_key == routes["chat"]["m"].pool[0].breaker_key


OPENAI_ENDPOINTS = "chat, completions, responses, embeddings, transcriptions, translations, speech, moderations, rerank"


@pytest.mark.parametrize(("dialect", "written", "known"), [
    ("openai", "messages", OPENAI_ENDPOINTS),
    ("openai", "chats", OPENAI_ENDPOINTS),
    ("anthropic", "chat", "messages, count_tokens"),
])  # fmt: skip
def test_an_endpoint_that_the_dialect_does_not_have_is_a_problem(dialect: str, written: str, known: str) -> None:
    text = f"""\
providers:
  - name: a
    base_url: http://a.example
    dialect: {dialect}
    endpoints:
      - {known.split(", ", maxsplit=1)[0]}
      - {written}
models:
  - id: m
    pool:
      - provider: a
        model: m1
        endpoints: [{written}]
"""
    message = f"{dialect} has no endpoint {written}; use some of {known}"
    assert problems(text, {}) == [
        Problem("providers[0].endpoints[1]", 7, message), Problem("models[0].pool[0].endpoints[0]", 13, message),
    ]  # fmt: skip
