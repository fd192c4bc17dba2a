"""Converts the configuration of a LiteLLM proxy, as far as it can be said here; what can't is listed in notes.

https://docs.litellm.ai/docs/proxy/config_settings
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from kyma_proxy.loading.document import ModelId
from kyma_proxy.loading.known_providers import KnownProvider, one_line

_PER_MILLION: Final = 1_000_000
_ENVIRONMENT: Final = "os.environ/"
_MIN_KEY_CHARACTERS: Final = 8  # servers that need no key are given `none`, `EMPTY` or the like
_AZURE_VERSION: Final = "2024-10-21"
_KNOWN_AS: Final = MappingProxyType({
    "openai": "openai", "text-completion-openai": "openai", "anthropic": "anthropic", "groq": "groq", "together_ai": "together",
    "fireworks_ai": "fireworks", "openrouter": "openrouter", "deepseek": "deepseek", "gemini": "google", "moonshot": "moonshot",
    "minimax": "minimax", "zai": "zhipu", "dashscope": "dashscope",
})  # fmt: skip
"""Prefixes of LiteLLM's model names, and the names of the same providers here."""
_COMPATIBLE: Final = MappingProxyType({
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
    "cerebras": ("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": ("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "nvidia_nim": ("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "perplexity": ("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "sambanova": ("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
})  # fmt: skip
"""Prefixes of other providers with OpenAI's API: their base URL, and the variable that LiteLLM reads."""
_OWN_SERVERS: Final = MappingProxyType({
    "hosted_vllm": "", "vllm": "", "lm_studio": "", "llamafile": "", "xinference": "", "litellm_proxy": "", "custom_openai": "",
    "openai_like": "", "ollama": "/v1", "ollama_chat": "/v1",
})  # fmt: skip
"""Prefixes of servers of one's own: what their API's path here has after `api_base`."""
_MODES: Final = ("chat", "completion", "embedding", "responses", "rerank", "moderation", "audio_transcription", "audio_speech")
_READ_PARAMS: Final = frozenset({
    "model", "api_key", "api_base", "base_url", "api_version", "rpm", "tpm", "weight", "order", "timeout", "extra_headers",
    "input_cost_per_token", "output_cost_per_token", "custom_llm_provider",
})  # fmt: skip
_READ_SETTINGS: Final = MappingProxyType({
    "litellm_settings": frozenset({"fallbacks", "default_fallbacks", "model_alias_map"}),
    "router_settings": frozenset({"fallbacks", "default_fallbacks", "model_group_alias", "num_retries"}),
})  # fmt: skip
_UNNEEDED: Final = frozenset({"drop_params", "set_verbose", "json_logs", "num_retries", "allowed_fails", "cooldown_time"})
"""Settings about what happens here by itself: another source is tried, and one that fails is left alone for a while."""

Json = Mapping[str, Any]


class Converted(NamedTuple):
    """The text of a configuration, and what could not be carried over."""

    text: str
    notes: tuple[str, ...]


class NotLiteLLM(Exception):
    """The text is no configuration of LiteLLM; the message says why."""


class _Deployment(NamedTuple):
    provider: str
    model: str
    weight: float | None
    order: int
    timeout: float | None
    price: Json


def convert(text: str, known: Sequence[KnownProvider]) -> Converted:
    """Convert the text of a LiteLLM proxy's `config.yaml`. Raises NotLiteLLM."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise NotLiteLLM(f"it is not YAML: {str(error).partition(chr(10))[0]}") from None
    if not isinstance(document, dict) or not isinstance(document.get("model_list"), list):
        raise NotLiteLLM("it has no model_list")
    return _Conversion(document, known).convert()


class _Conversion:
    """One conversion; the methods are in the order of their calls."""

    def __init__(self, document: Json, known: Sequence[KnownProvider]) -> None:
        self.document = document
        self.known = {one.name: one for one in known}
        self.notes: dict[str, None] = {}
        self.providers: dict[str, Json] = {}
        self.models: dict[str, list[_Deployment]] = {}

    def convert(self) -> Converted:
        for entry in self.document["model_list"]:
            if isinstance(entry, dict) and isinstance(entry.get("litellm_params"), dict):
                self._add_deployment(str(entry.get("model_name", "")), entry, entry["litellm_params"])
            else:
                self._note("an entry of model_list without model_name and litellm_params is left out")
        aliases, fallbacks = self._aliases(), self._fallbacks()
        self._note_settings()
        return Converted(self._text(aliases, fallbacks), tuple(self.notes))

    def _add_deployment(self, name: str, entry: Json, params: Json) -> None:
        info = entry["model_info"] if isinstance(entry.get("model_info"), dict) else {}
        mode = info.get("mode", "chat")
        try:
            msgspec.convert(name, ModelId)
        except msgspec.ValidationError:
            self._note(
                f"model {name!r} is left out: an id has at most 128 letters, digits and ._:/-, and a `*` at its end only"
            )
            return
        if mode not in _MODES:
            self._note(f"model {name} is left out: its mode is {mode}; image models are described in docs/guides/images.md")
            return
        provider = self._provider_of(name, params)
        if provider is None:
            return
        prefix, model = self._split(params)
        if model.endswith("*") and not name.endswith("*"):
            self._note(f"model {name} is left out: {prefix}/{model} needs a model_name that ends with `*` too")
            return
        unread = sorted(set(params) - _READ_PARAMS)
        if unread:
            self._note(
                f"model {name}: {', '.join(unread)} of its litellm_params is not carried over; requests set it themselves"
            )
        limits = {key: one for key in ("rpm", "tpm") if (one := _number(params.get(key, entry.get(key))))}
        weight = _number(params.get("weight")) or limits.get("rpm") or limits.get("tpm")
        if limits:
            self._note(f"model {name}: {' and '.join(limits)} is the weight of its source here, and no limit")
        costs = {
            side: round(cost * _PER_MILLION, 6)
            for side in ("input", "output")
            if (cost := _number(params.get(f"{side}_cost_per_token", info.get(f"{side}_cost_per_token")))) is not None
        }
        if params.get("timeout"):
            self._note(f"model {name}: its timeout is the wait for an answer's first byte here")
        order, timeout = int(_number(params.get("order")) or 1), _number(params.get("timeout"))
        self.models.setdefault(name, []).append(_Deployment(provider, model, weight, order, timeout, costs))

    @staticmethod
    def _split(params: Json) -> tuple[str, str]:
        """LiteLLM's name of the provider, and the provider's name of the model."""
        name = str(params.get("model", ""))
        prefix, slash, model = name.partition("/")
        if isinstance(params.get("custom_llm_provider"), str):
            return params["custom_llm_provider"], name
        if slash:
            return prefix, model
        return "anthropic" if name.startswith("claude") else "openai", name

    def _provider_of(self, name: str, params: Json) -> str | None:
        """The name of the provider's entry; None if it can't be reached from here."""
        prefix, model = self._split(params)
        base = self._variable(params.get("api_base") or params.get("base_url"))
        known = self.known.get(_KNOWN_AS.get(prefix, ""))
        entry: dict[str, Any]
        label, variable = prefix.replace("_", "-"), f"{re.sub('[^A-Z0-9]', '_', prefix.upper())}_API_KEY"
        if prefix == "azure" and base and "*" not in model:
            version = str(params.get("api_version") or _AZURE_VERSION)
            entry = {
                "base_url": f"{base.rstrip('/')}/openai/deployments/{{model}}", "dialect": "openai",
                "api_key_header": "api-key", "query": {"api-version": self._variable(version)},
            }  # fmt: skip
        elif prefix in _OWN_SERVERS and base:
            suffix = "" if base.rstrip("/").endswith("/v1") else _OWN_SERVERS[prefix]
            entry = {"base_url": base.rstrip("/") + suffix, "dialect": "openai"}
            variable = ""
        elif known is not None and (not base or base.rstrip("/") == known.base_url.rstrip("/")):
            entry = {key: value for key, value in known.entry.items() if key not in ("name", "api_key")}
            label, variable = known.name, known.variable
        elif known is not None and base:
            entry = {"base_url": base, "dialect": known.entry["dialect"]}
            label, variable = _host(base) or label, ""  # the key of a service is not for another server
        elif prefix in _COMPATIBLE:
            url, variable = _COMPATIBLE[prefix]
            entry = {"base_url": base or url, "dialect": "openai"}
        else:
            self._note(f"model {name} is left out: {prefix}/ has no counterpart here, or lacks its api_base")
            return None
        key = self._key(name, params.get("api_key"), variable)
        if key:
            entry["api_key"] = key
        headers = params.get("extra_headers")
        if isinstance(headers, dict):
            entry["headers"] = {str(header): self._variable(str(value)) for header, value in headers.items()}
        return self._entered(label, entry)

    def _key(self, model: str, written: object, variable: str) -> str | None:
        """The credential of a provider: always a variable, so that no key gets into another file."""
        if isinstance(written, str) and written.startswith(_ENVIRONMENT):
            return self._variable(written)
        if written and variable:
            self._note(f"model {model}: the key in the file is not copied; set {variable} in the environment")
        elif isinstance(written, str) and len(written) >= _MIN_KEY_CHARACTERS:
            self._note(f"model {model}: the key in the file is not copied; give its provider an api_key")
        return f"${{{variable}}}" if variable else None

    def _entered(self, label: str, entry: Json) -> str:
        number = 1
        while True:
            name = label if number == 1 else f"{label}-{number}"
            if self.providers.setdefault(name, entry) == entry:
                return name
            number += 1

    @staticmethod
    def _variable(value: object) -> str:
        """The value with LiteLLM's spelling of a variable replaced by the one here."""
        text = "" if value is None else str(value)
        return f"${{{text.removeprefix(_ENVIRONMENT)}}}" if text.startswith(_ENVIRONMENT) else text

    def _setting(self, *names: str) -> list[Any]:
        sections = [self.document.get(section) for section in ("litellm_settings", "router_settings")]
        return [section[name] for section in sections if isinstance(section, dict) for name in names if section.get(name)]

    def _aliases(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for written in self._setting("model_group_alias", "model_alias_map"):
            for alias, target in written.items() if isinstance(written, dict) else ():
                model = target.get("model") if isinstance(target, dict) else target
                if model in self.models and alias not in self.models:
                    found[str(alias)] = model
                else:
                    self._note(f"alias {alias} is left out: it is a model itself, or {model} is none")
        return found

    def _fallbacks(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for written in self._setting("fallbacks"):
            for one in written if isinstance(written, list) else ():
                for model, others in one.items() if isinstance(one, dict) else ():
                    self._add_fallbacks(found, model, others)
        for others in self._setting("default_fallbacks"):
            for model in self.models:
                if model not in found:
                    self._add_fallbacks(found, model, [other for other in others if other != model])
        return found

    def _add_fallbacks(self, found: dict[str, list[str]], model: str, others: object) -> None:
        named = [other for other in others if isinstance(other, str)] if isinstance(others, list) else []
        known = [other for other in dict.fromkeys(named) if other in self.models and other != model and not other.endswith("*")]
        if model in self.models and known:
            found[model] = known
        missing = [other for other in named if other not in known and other != model]
        if missing or model not in self.models:
            self._note(f"fallbacks of {model}: the list of models has no {', '.join(missing) or model}")

    def _note_settings(self) -> None:
        for section, value in self.document.items():
            if section == "model_list":
                continue
            names = sorted(map(str, value)) if isinstance(value, dict) else []
            for name in names:
                if name == "master_key":
                    self._note(
                        "general_settings.master_key: here no key is needed, or each caller has an account: docs/ACCOUNTS.md"
                    )
                elif name not in _READ_SETTINGS.get(section, ()) and name not in _UNNEEDED:
                    self._note(f"{section}.{name} is not carried over")
            if not isinstance(value, dict):
                self._note(f"{section} is not carried over")

    def _note(self, text: str) -> None:
        self.notes[text] = None

    def _text(self, aliases: Mapping[str, str], fallbacks: Mapping[str, list[str]]) -> str:
        lines = ["# Made from a configuration of LiteLLM. `kyma-proxy check FILE` tells what is on and what is off."]
        if self.notes:
            lines += ["#", "# Not, or not quite, as it was there:", *(f"#   - {_comment(note)}" for note in self.notes)]
        lines += ["", "listen: 127.0.0.1:8080", "admin: {listen: 127.0.0.1:9090}", "", "providers:"]
        lines += [f"  - {one_line({'name': name, **entry})}" for name, entry in self.providers.items()]
        lines += ["", "models:"]
        for name, deployments in self.models.items():
            lines += self._model_lines(name, deployments)
        if fallbacks:
            lines += ["", "fallbacks:", *(f"  {one_line(model)}: {one_line(others)}" for model, others in fallbacks.items())]
        if aliases:
            lines += ["", f"aliases: {one_line(dict(aliases))}"]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _model_lines(name: str, deployments: list[_Deployment]) -> list[str]:
        first = min(one.order for one in deployments)
        lines = [f"  - id: {one_line(name)}"]
        price = next((dict(one.price) for one in deployments if one.price), None)
        if price:
            lines.append(f"    price: {one_line(price)}")
        for part, chosen in (
            ("pool", [one for one in deployments if one.order == first]),
            ("reserve", sorted((one for one in deployments if one.order != first), key=lambda one: one.order)),
        ):
            if chosen:
                lines.append(f"    {part}:")
            for one in chosen:
                source: dict[str, Any] = {"provider": one.provider, "model": one.model}
                if one.weight is not None and len(chosen) > 1:
                    source["weight"] = one.weight
                if one.timeout:
                    source["timeouts"] = {"first_byte": f"{one.timeout:g}s"}
                lines.append(f"      - {one_line(source)}")
        return lines


def _host(base_url: str) -> str:
    """A name for the server at a base URL."""
    host = re.sub(r"^https?://|[:/].*$", "", base_url)
    return "local" if host in ("localhost", "127.0.0.1", "0.0.0.0") else re.sub(r"[^A-Za-z0-9._-]", "-", host).strip("-._")  # noqa: S104


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6 else None


def _comment(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text)
