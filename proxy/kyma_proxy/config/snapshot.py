"""The configuration as the program uses it: immutable, names resolved, bytes prepared.

A request takes one snapshot at the door and keeps it to its end. Live facts (connections, counters) are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kyma_proxy.config.units import Secret

NANO = 10**9
"""Nano-dollars in a dollar; money is counted in whole nano-dollars."""


class TcpAddress(NamedTuple):
    """Where to listen: a host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixAddress(NamedTuple):
    """Where to listen: a socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


class Origin(NamedTuple):
    """Whom to connect to. Connections are pooled by this and nothing else."""

    scheme: str
    host: str
    port: int
    ca_file: str | None = None

    @property
    def authority(self) -> str:
        """The `Host` header: the port only where it is not the scheme's own (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds; None is off."""

    connect: float | None = 2.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0
    total: float | None = None


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A base URL, a dialect and a credential. `off` says why it can't be used; None when it can.

    `header_lines` are the lines that every request to it begins with, the credential among them; `own_names` are the
    fields that it sets itself, in lower case, which a caller's do not override.
    """

    name: str
    dialect: str
    origin: Origin
    base_path: bytes
    header_lines: bytes
    own_names: frozenset[bytes]
    off: str | None
    warm_connections: int
    keep_alive: float

    def __repr__(self) -> str:
        """The name alone: `header_lines` hold the credential."""
        return f"Provider({self.name!r})"


class ImageWords(msgspec.Struct, frozen=True, kw_only=True):
    """How a source of images is told what is wanted, by names of members.

    `size_form` is `text`, `object` (a width and a height under `size`) or `pair` (both as members of their own); `sizes` has
    the sizes that are spelled otherwise. Without `count` it makes one image at a time; `most` is how many it makes at once.
    """

    size: str
    size_form: str
    sizes: Mapping[str, str]
    count: str | None
    most: int
    images: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's deployment of a model; `key` is the name under which its health is known.

    `image` is there where the provider makes images.
    """

    key: str
    provider: Provider
    model: str
    model_json: bytes
    weight: float
    timeouts: Timeouts
    stream_usage: bool
    max_tokens_field: str | None
    reasoning_field: str | None
    """Where an earlier turn's thoughts are told again; None where the source refuses them."""
    image: ImageWords | None = None


class ImageRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may ask of an image model; `sizes` is None where any size is passed on."""

    sizes: tuple[str, ...] | None = None
    extra: tuple[str, ...] = ()
    most: int = 4
    most_input_images: int = 1
    needs_image: bool = False


class Price(msgspec.Struct, frozen=True):
    """Nano-dollars per million tokens, or per image."""

    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    image: int | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A catalogue entry and the sources that answer for it."""

    id: str
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
    """Seconds without a first byte until the next source is asked too; AUTO is the source's own 95th percentile."""
    pool: tuple[Source, ...]
    reserve: tuple[Source, ...]
    image: ImageRules = ImageRules()

    @property
    def is_image(self) -> bool:
        """Whether this model's answers are image jobs."""
        return "image" in self.output_modalities and "text" not in self.output_modalities


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What can answer for a model in one dialect: the sources that are on, and the routes of the models that may stand in.

    `is_mixed`: some speak another dialect and are translated; those that speak this one are tried first.
    """

    model: Model
    pool: tuple[Source, ...]
    reserve: tuple[Source, ...]
    substitutes: tuple[Route, ...] = ()
    dialect: str = ""
    is_mixed: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing here could answer, even if all were well."""
        return not (self.pool or self.reserve or any(one.pool or one.reserve for one in self.substitutes))


IMAGES = "images"
"""The name of the routes of image jobs."""


def route_name(dialect: str, *, is_translated: bool) -> str:
    """The name of the routes of callers who speak a dialect, with the sources that must be translated or without them."""
    return f"{dialect}, translated" if is_translated else dialect


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """A rung of the ladder; `min_purchased` in nano-dollars."""

    tier: int
    name: str
    min_purchased: int
    rpm: int
    per_model_rpm: int
    tpm: int
    max_request_tokens: int
    image_concurrent: int
    image_queue: int


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call: everybody, or accounts with keys, which are kept in the SQLite file `database`.

    Whoever signs up, where that is allowed, gets `signup_credits` nano-dollars; `signups_per_hour` is per address. `top_up` is
    where credits can be bought, None where only the operator gives them.
    """

    required: bool
    database: str
    signup: bool
    signup_credits: int
    signups_per_hour: int
    top_up: str | None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, connections and seconds at the public door."""

    max_body: int
    max_head: int
    max_connections: int
    head_timeout: float
    body_timeout: float
    keep_alive: float
    write_timeout: float


class Tls(msgspec.Struct, frozen=True):
    """Files of the public door's certificate chain and its key."""

    certificate: str
    key: str


class Admin(msgspec.Struct, frozen=True):
    """The admin listener; without a token its API is off and only health and metrics answer."""

    listen: Address
    token: Secret | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a request may ask of the configuration."""

    version: str
    listen: Address
    tls: Tls | None
    admin: Admin | None
    access_log: str | None
    drain: float
    cors_origins: frozenset[str]
    accounts: Accounts
    max_tokens: int | None
    probe_after: float | None
    """Seconds after which a source that nobody has asked is sent a request for one token; None: never."""
    limits: Limits
    tiers: tuple[Tier, ...]
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    aliases: Mapping[str, str]
    fallbacks: Mapping[str, tuple[str, ...]]
    routes: Mapping[str, Mapping[str, Route]]
    """By an endpoint's `route` and the model's id."""
    warnings: tuple[str, ...]
