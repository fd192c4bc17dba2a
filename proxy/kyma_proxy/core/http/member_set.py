"""Remembers what follows from the names of a body's members: most requests have the same as one before. (Contract §3.)"""

from __future__ import annotations

from typing import Final

import msgspec

from kyma_proxy.core.accounts.extras import COSTLY_MEMBERS
from kyma_proxy.core.http.body_shape import shape_of
from kyma_proxy.core.http.member_names import check_names, check_stream_options

MAX_TOKENS: Final = ("max_tokens", "max_completion_tokens")
"""The names under which a request says how long an answer may be; `responses` has another one."""
_COPIES: Final = frozenset({"n", "prompt", "best_of"})
_MAX_REMEMBERED: Final = 256
_MAX_REMEMBERED_CHARACTERS: Final = 1024


class MemberSet:
    """The names of a body's members, in their order; none is misspelt.

    `bytes_beside` is the size of the body without its values and without white space, and `model_at` the place of `model` among
    the members; the value of `model` follows `bytes_before` bytes and the values before it. `max_tokens` are those names of
    MAX_TOKENS that are there. `has_copies`: a member says how many answers are wanted; `is_costly`: one costs more than tokens.
    `shape` is the key of the endpoint that alone takes such members, as of `shape_of`.
    """

    __slots__ = (
        "bytes_before", "bytes_beside", "has_copies", "has_max_output_tokens", "has_stream", "has_stream_options", "is_costly",
        "max_tokens", "model_at", "shape",
    )  # fmt: skip

    def __init__(self, names: tuple[str, ...]) -> None:
        self.model_at = names.index("model") if "model" in names else -1
        self.bytes_before = sum([len(name) + 4 for name in names[: self.model_at + 1]])
        self.bytes_beside = 1 + sum([len(name) + 4 for name in names])
        self.has_stream = "stream" in names
        self.has_stream_options = "stream_options" in names
        self.max_tokens = tuple([name for name in MAX_TOKENS if name in names])
        self.has_max_output_tokens = "max_output_tokens" in names
        self.has_copies = not _COPIES.isdisjoint(names)
        self.shape = shape_of(names)
        self.is_costly = not COSTLY_MEMBERS.isdisjoint(names)


_known: Final[dict[tuple[str, ...], MemberSet]] = {}


def member_set(members: dict[str, msgspec.Raw]) -> MemberSet:
    """The names of these members. Raises GatewayError if one is misspelt (`check_names`)."""
    names = tuple(members)
    known = _known.get(names)
    if known is not None:
        if known.has_stream_options:
            check_stream_options(bytes(members["stream_options"]))
        return known
    check_names(members)
    made = MemberSet(names)
    if sum([len(name) for name in names]) <= _MAX_REMEMBERED_CHARACTERS:
        if len(_known) >= _MAX_REMEMBERED:
            _known.clear()  # by callers who send others each time; those that are usual are soon here again
        _known[names] = made
    return made
