"""Reads the providers for which a key is enough to make a configuration: those of `config/kyma.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import yaml

from kyma_proxy.dialect.registry import DIALECTS

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHIELDED: Final = re.compile("\ue000([A-Za-z_][A-Za-z0-9_]*)\ue001")
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "openai": (
        "gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "ft:*", "text-embedding-*", "omni-moderation-*", "whisper-*", "tts-*",
    ),
    "anthropic": ("claude-*",),
    "deepseek": ("deepseek-*",),
    "dashscope": ("qwen*",),
    "google": ("gemini-*",),
    "minimax": ("MiniMax-*",),
    "moonshot": ("kimi-*", "moonshot-*"),
    "zhipu": ("glm-*",),
})  # fmt: skip
"""The names that the makers of models give them, and nobody else. Hosts of others' models have none."""
_EXAMPLES: Final = MappingProxyType(
    {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5", "deepseek": "deepseek-flash", "google": "gemini-2.5-flash"}
)


class KnownProvider(NamedTuple):
    """A provider: the members of its entry, the variable that holds its key, and the name there of a model to try."""

    name: str
    variable: str
    entry: Mapping[str, Any]
    example: str | None

    @property
    def base_url(self) -> str:
        """Its base URL."""
        return str(self.entry["base_url"])


def read_known_providers(catalogue: str) -> tuple[KnownProvider, ...]:
    """The providers in the text of the shipped catalogue that relay requests and need one key."""
    document = yaml.load(_VARIABLE.sub("\ue000\\1\ue001", catalogue), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    found = []
    for entry in document["providers"]:
        variable = _SHIELDED.fullmatch(str(entry.get("api_key", "")))
        if variable is not None and entry["dialect"] in DIALECTS:
            examples = [
                source["model"]
                for model in document["models"]
                for source in (*model.get("pool", ()), *model.get("reserve", ()))
                if source["provider"] == entry["name"]
            ]
            example = _EXAMPLES.get(entry["name"]) or next(iter(examples), None)
            found.append(KnownProvider(entry["name"], variable[1], {**entry, "api_key": f"${{{variable[1]}}}"}, example))
    return tuple(found)


def one_line(value: object) -> str:
    """A value of YAML on one line, as in `{name: one, api_key: '${ONE}'}`; what only looks like another type is quoted."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return re.sub(r"\n?(\.\.\.)?\n$", "", text)
