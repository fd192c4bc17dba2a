"""This file says which requests are relayed, and in which dialect each is spoken. (Contract §2.)"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

from proxy.config.snapshot import route_name


class Endpoint(NamedTuple):
    """A relayed endpoint. `path` follows a provider's base path.

    `is_translated` says that sources of another dialect can serve it as well, `takes_max_tokens` that rule §3.4 applies,
    `takes_stream_options` that §3.6 does; `generates` says that answers cost output tokens, and `is_charged` that they cost
    anything; `is_estimated` that the gateway answers by itself, with an estimate, where no source can.
    """

    name: str
    dialect: str
    path: bytes
    takes_max_tokens: bool
    takes_stream_options: bool = False
    generates: bool = True
    is_charged: bool = True
    is_translated: bool = False
    is_estimated: bool = False

    @property
    def route(self) -> str:
        """Under which name the configuration has what can answer here."""
        return route_name(self.dialect, is_translated=self.is_translated)


_ALL: Final = (
    Endpoint("chat/completions", "openai", b"/chat/completions", True, True, is_translated=True),
    Endpoint("completions", "openai", b"/completions", True, True),
    Endpoint("responses", "openai", b"/responses", False),
    Endpoint("embeddings", "openai", b"/embeddings", False, generates=False),
    Endpoint("messages", "anthropic", b"/messages", True, is_translated=True),
    Endpoint(
        "messages/count_tokens",
        "anthropic",
        b"/messages/count_tokens",
        False,
        generates=False,
        is_charged=False,
        is_estimated=True,
    ),
)

RELAYED: Final = MappingProxyType({b"/v1" + endpoint.path: endpoint for endpoint in _ALL})
"""Every relayed endpoint by the path at which callers reach it; the method is always POST."""
