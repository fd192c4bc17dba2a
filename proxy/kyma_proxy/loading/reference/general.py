"""The keys of the whole file: listeners, log, accounts, defaults, limits and tiers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kyma_proxy.loading import document as doc
from kyma_proxy.loading.reference.key import EACH_KEY, NEW_CONNECTIONS, REPLACE, RESTART, Key

_DOCUMENT: Final = {
    "listen": Key(
        "The address of the public listener: `host:port`, `[ipv6]:port`, `:port` for all addresses of the machine, or a unix "
        "socket, `unix:/path.sock`, whose file may get a mode and a group.",
        "unix:/run/kyma.sock?mode=0660&group=app",
        RESTART,
    ),
    "tls": Key(
        "TLS for the public listener. Without it the listener speaks plain HTTP.",
        "{certificate: /etc/kyma/fullchain.pem, key: /etc/kyma/privkey.pem}",
        REPLACE,
    ),
    "admin": Key(
        "The admin listener: health, metrics and the admin API. `null` switches it off.",
        "null",
        REPLACE,
        default="a section with its defaults",
    ),
    "access_log": Key(
        'The access log, one line per request and never its content: `"-"` is standard output (aligned for people if that is a '
        "terminal, else JSON), `pretty` is for people anywhere, a path is a file of JSON lines, and `null` is off.",
        "/var/log/kyma/access.log",
        REPLACE,
    ),
    "workers": Key(
        "The number of processes that serve, `auto` for one a processor. With 1 the gateway is one plain process. With more a "
        "supervisor starts them, watches them and serves what is not relayed; accounts need 1 for now.",
        "4",
        RESTART,
    ),
    "usage": Key(
        "`ask`: providers are asked for the token counts of every stream, for the log and the metrics; callers see nothing of "
        "it. `as_reported`: streams are logged with what their caller has asked for. Metered streams are always asked.",
        "ask",
    ),
    "shutdown_delay": Key(
        "After the signal that ends the gateway: how long connections are still accepted while readiness says no, so that a "
        "load balancer has time to look elsewhere.",
        "5s",
    ),
    "drain": Key(
        "After `shutdown_delay`: how long running answers may go on before they are ended with an error that their callers "
        "see. Kubernetes kills 30s after its signal, so both together should be shorter.",
        "60s",
    ),
    "cors": Key(
        "The web pages that may call.", '{origins: ["https://app.example.com"]}', default="a section with its defaults"
    ),
    "hosts": Key(
        "Names of the gateway besides those of its addresses, without a port. A loopback listener without accounts, and the "
        "admin listener, refuse requests to any other name.",
        "[kyma.internal]",
    ),
    "accounts": Key(
        "Accounts with keys, limits and prepaid credits.",
        "{signup: {per_hour: 2}}",
        EACH_KEY,
        default="a section with its defaults",
    ),
    "activity": Key(
        "The requests of accounts that are kept in their database to be looked at, as the access log has them: metadata, and "
        "never content. `null` keeps none.",
        "{days: 7}",
        default="`null`: none are kept",
    ),
    "dashboard": Key(
        "Pages in the browser for account holders: the models, and behind a sign-in their keys, use and credits. They need "
        "accounts.",
        '{enabled: true, public_url: "https://llm.example.com"}',
        EACH_KEY,
        default="a section with its defaults",
    ),
    "defaults": Key(
        "Values that apply unless a request, a model, a provider or a source says otherwise.",
        "{max_tokens: 8192}",
        default="a section with its defaults",
    ),
    "limits": Key(
        "Limits of callers' connections and requests. They say nothing of providers.",
        "{max_body: 64MiB}",
        EACH_KEY,
        default="a section with its defaults",
    ),
    "tiers": Key(
        "The tiers of accounts, the lowest first. They are numbered 0, 1, 2, …, and `min_purchased` begins at 0 and rises.",
        "[{tier: 0, min_purchased: 0, rpm: 60, per_model_rpm: 60, tpm: 1000000, max_request_tokens: 200000}]",
        default="the built-in tiers, which `GET /v1/limits/tiers` shows",
    ),
    "providers": Key(
        "The providers that are called. A provider without its key is off, and the others answer.",
        '[{name: openai, base_url: https://api.openai.com/v1, dialect: openai, api_key: "${OPENAI_API_KEY}"}]',
        EACH_KEY,
    ),
    "models": Key(
        "The models that callers may ask for, each with its sources.",
        "[{id: gpt-4o, provider: openai}]",
    ),
    "fallbacks": Key(
        "For a model, or for each model of a pattern: the models that answer in its place if all of its own sources fail.",
        "{gpt-4o: [small]}",
    ),
    "aliases": Key("Other names for models.", "{fast: gpt-4o}"),
}

_ADMIN: Final = {
    "listen": Key(
        "The address of the admin listener, written like `listen`. It speaks plain HTTP; keep it private.",
        "unix:/run/kyma-admin.sock?mode=0600",
        REPLACE,
    ),
    "token": Key(
        "The token of the admin API (`Authorization: Bearer …`), 16 characters or more. Without it the API is off; health and "
        "metrics need none.",
        '"${KYMA_ADMIN_TOKEN}"',
        default="none: the admin API is off",
    ),
}

_TLS: Final = {
    "certificate": Key(
        "The path of the certificate and its chain, in PEM. A renewed file is taken at a reload and within ten seconds.",
        "/etc/kyma/fullchain.pem",
        NEW_CONNECTIONS,
    ),
    "key": Key(
        "The path of the certificate's key, in PEM, not encrypted. It is read again together with the certificate.",
        "/etc/kyma/privkey.pem",
        NEW_CONNECTIONS,
    ),
}

_CORS: Final = {
    "origins": Key(
        'The origins of web pages that may call and read answers: exact, `"*"`, with any port (`"http://localhost:*"`), or '
        'all of a scheme (`"app://*"`).',
        '["https://app.example.com", "http://localhost:*"]',
        default="without accounts, pages of this machine and applications made of web pages; with accounts, none",
    ),
}

_ACCOUNTS: Final = {
    "required": Key(
        "`true`: callers need a key, and pay from prepaid credits. `false`: whoever reaches the listener may use the gateway.",
        "true",
        RESTART,
    ),
    "database": Key(
        "The database of the accounts: `sqlite:` and a file, relative to the directory in which the gateway is started.",
        "sqlite:/var/lib/kyma/kyma.db",
        RESTART,
    ),
    "signup": Key("Sign-up by anybody, at `POST /v1/auth/register`.", "{enabled: true}", default="a section with its defaults"),
    "top_up": Key("The page that sells credits, for the text of a 402.", "https://example.com/billing", default="none"),
    "hold_tokens": Key(
        "The most tokens of output that are held for one answer, if the balance is ten times what the request may cost.",
        "16384",
    ),
}

_DASHBOARD: Final = {
    "enabled": Key("`true`: the pages are served at the public listener. They need `public_url`.", "true", RESTART),
    "public_url": Key(
        "The address by which browsers find the gateway, without a path; https, unless its host is this machine.",
        "https://llm.example.com",
        RESTART,
        default="none",
    ),
}

_SIGNUP: Final = {
    "enabled": Key("`true`: anybody may sign up. It has no effect while `accounts.required` is false.", "true"),
    "credits": Key("The credits of a new account.", "1.50", default="0.50"),
    "per_hour": Key("The sign-ups in an hour from one IP address.", "2"),
}

_ACTIVITY: Final = {
    "days": Key("The days for which they are kept.", "7"),
    "rows": Key("The most that are kept, of all accounts together; the oldest are deleted first.", "1000000"),
}

_DEFAULTS: Final = {
    "max_tokens": Key(
        "Inserted as `max_tokens` into requests that have none; `null` inserts nothing. It is never a cap.",
        "8192",
    ),
    "policy": Key(
        "The order in which a pool's sources are tried: `weighted` by chance, `priority` in the file's order, `fastest` by "
        "the time to the first byte.",
        "priority",
    ),
    "hedge_after": Key(
        "Hedging: if there is no first byte by then, the next source is asked too, and the faster one wins; both may charge "
        "you. `auto` is the time in which the source usually answers.",
        "800ms",
        default="`null`: off",
    ),
    "hold": Key(
        "How long an answer that says nothing yet (comments, pings) is held, so that another source can still answer. `0` "
        "passes a stream's first piece at once.",
        "500ms",
    ),
    "probe_after": Key(
        "Health checks: a source without a request for so long gets one for one token, which costs money. 1s or more.",
        "10m",
        default="`null`: off",
    ),
    "timeouts": Key(
        "Timeouts of providers, unless a provider or a source has others.",
        "{first_byte: 2m}",
        default="a section with its defaults",
    ),
}

_OF_THE_LEVEL_ABOVE: Final = "that of the level above"
_TIMEOUTS: Final = {
    "connect": Key(
        "For a connection to the provider, with TLS. `null` is off, here and below.",
        "5s",
        default=f"{_OF_THE_LEVEL_ABOVE}; 2s in `defaults`",
    ),
    "first_byte": Key(
        "From the request to the answer's first byte. An answer that is not streamed has its first byte when it is complete.",
        "2m",
        default=f"{_OF_THE_LEVEL_ABOVE}; 60s in `defaults`",
    ),
    "idle": Key("Between two pieces of an answer.", "90s", default=f"{_OF_THE_LEVEL_ABOVE}; 60s in `defaults`"),
    "total": Key("For the whole answer.", "10m", default=f"{_OF_THE_LEVEL_ABOVE}; off in `defaults`"),
}

_LIMITS: Final = {
    "max_body": Key("The largest body of a request.", "64MiB"),
    "max_head": Key("The largest head of a request.", "128KiB"),
    "max_buffered": Key(
        "The bodies of all requests together that are in memory; more are refused with a 503 for the moment.",
        "2GiB",
        default="`null`: a quarter of the memory",
    ),
    "max_connections": Key("The most connections of callers at once; more are refused.", "20000", NEW_CONNECTIONS),
    "min_body_rate": Key("The bytes a second that a body must bring, over a window of `body_timeout`.", "1KiB"),
    "head_timeout": Key("For the head of a request, from its first byte or the connection's beginning.", "5s"),
    "body_timeout": Key("Between two pieces of a request's body.", "10s"),
    "keep_alive": Key("For an idle connection of a caller, from its last answer.", "5m"),
    "write_timeout": Key("For a caller that does not take its answer.", "2m"),
}

_TIER: Final = {
    "tier": Key("The number of the tier; the lowest is 0.", "1"),
    "name": Key("A name for people.", "Free", default="`Tier` and its number"),
    "min_purchased": Key("The purchases of an account with which it has the tier; 0 for the lowest.", "10"),
    "rpm": Key("Requests in any 60 seconds.", "90"),
    "per_model_rpm": Key("Requests in any 60 seconds for one model.", "50"),
    "tpm": Key("Tokens in any 60 seconds.", "400000"),
    "max_request_tokens": Key("Tokens of one request: the prompt and the answer.", "100000"),
    "image_concurrent": Key("Image jobs at once.", "3"),
    "image_queue": Key("Image jobs that wait.", "9"),
}

GENERAL: Final[Mapping[type, Mapping[str, Key]]] = MappingProxyType({
    doc.Document: _DOCUMENT, doc.Admin: _ADMIN, doc.Tls: _TLS, doc.Cors: _CORS, doc.Accounts: _ACCOUNTS,
    doc.Dashboard: _DASHBOARD,
    doc.Signup: _SIGNUP, doc.Activity: _ACTIVITY, doc.Defaults: _DEFAULTS, doc.Timeouts: _TIMEOUTS, doc.Limits: _LIMITS,
    doc.Tier: _TIER,
})  # fmt: skip
