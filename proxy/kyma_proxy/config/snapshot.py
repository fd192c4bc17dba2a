"""Defines the configuration as the program uses it: immutable, with names resolved and bytes prepared.

A request takes one snapshot when it arrives and keeps it to its end. Live state (connections, counters) is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from kyma_proxy.config.activity_bounds import ActivityBounds
from kyma_proxy.config.image_rules import USUAL_RULES, ImageMembers, ImageRules
from kyma_proxy.config.origin import Origin
from kyma_proxy.config.problems import Problem
from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.config.supports import UNSPECIFIED, Supports
from kyma_proxy.config.units import Secret
from kyma_proxy.config.variant_price import VariantPrice

NANO = 10**9
"""Nano-dollars in a dollar. Money is an integer of nano-dollars."""

LOOPBACK_ORIGINS = "loopback"
"""Stands for all origins of this machine: http or https, `localhost`, a name under it or a loopback address, and any port."""
DEFAULT_ORIGINS = frozenset({LOOPBACK_ORIGINS, "app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"})
"""The value of `cors_origins` if the file has none: pages of this machine, and applications that are made of a web page."""


class TcpAddress(NamedTuple):
    """A listener's address: a host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixAddress(NamedTuple):
    """A listener's address: the path of a unix socket, and the mode and the group (name or number) that its file gets."""

    path: str
    mode: int | None = None
    group: str | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


class Part:
    """A part of a snapshot. Its fields are read by every request: compiled, each is a place in memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of: a frozen object can't be filled later."""
        return _part, (type(self), {one.name: getattr(self, one.name) for one in fields(self)})  # type: ignore[arg-type]


def _part(kind: Any, members: dict[str, Any]) -> Any:
    return kind(**members)


@dataclass(frozen=True)
class Timeouts(Part):
    """Seconds; None is off."""

    connect: float | None = 2.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0
    total: float | None = None


@dataclass(frozen=True)
class ErrorRule(Part):
    """An error of a provider that is the operator's trouble: each member that is not None must fit.

    `code` is one of the codes, types or reasons in its body; its message begins with `message`, in lower case. It is taken for
    an answer with the status `means`.
    """

    status: int | None = None
    code: str | None = None
    message: str | None = None
    means: int = 403


@dataclass(frozen=True, kw_only=True)
class Provider(Part):
    """A base URL, a dialect and a credential. `off` is the reason why it can't be used; None if it can.

    A source that sets headers, a query or a proxy of its own has a provider of its own, of the same name; so has each key.

    `header_lines` begin every request to it and include the credential. `own_names` are the names of the headers that it sets
    itself, in lower case; a caller's headers do not override them. `secrets` are the credentials among their values, without
    their scheme; no answer that quotes one may pass.
    """

    name: str
    dialect: str
    origin: Origin
    base_path: bytes
    """The beginning of every request's target: a path, or a URL if a proxy is to read it."""
    query: bytes
    """Parameters of every request, without the question mark."""
    targets: Mapping[bytes, bytes]
    """The whole target of a request, by the path of its endpoint."""
    header_lines: bytes
    own_names: frozenset[bytes]
    own_and_foreign_names: frozenset[bytes]
    """`own_names`, and in lower case the header fields that only providers of other dialects understand."""
    default_fields: tuple[tuple[bytes, bytes], ...]
    """Request header fields that it requires and does not set itself, sent if the caller does not set them."""
    off: str | None
    warm_connections: int
    keep_alive: float
    secrets: tuple[bytes, ...]
    shortest_secret: int
    """The length in bytes of the shortest of `secrets`; without any, more than any header's value has."""
    keys: int = 1
    """The number of keys that take turns."""

    def __repr__(self) -> str:
        """The name alone: `header_lines` hold the credential."""
        return f"Provider({self.name!r})"


@dataclass(frozen=True, kw_only=True)
class Source(Part):
    """One provider's deployment of a model, and the endpoints that it has; `main_endpoint` is that of its dialect.

    In a route it also has the `endpoint` at which it is asked, of its own dialect; its circuit breaker there is found by
    `breaker_key`. `image` is None unless the provider makes images.

    With several keys it has the first of them, and `other_keys` are the same source with the others: each has a circuit
    breaker of its own. `siblings` are the keys (`key`) of the same source with other credentials; `key_number` counts from 1.
    """

    key: str
    endpoints: frozenset[str]
    main_endpoint: str
    endpoint: str = ""
    breaker_key: str = ""
    provider: Provider
    model: str
    model_json: bytes
    weight: float
    timeouts: Timeouts
    stream_usage: bool
    max_tokens_field: str | None
    reasoning_field: str | None
    """The member of a message that carries its earlier reasoning back to the source; None if the source refuses it."""
    supports: Supports = UNSPECIFIED
    supports_by_model: tuple[tuple[str, Supports], ...] = ()
    """Of a pattern's source: what it takes for the models whose names fit, the longest pattern first; for others `supports`."""
    reasoning_parser: str | None = None
    """The name of the tags between which it writes its reasoning in the text; None if it writes none there."""
    calls_need: str | None = None
    """What it refuses a call of an earlier turn without: `reasoning` or `thought_signature`."""
    image: ImageMembers | None = None
    move_on: tuple[ErrorRule, ...] = ()
    """Errors that lead to the next source, besides those that every provider of the dialect may send."""
    pass_headers: tuple[bytes, ...] = ()
    """Names of answers' header fields that pass to callers beyond the usual ones, in lower case; `*` at the end is any rest."""
    body: tuple[tuple[str, bytes], ...] = ()
    """Members that are added to a request which does not have them: the name, and the member's text with a comma after it."""
    other_keys: tuple[Source, ...] = ()
    siblings: frozenset[str] = frozenset()
    key_number: int = 1
    translated: Source | None = None
    """In a route: the same source at another of its endpoints, asked in translation if it lacks this one; else None."""

    @property
    def with_keys(self) -> tuple[Source, ...]:
        """The source with each of its keys."""
        return (self, *self.other_keys)


@dataclass(frozen=True)
class Price(Part):
    """Nano-dollars per million tokens, per image or per search; or per minute of sound, per million characters or per request.

    `cached_write` and `cached_write_1h` are for input that a provider keeps for five minutes and for an hour. `priority` and
    `flex` are thousandths of the prices of tokens, for requests of these service tiers. `included` names the members and the
    types of tools whose use costs metered callers nothing beyond its tokens.
    """

    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    image: int | None = None
    cached_write: int | None = None
    cached_write_1h: int | None = None
    per_search: int | None = None
    priority: int | None = None
    flex: int | None = None
    included: tuple[str, ...] = ()
    by: tuple[VariantPrice, ...] = ()
    """The prices of variants of its images."""
    may_write_cache: bool = False
    """True if a source of the model charges for writing its cache, so that a hold must cover it."""
    per_minute: int | None = None
    per_million_characters: int | None = None
    per_request: int | None = None


@dataclass(frozen=True, kw_only=True)
class Model(Part):
    """A model of the catalogue, and its sources."""

    id: str
    counted_as: str
    """The id under which its requests are counted: its own; of a model that only a pattern knows, the pattern's."""
    name: str
    owned_by: str
    created: int
    context_window: int | None
    max_output_tokens: int | None
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    supports_tools: bool
    supports_caching: bool
    release_stage: str
    price: Price
    policy: str
    hedge_after: float | None
    """Seconds without a first byte after which the next source is asked too; AUTO is the source's own 95th percentile."""
    pool: tuple[Source, ...]
    reserve: tuple[Source, ...]
    image: ImageRules = USUAL_RULES

    @property
    def is_image(self) -> bool:
        """True if this model makes images, as jobs."""
        return "image" in self.output_modalities and "text" not in self.output_modalities


@dataclass(frozen=True, kw_only=True)
class Route(Part):
    """The usable sources of a model for callers of one endpoint, and the routes of its substitutes.

    `endpoint` is the callers'. `is_mixed`: some sources are asked elsewhere and translated; those that have it are tried first.
    """

    model: Model
    pool: tuple[Source, ...]
    reserve: tuple[Source, ...]
    substitutes: tuple[Route, ...] = ()
    endpoint: str = ""
    is_mixed: bool = False

    @property
    def is_empty(self) -> bool:
        """True if there is no source, not even of a substitute."""
        return not (self.pool or self.reserve or any(one.pool or one.reserve for one in self.substitutes))


@dataclass(frozen=True, kw_only=True)
class Pattern(Part):
    """All models whose ids begin with `prefix`: they are asked of the sources of `model`.

    In the name of a source's model a `*` at the end stands for the rest of the id. `prices` are those of some ids, exact or the
    beginning of one with a `*` after it; the others have the price of `model`.
    """

    prefix: str
    model: Model
    prices: Mapping[str, Price]


IMAGES = "images"
"""The key of the endpoint of image jobs."""


@dataclass(frozen=True, kw_only=True)
class Tier(Part):
    """A tier and its limits; `min_purchased` is in nano-dollars."""

    tier: int
    name: str
    min_purchased: int
    rpm: int
    per_model_rpm: int
    tpm: int
    max_request_tokens: int
    image_concurrent: int
    image_queue: int


@dataclass(frozen=True, kw_only=True)
class Accounts(Part):
    """Accounts: `required` if callers need a key. They are stored in the SQLite file `database`.

    If `signup` is enabled, a new account gets `signup_credits` nano-dollars; `signups_per_hour` is per address. `top_up` is
    where credits can be bought; None if only the operator grants them. `hold_tokens` is the most tokens of output that are
    held for one answer, where the balance is large (contract §8).
    """

    required: bool
    database: str
    signup: bool
    signup_credits: int
    signups_per_hour: int
    top_up: str | None
    hold_tokens: int = 4096


@dataclass(frozen=True, kw_only=True)
class Dashboard(Part):
    """The pages for account holders. `public_url` is where browsers find the gateway, without a slash at its end."""

    public_url: str


@dataclass(frozen=True, kw_only=True)
class Limits(Part):
    """Limits of the public listener, in bytes, connections and seconds.

    `max_buffered` bounds the bodies of all requests together, until an answer begins; None is a quarter of the memory. A body
    may be silent for `body_timeout`, and over as long a window it must bring `min_body_rate` bytes a second.
    """

    max_body: int
    max_head: int
    max_buffered: int | None
    max_connections: int
    min_body_rate: int
    head_timeout: float
    body_timeout: float
    keep_alive: float
    write_timeout: float


@dataclass(frozen=True)
class Tls(Part):
    """The paths of the public listener's certificate chain and key."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Admin(Part):
    """The admin listener; without a token its API is off and only health and metrics answer."""

    listen: Address
    token: Secret | None


@dataclass(frozen=True, kw_only=True)
class Snapshot(Part):
    """The whole configuration."""

    version: str
    listen: Address
    tls: Tls | None
    admin: Admin | None
    access_log: str | None
    workers: int
    """The number of processes that serve; with more than one there is a supervisor as well."""
    asks_usage: bool
    """True if providers are asked for the usage of streams of callers who do not ask for it themselves."""
    shutdown_delay: float
    """Seconds for which the gateway still accepts after the signal that ends it, while readiness says no."""
    drain: float
    """Seconds for which running answers may go on after that."""
    cors_origins: frozenset[str]
    """The origins of the web pages that may call, each exact or the beginning of one with a `*` after it."""
    hosts: frozenset[str]
    """Names of the gateway besides those of its listeners' addresses, without a port."""
    accounts: Accounts
    max_tokens: int | None
    hold: float
    """Seconds for which an answer that says nothing yet is held; 0 passes a stream's first event at once."""
    probe_after: float | None
    """Seconds without a request after which a source gets a health check, a request for one token; None: never."""
    limits: Limits
    tiers: tuple[Tier, ...]
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    entries: tuple[Model, ...]
    """`models` and those of `patterns`, in the order of the file; then those that only its aliases and fallbacks name."""
    aliases: Mapping[str, str]
    fallbacks: Mapping[str, tuple[str, ...]]
    routes: Mapping[str, Mapping[str, Route]]
    """By an endpoint's key and the model's id."""
    patterns: tuple[Pattern, ...] = ()
    """Longer prefixes come first."""
    pattern_routes: Mapping[str, Mapping[str, Route]] = field(default_factory=lambda: MappingProxyType({}))
    """By an endpoint's key and the pattern's id. Their sources lack the rest of the model's name."""
    warnings: tuple[Problem, ...]
    dashboard: Dashboard | None = None
    substitutions: Substitutions = field(default_factory=Substitutions)
    activity: ActivityBounds | None = None
