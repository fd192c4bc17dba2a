"""Describes the endpoints at which callers are served. Each dialect lists its own. (Contract §2.)"""

from __future__ import annotations

from typing import Any, Final

from kyma_proxy.config.snapshot import IMAGES


class Endpoint:
    """An endpoint; the method is POST. `path` follows a provider's base path, and `/v1` for callers.

    - `key`: its name in YAML and in `/v1/status`, and of the routes of its callers.
    - `summary` and `reference`: what it does, and the URL of its documentation.
    - `streams`: its answers may be event streams.
    - `takes_max_tokens`: contract §3.4 applies; `renames_max_tokens`: under the source's `max_tokens_field`.
    - `takes_stream_options`: contract §3.6 applies.
    - `generates`: answers cost output tokens; `is_charged`: they cost anything.
    - `is_estimated`: the gateway answers by itself, with an estimate, if no source can.
    - `cleaning`: removes from a request what translations have left in it (`dialect/contract.py`); None if none leave anything.
    """

    __slots__ = (
        "cleaning", "dialect", "generates", "is_charged", "is_estimated", "key", "name", "path", "reference",
        "renames_max_tokens", "streams", "summary", "takes_max_tokens", "takes_stream_options",
    )  # fmt: skip

    def __init__(
        self, name: str, dialect: str, summary: str, reference: str, *, streams: bool = False,
        takes_max_tokens: bool = False, renames_max_tokens: bool = False, takes_stream_options: bool = False,
        generates: bool = True, is_charged: bool = True, is_estimated: bool = False, key: str | None = None,
        cleaning: Any = None,
    ) -> None:  # fmt: skip
        """`key` is the name, unless it is given."""
        self.name = name
        self.key = name if key is None else key
        self.dialect = dialect
        self.summary = summary
        self.reference = reference
        self.path = b"/" + name.encode()
        self.streams = streams
        self.takes_max_tokens = takes_max_tokens
        self.renames_max_tokens = renames_max_tokens
        self.takes_stream_options = takes_stream_options
        self.generates = generates
        self.is_charged = is_charged
        self.is_estimated = is_estimated
        self.cleaning = cleaning

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of: compiled, nothing else is known of it."""
        flags = {
            "streams": self.streams, "takes_max_tokens": self.takes_max_tokens, "renames_max_tokens": self.renames_max_tokens,
            "takes_stream_options": self.takes_stream_options, "generates": self.generates, "is_charged": self.is_charged,
            "is_estimated": self.is_estimated, "key": self.key, "cleaning": self.cleaning,
        }  # fmt: skip
        return _endpoint, (self.name, self.dialect, self.summary, self.reference, flags)


def _endpoint(name: str, dialect: str, summary: str, reference: str, flags: dict[str, Any]) -> Endpoint:
    return Endpoint(name, dialect, summary, reference, **flags)


PUBLIC_FORMS: Final = frozenset({b"/v1/auth/register"})
"""The paths at which anybody may post a body, without a key."""
MAX_FORM_BYTES: Final = 64 * 1024
"""The largest body of a form of the control plane."""

IMAGE_JOBS: Final = Endpoint(
    "images/generations", "openai", "Start an image job.",
    "https://platform.openai.com/docs/api-reference/images/create", generates=False, key=IMAGES,
)  # fmt: skip
"""Where an image job begins. It is not relayed: its answer comes later. (Contract §10.)"""
