"""Describes the endpoints at which callers are served. Each dialect lists its own. (Contract §2.)"""

from __future__ import annotations

from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import IMAGES, route_name


class Endpoint(NamedTuple):
    """A relayed endpoint; the method is POST. `path` follows a provider's base path, and `/v1` for callers.

    - `is_translated`: sources of other dialects may answer, in translation.
    - `takes_max_tokens`: contract §3.4 applies; `renames_max_tokens`: under the source's `max_tokens_field`.
    - `takes_stream_options`: contract §3.6 applies.
    - `generates`: answers cost output tokens; `is_charged`: they cost anything.
    - `is_estimated`: the gateway answers by itself, with an estimate, if no source can.
    - `route`: the name of the routes of its callers; see `endpoint`.
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
    renames_max_tokens: bool = False
    route: str = ""


def endpoint(
    name: str, dialect: str, *, is_translated: bool = False, takes_max_tokens: bool = False,
    takes_stream_options: bool = False, generates: bool = True, is_charged: bool = True, is_estimated: bool = False,
    renames_max_tokens: bool = False,
) -> Endpoint:  # fmt: skip
    """The endpoint of this name, with its path and its routes."""
    return Endpoint(
        name, dialect, b"/" + name.encode(), is_translated, takes_max_tokens, takes_stream_options, generates, is_charged,
        is_estimated, renames_max_tokens, route_name(dialect, is_translated=is_translated),
    )  # fmt: skip


IMAGE_JOBS: Final = Endpoint("images/generations", "openai", b"/images/generations", generates=False, route=IMAGES)
"""Where an image job begins. It is not relayed: its answer comes later. (Contract §10.)"""
