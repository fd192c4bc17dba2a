"""Refuses members of a body that differ only in case from those by which the gateway decides. (Contract §3.)

They are refused for all callers, whether they stand beside the right spelling or alone: a provider may obey them or not.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from kyma_proxy.core.accounts.extras import COSTLY_MEMBERS
from kyma_proxy.core.spelling import Spellings
from kyma_proxy.errors import GatewayError, Kind

_READ: Final = (
    *COSTLY_MEMBERS,
    "best_of", "input", "max_completion_tokens", "max_output_tokens", "max_tokens", "messages", "model", "n", "reasoning",
    "reasoning_effort", "store", "stream", "stream_options", "system", "thinking",
)  # fmt: skip
_USUAL: Final = (
    "cache_control", "dimensions", "encoding_format", "frequency_penalty", "include", "instructions", "logit_bias", "logprobs",
    "metadata", "output_config", "parallel_tool_calls", "presence_penalty", "prompt_cache_key", "response_format",
    "safety_identifier", "seed", "stop", "stop_sequences", "temperature", "text", "tool_choice", "top_k", "top_logprobs",
    "top_p", "truncation", "user", "verbosity",
)  # fmt: skip
_SPELLINGS: Final = Spellings(_READ, _USUAL)
_KNOWN: Final = _SPELLINGS.usual
_IN_STREAM_OPTIONS: Final = Spellings(("include_usage",))
_USUAL_STREAM_OPTIONS: Final = frozenset({
    b"null", b'{"include_usage":true}', b'{"include_usage": true}', b'{"include_usage":false}', b'{"include_usage": false}',
})  # fmt: skip
_MAX_STREAM_OPTIONS_BYTES: Final = 4096


def check_names(members: dict[str, msgspec.Raw]) -> None:
    """Raises GatewayError if a member of a body, or one of its `stream_options`, is spelled as no provider defines it."""
    if not _KNOWN.issuperset(members):
        other = _SPELLINGS.other(members)
        if other is not None:
            raise _misspelt(other[1], other[1])
    if "stream_options" in members:
        check_stream_options(bytes(members["stream_options"]))


def check_stream_options(options: bytes) -> None:
    """Raises GatewayError if a member is misspelt, or is there twice: which of them counts is up to the provider."""
    if options in _USUAL_STREAM_OPTIONS:
        return
    if len(options) > _MAX_STREAM_OPTIONS_BYTES:
        raise _refused(f"`stream_options` has more than {_MAX_STREAM_OPTIONS_BYTES} bytes; send fewer.", "stream_options")
    names: list[str] = []
    try:
        value = json.loads(options, object_pairs_hook=lambda pairs: [name for name, _ in pairs])
    except (ValueError, RecursionError):
        return
    if options.startswith(b"{"):
        names = value
    other = _IN_STREAM_OPTIONS.other(names)
    if other is not None:
        raise _misspelt("include_usage", "stream_options")
    if len(set(names)) < len(names):
        raise _refused("`stream_options` contains the same member twice; send it once.", "stream_options")


def _misspelt(name: str, param: str) -> GatewayError:
    return _refused(f"The body has a member that differs from `{name}` only in case; write it as `{name}`, once.", param)


def _refused(message: str, param: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, message, param=param)
