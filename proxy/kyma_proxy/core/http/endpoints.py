"""Describes the endpoints at which callers are served. Each dialect lists its own. (Contract §2.)"""

from __future__ import annotations

from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import IMAGES, route_name


class Endpoint(NamedTuple):
    """A relayed endpoint; the method is POST. `path` follows a provider's base path, and `/v1` for callers.

    `is_translated`: sources of other dialects may answer, in translation. `takes_max_tokens` says that contract §3.4 applies,
    `takes_stream_options` that §3.6 does; `generates` that answers cost output tokens, and `is_charged` that they cost
    anything; `is_estimated` that the gateway answers by itself, with an estimate, if no source can.
    """

    name: str
    dialect: str
    path: bytes
    is_translated: bool = False
    takes_max_tokens: bool = False
    takes_stream_options: bool = False
    generates: bool = True
    is_charged: bool = True
    is_estimated: bool = False
    route: str = ""
    """The name of the routes of its callers; see `endpoint`."""


def endpoint(
    name: str, dialect: str, *, is_translated: bool = False, takes_max_tokens: bool = False,
    takes_stream_options: bool = False, generates: bool = True, is_charged: bool = True, is_estimated: bool = False,
) -> Endpoint:  # fmt: skip
    """The endpoint of this name, with its path and its routes."""
    return Endpoint(
        name, dialect, b"/" + name.encode(), is_translated, takes_max_tokens, takes_stream_options, generates, is_charged,
        is_estimated, route_name(dialect, is_translated=is_translated),
    )  # fmt: skip


IMAGE_JOBS: Final = Endpoint("images/generations", "openai", b"/images/generations", generates=False, route=IMAGES)
"""Where an image job begins. It is not relayed: its answer comes later. (Contract §10.)"""
