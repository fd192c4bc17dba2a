"""Writes the configurations of the tests, as the YAML that an operator would write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

TIMEOUTS = "{connect: 2s, first_byte: 10s, idle: 10s}"

SIMULATED_MODELS = """\
  - {id: sim, name: Simulated, price: {input: 1, output: 2}, pool: [{provider: simulated, model: sim-1}]}
  - {id: vendor/sim, pool: [{provider: simulated, model: sim-2}]}
  - {id: claude, pool: [{provider: claude, model: claude-1}]}
  - id: sketch
    output_modalities: [image]
    price: {image: 0.05}
    image: {sizes: [512x512, 1024x1024]}
    pool: [{provider: queue, model: simulated/pictures}]
    reserve: [{provider: images, model: simulated-image}]
  - id: retouch
    input_modalities: [text, image]
    output_modalities: [image]
    price: {image: 0.05}
    image: {needs_image: true, most_input_images: 4, extra: [mask, quality]}
    pool: [{provider: images, model: simulated-image}]
"""


class ProviderEntry(NamedTuple):
    """An entry of `providers`, and its source in the pool of the model `m`."""

    at: int | str
    """A port of this machine, or a base URL."""
    dialect: str = ""
    """The configuration's unless given."""
    name: str = ""
    """`p0`, `p1`, … unless given."""
    api_key: str | None = ""
    """`provider-key-0`, `provider-key-1`, … unless given; None for an entry without one."""
    warm_connections: int | None = 0
    """None for as many as are shipped."""
    weight: int | None = None
    """In the pool of `m`: 1 for the first provider and 0 for the others unless given, so that they are tried in their order."""
    more: str = ""
    """Further members of the entry, as YAML between braces."""
    source: str = ""
    """Further members of its source in the pool of `m`, as YAML between braces."""

    @property
    def base_url(self) -> str:
        """The provider's base URL."""
        return f"http://127.0.0.1:{self.at}/v1" if isinstance(self.at, int) else self.at


def configuration(
    *providers: int | ProviderEntry,
    dialect: str | Sequence[str] = "openai",
    defaults: str | None = None,
    timeouts: str = TIMEOUTS,
    hedge_after: str = "null",
    hold: str = "1s",
    pool: int | None = None,
    model: str = "",
    models: str = "",
    hosts: str = "[a, b, gateway, gateway.example]",
    more: str = "",
) -> str:
    """A model `m` with one source a provider, `real-0`, `real-1`, …, tried in this order.

    `dialect`: of all providers that do not name their own, or one for each provider.
    `defaults`: the members of this section, in place of the usual ones of the tests; `timeouts`, `hedge_after` and `hold`
    change single ones.
    `pool`: only so many of the providers are in the pool of `m`; with 0 there is no `m`.
    `hosts`: the names by which the callers of the tests find the gateway.
    `model` holds further members of `m`, `models` further entries beside it, `more` further sections.
    """
    entries = [_completed(one, at, dialect if isinstance(dialect, str) else dialect[at]) for at, one in enumerate(providers)]
    written = "".join(f"  - {_entry(one)}\n" for one in entries)
    sources = [
        _braces(f"provider: {one.name}", f"model: real-{at}", f"weight: {one.weight}", one.source)
        for at, one in enumerate(entries[:pool])
    ]
    entry = _braces("id: m", "price: {input: 1, output: 2}", f"pool: [{', '.join(sources)}]", model)
    listed = f"  - {entry}\n{models}" if sources else models
    usual = f"max_tokens: null, hedge_after: {hedge_after}, hold: {hold}, timeouts: {timeouts}"
    sections = f"hosts: {hosts}\ndefaults: {_braces(usual if defaults is None else defaults)}\n"
    return f"{sections}providers:\n{written}models:\n{listed}{more}"


def listeners(listen: object, *, access_log: object, admin: str = "null") -> str:
    """The sections that only a gateway in a process of its own needs."""
    return f"listen: '{listen}'\nadmin: {admin}\naccess_log: '{access_log}'\n"


def simulated_configuration(provider: str, *, more: str = "") -> str:
    """Models of every kind at the simulated provider whose base URL this is."""
    return configuration(
        ProviderEntry(provider, "openai", "simulated", "provider-key", None),
        ProviderEntry(provider, "anthropic", "claude", "provider-key", None),
        ProviderEntry(provider, "openai_images", "images", "provider-key", None),
        ProviderEntry(f"{provider.removesuffix('/v1')}/queue", "fal_queue", "queue", "provider-key", None),
        defaults="",
        pool=0,
        models=SIMULATED_MODELS,
        more=f"aliases: {{fast: sim, recraft-v3: sketch}}\n{more}",
    )


def _completed(provider: int | ProviderEntry, at: int, dialect: str) -> ProviderEntry:
    """The entry at this place of the list, with every member that was not given."""
    entry = provider if isinstance(provider, ProviderEntry) else ProviderEntry(provider)
    return entry._replace(
        name=entry.name or f"p{at}",
        dialect=entry.dialect or dialect,
        api_key=f"provider-key-{at}" if entry.api_key == "" else entry.api_key,
        weight=int(at == 0) if entry.weight is None else entry.weight,
    )


def _entry(provider: ProviderEntry) -> str:
    warm = "" if provider.warm_connections is None else f"warm_connections: {provider.warm_connections}"
    return _braces(
        f"name: {provider.name}", f"base_url: '{provider.base_url}'", f"dialect: {provider.dialect}",
        "" if provider.api_key is None else f"api_key: {provider.api_key}", warm, provider.more,
    )  # fmt: skip


def _braces(*members: str) -> str:
    return "{" + ", ".join(filter(None, members)) + "}"
