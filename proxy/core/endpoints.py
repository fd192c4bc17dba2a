"""This file says which requests are relayed, and in which dialect each is spoken. (Contract §2.)"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple


class Endpoint(NamedTuple):
    """A relayed endpoint. `path` follows a provider's base path; `takes_max_tokens` says that rule §3.4 applies."""

    name: str
    dialect: str
    path: bytes
    takes_max_tokens: bool


_ALL: Final = (
    Endpoint("chat/completions", "openai", b"/chat/completions", True),
    Endpoint("completions", "openai", b"/completions", True),
    Endpoint("responses", "openai", b"/responses", False),
    Endpoint("embeddings", "openai", b"/embeddings", False),
    Endpoint("messages", "anthropic", b"/messages", True),
    Endpoint("messages/count_tokens", "anthropic", b"/messages/count_tokens", False),
)

RELAYED: Final = MappingProxyType({b"/v1" + endpoint.path: endpoint for endpoint in _ALL})
"""Every relayed endpoint by the path at which callers reach it; the method is always POST."""
