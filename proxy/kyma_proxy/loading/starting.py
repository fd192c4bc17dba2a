"""Writes the configuration of a gateway that was told nothing but keys, or one provider: as it runs, or as a file to edit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from kyma_proxy.config.addresses import is_host
from kyma_proxy.loading.known_providers import FAMILIES, KnownProvider, one_line

ADMIN_TOKEN: Final = "KYMA_ADMIN_TOKEN"  # noqa: S105  (the name of a variable)
_LONG_WAIT: Final = "300s"  # a server on this machine may load its model first


def with_keys(known: Sequence[KnownProvider], environment: Mapping[str, str]) -> tuple[KnownProvider, ...]:
    """The known providers whose key is in the environment."""
    return tuple(one for one in known if environment.get(one.variable))


def provider_at(url: str, variable: str | None, known: Sequence[KnownProvider]) -> KnownProvider:
    """A provider at a base URL, whose key is in a variable; None sends no key. Raises ValueError if that is no base URL.

    A known provider has its dialect and settings. Others are taken to be compatible with OpenAI's API, and to have it at /v1 if
    the URL has no path.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not is_host(host) or re.search(r"[^\x21-\x7e]|[$?#@\\]", url):
        raise ValueError("a provider is given by its base URL, such as http://localhost:11434/v1")
    base_url = url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/v1"
    key = {} if variable is None else {"api_key": f"${{{variable}}}"}
    for one in known:
        if one.base_url.rstrip("/") in (url.rstrip("/"), base_url):
            entry = {name: value for name, value in one.entry.items() if name != "api_key"}
            return one._replace(variable=variable or "", entry={**entry, **key})
    name = "local" if host in ("localhost", "127.0.0.1", "::1") else re.sub(r"[^A-Za-z0-9._-]", "-", host).strip("-._")
    entry = {
        "name": name or "provider",
        "base_url": base_url,
        "dialect": "openai",
        **key,
        "timeouts": {"first_byte": _LONG_WAIT},
    }
    return KnownProvider(entry["name"], variable or "", entry, None)


def patterns_of(providers: Sequence[KnownProvider]) -> list[tuple[str, str]]:
    """The patterns that pass on all models of these providers, each with its provider's name.

    Each provider's models are under its name and a slash. A name that only one maker gives is enough without it. Any other name
    goes to the first provider.
    """
    others = [(family, one.name) for one in providers[1:] for family in FAMILIES.get(one.name, ())]
    return [("*", providers[0].name), *others, *((f"{one.name}/*", one.name) for one in providers)]


def built_in_configuration(providers: Sequence[KnownProvider], environment: Mapping[str, str]) -> str:
    """The configuration that passes on all models of these providers."""
    token = f"admin: {{token: ${{{ADMIN_TOKEN}}}}}\n" if environment.get(ADMIN_TOKEN) else ""
    entries = "".join(f"  - {one_line(dict(one.entry))}\n" for one in providers)
    return f"{token}providers:\n{entries}models:\n{_pattern_lines(providers)}"


def _pattern_lines(providers: Sequence[KnownProvider]) -> str:
    return "".join(f"  - {one_line({'id': pattern, 'provider': name})}\n" for pattern, name in patterns_of(providers))


def starting_file(on: Sequence[KnownProvider], known: Sequence[KnownProvider]) -> str:
    """A commented configuration to begin with: these providers, and the other known ones as comments."""
    chosen = on or [one for one in known if one.name == "openai"]
    names = {one.name for one in chosen}
    entries = "".join(f"  - {one_line(dict(one.entry))}\n" for one in chosen)
    others = "".join(f"  # - {one_line(dict(one.entry))}\n" for one in known if one.name not in names)
    first = chosen[0]
    return _FILE.format(
        entries=entries, others=others, patterns=_pattern_lines(chosen), provider=first.name, example=first.example or "MODEL"
    )


_FILE: Final = """\
# A configuration of kyma-proxy. `kyma-proxy check FILE` tells every mistake in it with its line, and
# `kyma-proxy serve --config FILE` runs it. A change is taken while the gateway runs, a second later; a mistake changes nothing.

# The address of the gateway. Apps use http://127.0.0.1:8080/v1 as OpenAI's base URL, http://127.0.0.1:8080 as Anthropic's.
listen: 127.0.0.1:8080

# Health and metrics: /livez, /readyz, /metrics. `admin: null` switches them off. A second gateway needs another port.
admin: {{listen: 127.0.0.1:9090}}

# One JSON line for each request, never its content: "-" is standard output; a path; null is off.
access_log: "-"

# max_tokens for requests that have none; null inserts nothing. A request's own value is never changed.
defaults: {{max_tokens: 4096}}

# Keys come from the environment, so that none is in this file. A provider without its key is off.
providers:
{entries}\
  # A server on this machine, such as Ollama, vLLM or llama.cpp, needs no key:
  # - {{name: local, base_url: "http://127.0.0.1:11434/v1", dialect: openai, timeouts: {{first_byte: 300s}}}}
{others}
# A `*` stands for the rest of a model's name, so all models of a provider are passed on. Of `groq/*` the part up to the slash
# is left out when the provider is asked. An exact id wins, then the longest prefix.
models:
{patterns}\
  # A model with an id of your own. If the pool's source fails before its answer begins, the reserve answers.
  # - id: my-model
  #   pool: [{{provider: {provider}, model: {example}}}]
  #   reserve: [{{provider: openrouter, model: SAME-MODEL-THERE}}]

# Other names for models, so that you decide here what an app gets, and models that answer in place of others:
# aliases: {{fast: my-model}}
# fallbacks: {{my-model: [{provider}/{example}]}}
"""
