"""Asks a provider for the list of its models, and reads the answer; dialects differ little in it. (Contract §6.)"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from kyma_proxy.config.snapshot import Provider
from kyma_proxy.dialect.answers.usage import repaired
from kyma_proxy.dialect.registry import DIALECTS

_PATH: Final = b"/models"
_LONG_PREFIX: Final = "models/"  # Google lists its models with it, and takes them without
_LENGTHS: Final = ("context_length", "context_window", "max_model_len", "max_input_tokens")


class ListedModel(NamedTuple):
    """A model as a provider lists it; `created` is Unix time."""

    name: str
    created: int
    owned_by: str | None
    context_window: int | None


class _Entry(msgspec.Struct):
    id: Any = None
    created: Any = None
    owned_by: Any = None
    context_length: Any = None
    context_window: Any = None
    max_model_len: Any = None
    max_input_tokens: Any = None


class _List(msgspec.Struct):
    data: list[_Entry]


_decode: Final = msgspec.json.Decoder(_List | list[_Entry]).decode


def list_request(provider: Provider) -> bytes:
    """The bytes of the request."""
    fields = b"".join([b"%b: %b\r\n" % field for field in provider.default_fields])
    query = b"&".join(filter(None, (provider.query, DIALECTS[provider.dialect].whole_list)))
    target = provider.base_path + _PATH + (b"?" + query if query else b"")
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target, provider.header_lines, fields)


def read_list(body: bytes, most: int) -> tuple[ListedModel, ...]:
    """The first models of a list, `most` at most. Raises ValueError if it is no list of models."""
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        better = repaired(body)  # one odd value takes no model off the list
        if better is None:
            raise ValueError("the answer is no list of models") from None
        return read_list(better, most)
    entries = found.data if isinstance(found, _List) else found
    models = [_model(one) for one in entries[:most] if isinstance(one.id, str) and one.id]
    return tuple({one.name: one for one in models}.values())


def _model(entry: _Entry) -> ListedModel:
    lengths = [_positive(getattr(entry, name)) for name in _LENGTHS]
    owner = entry.owned_by if isinstance(entry.owned_by, str) and entry.owned_by else None
    name = entry.id.removeprefix(_LONG_PREFIX)
    return ListedModel(name, _positive(entry.created) or 0, owner, next((one for one in lengths if one), None))


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None
