"""Defines the configuration file as it is written: one strict struct for each section. (Contract §12.)

The names are those in YAML. These structs check the shape; `compiling` checks what names refer to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from kyma_proxy.config.units import MAX_INTEGER, Delay, Duration, Secret, Size, Usd, Workers

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=128)]
ModelId = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._:/-]*\*?|\*)$", max_length=128)]
"""The id of a model, or the beginning of the ids of many with a `*` after it."""
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Positive = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Multiplier = Annotated[float, Meta(ge=0.001, le=1000)]
"""A factor of a price; it counts to the thousandth."""
Policy = Literal["weighted", "priority", "fastest"]
ProviderDialect = Annotated[str, Meta(extra={"unit": "dialect"})]
"""The name of a dialect in the registry."""
EndpointKey = str
"""The key of an endpoint of the provider's dialect; `compiling` checks it."""
Modality = Literal["text", "image", "audio", "video", "file"]
MaxTokensField = Literal["max_tokens", "max_completion_tokens", "max_output_tokens"]
ImageMember = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
SizeForm = Literal["text", "object", "pair"]
HeaderName = Annotated[str, Meta(min_length=1, max_length=128)]
"""The name of a header field of an answer, exact or with a `*` at its end."""
JsonValue = Any
"""Any value: a text, a number, true, false, null, a list or a mapping. It is sent as JSON."""
ReasoningField = Literal["reasoning_content", "reasoning", "none"]
Effort = Literal["none", "minimal", "low", "medium", "default", "high", "xhigh", "max"]
ResponseFormat = Literal["json_object", "json_schema"]
Param = Literal[
    "reasoning_effort", "temperature", "top_p", "top_k", "stop", "parallel_tool_calls", "user", "service_tier",
    "frequency_penalty", "presence_penalty", "logit_bias", "seed", "verbosity", "prompt_cache_key", "safety_identifier",
    "response_format", "strict",
]  # fmt: skip
"""A member of a request without which it still asks for what its caller wants."""
ReasoningParser = Literal["think", "thought", "mm:think", "deepseek_r1", "none"]
CallsNeed = Literal["reasoning", "thought_signature", "nothing"]


class Section(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The base of every section: immutable; unknown keys are refused."""


class Admin(Section, frozen=True):
    """The admin listener; without a token its API is off."""

    listen: str = "127.0.0.1:9090"
    token: Secret | None = None


class Signup(Section, frozen=True):
    """Sign-up: whether it is enabled, the credits of a new account in US dollars, and how many per hour from one address."""

    enabled: bool = False
    credits: Usd | None = None
    per_hour: Annotated[int, Meta(ge=1, le=1000)] = 5


class Accounts(Section, frozen=True):
    """Accounts: `required` if callers need a key, and the database. Error texts name `top_up` as the place to buy credits.

    `hold_tokens` is the most tokens of output that are held for one answer, where the balance is large.
    """

    required: bool = False
    database: str = "sqlite:kyma.db"
    signup: Signup = Signup()
    top_up: str | None = None
    hold_tokens: Positive = 4096


class Activity(Section, frozen=True):
    """The metadata of requests of accounts that is kept to be looked at: of so many days, and so many rows at most."""

    days: Annotated[int, Meta(ge=1, le=3650)] = 30
    rows: Positive = 10_000_000


class Timeouts(Section, frozen=True):
    """Null turns a timeout off; one that is absent is taken from the level above."""

    connect: Duration | msgspec.UnsetType | None = msgspec.UNSET
    first_byte: Duration | msgspec.UnsetType | None = msgspec.UNSET
    idle: Duration | msgspec.UnsetType | None = msgspec.UNSET
    total: Duration | msgspec.UnsetType | None = msgspec.UNSET


class Defaults(Section, frozen=True):
    """The values that apply unless a request, a model or a provider says otherwise."""

    max_tokens: Positive | None = 4096
    policy: Policy = "weighted"
    hedge_after: Delay | None = None
    hold: Duration = 1.0
    probe_after: Duration | None = None
    timeouts: Timeouts = Timeouts()


class Limits(Section, frozen=True):
    """Limits of a caller's connection, in size and in time; `max_buffered` is that of all bodies together.

    A body may be silent for `body_timeout`, and over as long a window it must bring `min_body_rate` bytes a second.
    """

    max_body: Size = 32 * 2**20
    max_head: Size = 64 * 2**10
    max_buffered: Size | None = None
    max_connections: Positive = 10_000
    min_body_rate: Size = 4 * 2**10
    head_timeout: Duration = 15.0
    body_timeout: Duration = 30.0
    keep_alive: Duration = 75.0
    write_timeout: Duration = 60.0


class Tls(Section, frozen=True):
    """The public listener's certificate chain and key, as paths of PEM files."""

    certificate: str
    key: str


class Cors(Section, frozen=True):
    """The origins of web pages that may call, and read responses. Null: local ones, and those of applications."""

    origins: tuple[str, ...] | None = None


class Dashboard(Section, frozen=True):
    """The pages for account holders, and the address by which browsers find them."""

    enabled: bool = False
    public_url: str | None = None


class Tier(Section, frozen=True, kw_only=True):
    """A tier: the limits of an account whose purchases reach `min_purchased`."""

    tier: Count
    name: str | None = None
    min_purchased: Usd
    rpm: Positive
    per_model_rpm: Positive
    tpm: Positive
    max_request_tokens: Positive
    image_concurrent: Count = 0
    image_queue: Count = 0


class ErrorRule(Section, frozen=True):
    """An error that leads to the next source. `code` is a code, type or reason in it; its message begins with `message`."""

    status: Annotated[int, Meta(ge=400, le=499)] | None = None
    code: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    message: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class Supports(Section, frozen=True):
    """The parameters of a translated request that a source takes; a key that is absent is taken from the level above."""

    reasoning_effort: tuple[Effort, ...] | msgspec.UnsetType = msgspec.UNSET
    reasoning_effort_with_tools: tuple[Effort, ...] | msgspec.UnsetType = msgspec.UNSET
    stop: Count | msgspec.UnsetType = msgspec.UNSET
    tool_name: Annotated[int, Meta(ge=16, le=256)] | msgspec.UnsetType = msgspec.UNSET
    response_format: tuple[ResponseFormat, ...] | msgspec.UnsetType = msgspec.UNSET
    images: bool | msgspec.UnsetType = msgspec.UNSET
    assistant_first: bool | msgspec.UnsetType = msgspec.UNSET
    assistant_last: bool | msgspec.UnsetType = msgspec.UNSET
    drop_params: tuple[Param, ...] | msgspec.UnsetType = msgspec.UNSET


class Provider(Section, frozen=True):
    """A provider: its base URL, its dialect and its credential, of which there is one at most.

    `api_keys` take turns. `api_key_file` holds a key in one line. `api_key_command` prints one: a program and its arguments,
    which has `api_key_timeout` and is run again each `api_key_refresh`. `api_key_header` names the header field for the key
    itself, in place of the dialect's. A variable that is not set in `headers`, `query` or `proxy` switches the provider off.
    `body` has members for requests that do not have them. `proxy` is the URL of an HTTP proxy, or `environment`.
    `{model}` in the base URL's path is each source's model. `pass_headers` names headers of its answers that pass to callers
    besides the usual ones. `endpoints` are those that its sources have, unless a source says otherwise; all of its dialect if
    nobody does. `supports_by_model` has what it takes for some of its models, by their names there, exact or with a `*`.
    """

    name: Name
    base_url: str
    dialect: ProviderDialect
    api_key: Secret | None = None
    api_keys: Annotated[tuple[Secret, ...], Meta(min_length=1)] | None = None
    api_key_file: str | None = None
    api_key_command: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    api_key_timeout: Duration = 10.0
    api_key_refresh: Duration = 300.0
    api_key_header: HeaderName | None = None
    headers: dict[str, Secret] = {}
    query: dict[str, Secret] = {}
    body: dict[str, JsonValue] = {}
    proxy: Secret | None = None
    move_on: tuple[ErrorRule, ...] = ()
    timeouts: Timeouts = Timeouts()
    max_tokens_field: MaxTokensField | None = None
    reasoning_field: ReasoningField = "reasoning_content"
    supports: Supports = Supports()
    supports_by_model: dict[str, Supports] = {}
    reasoning_parser: ReasoningParser = "none"
    calls_need: CallsNeed = "nothing"
    warm_connections: Annotated[int, Meta(ge=0, le=64)] = 1
    keep_alive: Duration = 30.0
    ca_file: str | None = None
    pass_headers: tuple[HeaderName, ...] = ()
    endpoints: Annotated[tuple[EndpointKey, ...], Meta(min_length=1)] | None = None


class ImageMembers(Section, frozen=True):
    """The members of a source's image requests; an absent one is that of the source's dialect.

    `size` names the member for the size, whose form is `size_form`; `sizes` gives the text for sizes that are spelled
    otherwise. `count` names the member for the number of images; null if the source makes one at a time. `images` names the
    member for the input pictures. A job that only waits in the source's queue for `leave_queue_after` (null: for ever) is
    withdrawn there if another source can be asked.
    """

    size: ImageMember | None = None
    size_form: SizeForm | None = None
    sizes: dict[str, str] = {}
    count: ImageMember | msgspec.UnsetType | None = msgspec.UNSET
    most: Annotated[int, Meta(ge=1, le=4)] = 4
    images: Literal["image_url", "image_urls", "images"] | None = None
    leave_queue_after: Duration | None = 60.0


class Source(Section, frozen=True):
    """One provider's deployment of a model. Its `move_on` and `pass_headers` are added to its provider's.

    So are its `headers`, `query` and `body`, which win over those of the same name; its `proxy` replaces its provider's.
    """

    provider: Name
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    timeouts: Timeouts = Timeouts()
    stream_usage: bool = True
    max_tokens_field: MaxTokensField | None = None
    reasoning_field: ReasoningField | None = None
    supports: Supports = Supports()
    reasoning_parser: ReasoningParser | None = None
    calls_need: CallsNeed | None = None
    endpoints: Annotated[tuple[EndpointKey, ...], Meta(min_length=1)] | None = None
    image: ImageMembers = ImageMembers()
    move_on: tuple[ErrorRule, ...] = ()
    pass_headers: tuple[HeaderName, ...] = ()
    headers: dict[str, Secret] = {}
    query: dict[str, Secret] = {}
    body: dict[str, JsonValue] = {}
    proxy: Secret | msgspec.UnsetType | None = msgspec.UNSET


class ImageRules(Section, frozen=True):
    """The requests that an image model allows; without `sizes` any size is passed on.

    `extra` names further members that are passed on unchanged. A model that `needs_image` edits a picture.
    """

    sizes: tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_:]+$", max_length=32)], ...] | None = None
    extra: tuple[ImageMember, ...] = ()
    most: Annotated[int, Meta(ge=1, le=4)] = 4
    most_input_images: Annotated[int, Meta(ge=1, le=16)] = 1
    needs_image: bool = False
    max_prompt: Annotated[int, Meta(ge=1, le=32_000)] = 4000


class Price(Section, frozen=True):
    """Prices in US dollars per million tokens; `image` is per image, and `per_search` for each search that a provider makes.

    `by` has the prices of an image by the values of a request's members (`style: {vector*: 0.108}`), or of several together
    (`quality+size: {high+1024x1024: 0.17}`); the highest that fits holds.
    `per_minute` is the price of sound, `per_million_characters` that of text to speak, and `per_request` that of a request or,
    where documents are sorted, of a search.
    `cached_write` is the price of input that a provider keeps for five minutes, `cached_write_1h` for an hour. `priority` and
    `flex` multiply the prices of tokens for requests of these service tiers. `included` names members and types of tools that
    metered callers may use although only their tokens are charged.
    """

    input: Usd | None = None
    output: Usd | None = None
    cached_input: Usd | None = None
    cached_write: Usd | None = None
    cached_write_1h: Usd | None = None
    image: Usd | None = None
    by: dict[str, dict[str, Usd]] = {}
    per_search: Usd | None = None
    per_minute: Usd | None = None
    per_million_characters: Usd | None = None
    per_request: Usd | None = None
    priority: Multiplier | None = None
    flex: Multiplier | None = None
    included: tuple[Annotated[str, Meta(pattern=r"^[a-z][A-Za-z0-9_:]*$", max_length=64)], ...] = ()


class Model(Section, frozen=True, kw_only=True):
    """A model of the catalogue, and its sources; or all models whose ids fit a pattern such as `groq/*`.

    `provider` stands for a pool of one source, which is asked for the model under its id; of a pattern's ids, what comes up to
    the last slash of the pattern is left out. `prices` are those of some ids of a pattern, which may be patterns too.
    """

    id: ModelId
    name: str | None = None
    owned_by: str = "unknown"
    created: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] | None = None
    context_window: Positive | None = None
    max_output_tokens: Positive | None = None
    input_modalities: tuple[Modality, ...] = ("text",)
    output_modalities: tuple[Modality, ...] = ("text",)
    supports_tools: bool = False
    supports_caching: bool = False
    supports: Supports = Supports()
    release_stage: Literal["stable", "preview", "deprecated"] = "stable"
    price: Price = Price()
    policy: Policy | None = None
    hedge_after: Delay | msgspec.UnsetType | None = msgspec.UNSET
    image: ImageRules = ImageRules()
    prices: dict[str, Price] = {}
    provider: Name | None = None
    pool: Annotated[tuple[Source, ...], Meta(min_length=1)] | None = None
    reserve: tuple[Source, ...] = ()


class Document(Section, frozen=True, kw_only=True):
    """The whole file.

    `usage` is `ask` if providers are asked for the token counts of streams, for the log and the metrics.
    """

    listen: str = "127.0.0.1:8080"
    tls: Tls | None = None
    admin: Admin | None = Admin()
    access_log: str | None = "-"
    workers: Workers = 1
    usage: Literal["as_reported", "ask"] = "as_reported"
    shutdown_delay: Duration = 0.0
    drain: Duration = 25.0
    cors: Cors = Cors()
    hosts: tuple[str, ...] = ()
    accounts: Accounts = Accounts()
    activity: Activity | None = None
    dashboard: Dashboard = Dashboard()
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    tiers: tuple[Tier, ...] | None = None
    providers: Annotated[tuple[Provider, ...], Meta(min_length=1)]
    models: Annotated[tuple[Model, ...], Meta(min_length=1)]
    fallbacks: dict[str, tuple[Name, ...]] = {}
    aliases: dict[str, Name] = {}


_Entry = TypeVar("_Entry")


def present(entries: Iterable[_Entry]) -> list[tuple[int, _Entry]]:
    """The entries of a list that were read without a problem, with their index."""
    return [(at, entry) for at, entry in enumerate(entries) if not isinstance(entry, msgspec.UnsetType)]
