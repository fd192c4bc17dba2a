"""This file says which requests are relayed, and in which dialect each is spoken. (Contract §2.)"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import IMAGES, route_name


class Endpoint(NamedTuple):
    """A relayed endpoint. `path` follows a provider's base path, `route` names what the configuration has that can answer.

    `takes_max_tokens` says that rule §3.4 applies, `takes_stream_options` that §3.6 does; `generates` that answers cost output
    tokens, and `is_charged` that they cost anything; `is_estimated` that the gateway answers by itself, with an estimate,
    where no source can.
    """

    name: str
    dialect: str
    path: bytes
    route: str
    takes_max_tokens: bool = False
    takes_stream_options: bool = False
    generates: bool = True
    is_charged: bool = True
    is_estimated: bool = False


_OPENAI: Final = "openai"
_ANTHROPIC: Final = "anthropic"
_ALL: Final = (
    Endpoint("chat/completions", _OPENAI, b"/chat/completions", route_name(_OPENAI, is_translated=True), True, True),
    Endpoint("completions", _OPENAI, b"/completions", _OPENAI, True, True),
    Endpoint("responses", _OPENAI, b"/responses", _OPENAI),
    Endpoint("embeddings", _OPENAI, b"/embeddings", _OPENAI, generates=False),
    Endpoint("messages", _ANTHROPIC, b"/messages", route_name(_ANTHROPIC, is_translated=True), True),
    Endpoint(
        "messages/count_tokens",
        _ANTHROPIC,
        b"/messages/count_tokens",
        _ANTHROPIC,
        generates=False,
        is_charged=False,
        is_estimated=True,
    ),
)

RELAYED: Final = MappingProxyType({b"/v1" + endpoint.path: endpoint for endpoint in _ALL})
"""Every relayed endpoint by the path at which callers reach it; the method is always POST."""

IMAGE_JOBS: Final = Endpoint("images/generations", _OPENAI, b"/images/generations", IMAGES, generates=False)
"""Where an image job begins. It is not relayed: its answer comes later. (Contract §10.)"""
