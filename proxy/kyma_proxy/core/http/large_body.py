"""Bounds the reading of large bodies: neither their members nor their density may hold the loop or fill the memory.

msgspec steps over a value at 0.5 to 6 GB/s, whatever it is, unless it makes an object of each member: a table of three million
members takes two seconds and half a gigabyte. So before a table is made it is known that there are few. What remains is done in
slices of some milliseconds, with the loop's other work in between.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import msgspec

from kyma_proxy.core.http.structure import ValueCounter
from kyma_proxy.errors import GatewayError, Kind

LARGE_BYTES: Final = 128 * 1024
"""A body of no more is read at once: the worst of them takes some 20 ms."""
MAX_MEMBERS: Final = 1000
MAX_NAME_CHARACTERS: Final = 256
_MAX_COLONS: Final = 20_000
_DENSE_BYTES: Final = 8 * 2**20
"""A body of no more can't be so dense that to step over it takes long."""
_MAX_MARKS: Final = 4_000_000
_SLICE_BYTES: Final = 2 * 2**20
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NOTHING: Final = msgspec.Raw(b"")
_LARGE_NAMES: Final = (
    "messages", "input", "prompt", "system", "tools", "functions", "documents", "response_format", "output_config", "text",
    "instructions", "image_url", "image_urls", "mcp_servers", "metadata", "prediction", "logit_bias", "suffix", "texts",
    "contents", "container", "context_management", "guided_json", "query", "extra_body",
)  # fmt: skip
_large_values: Final = msgspec.json.Decoder(
    msgspec.defstruct("_LargeValues", [(name, msgspec.Raw, _NOTHING) for name in _LARGE_NAMES], gc=False)
).decode


def large_members(body: bytes) -> Generator[None, None, dict[str, msgspec.Raw]]:
    """The members of a large body, in slices. Raises GatewayError if there are too many, and what msgspec raises."""
    yield from _check_structure(body)
    members = _members(body)
    check_members(members)
    return members


def _check_structure(body: bytes) -> Generator[None, None, None]:
    """Raises GatewayError if a body has too many members, or so many values that no part of it can be stepped over quickly.

    Most bodies have few marks of a structure, wherever these stand. Only in others those in strings are told apart.
    """
    may_be_dense = len(body) > _DENSE_BYTES
    colons = marks = 0
    for start in range(0, len(body), _SLICE_BYTES):
        end = start + _SLICE_BYTES
        found = body.count(b":", start, end)
        colons += found
        if may_be_dense:  # a member has a comma and a colon: it takes twice as long as an element
            marks += found + body.count(b",", start, end) + body.count(b"{", start, end) + body.count(b"[", start, end)
        yield
    if colons <= _MAX_COLONS and marks <= _MAX_MARKS:
        return
    counter = yield from _counted(body)
    if may_be_dense and counter.values + counter.colons > _MAX_MARKS:
        raise GatewayError(
            Kind.INVALID_REQUEST,
            f"The body has more than {_MAX_MARKS} commas, colons and brackets outside of its texts; no model reads as much.",
        )
    colons = counter.colons
    if colons > _MAX_COLONS:
        known = _large_values(body)
        yield
        for name in _LARGE_NAMES:
            inner = yield from _counted(bytes(getattr(known, name)))
            colons -= inner.colons
        if colons > _MAX_COLONS:
            raise GatewayError(Kind.INVALID_REQUEST, "The body has too many members outside of its prompt; send fewer.")


def _counted(text: bytes) -> Generator[None, None, ValueCounter]:
    counter = ValueCounter(text, _MAX_MARKS)
    while not counter.is_done:
        counter.step()
        yield
    return counter


def check_members(members: dict[str, msgspec.Raw]) -> None:
    """Refuse a body with too many members, or with a name that is too long to be one. Raises GatewayError."""
    if len(members) > MAX_MEMBERS:
        raise GatewayError(Kind.INVALID_REQUEST, f"The body has more than {MAX_MEMBERS} members.")
    if max(map(len, members), default=0) > MAX_NAME_CHARACTERS:
        raise GatewayError(
            Kind.INVALID_REQUEST, f"The body has a member whose name is longer than {MAX_NAME_CHARACTERS} characters."
        )
