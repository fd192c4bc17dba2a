"""Compiles `move_on`: the errors that lead to the next source. (Contract §9.)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kyma_proxy.config import snapshot as snap
from kyma_proxy.loading import document as doc


def compile_error_rules(entries: Iterable[doc.ErrorRule]) -> tuple[snap.ErrorRule, ...]:
    """The rules of a source, its own and its provider's."""
    return tuple(snap.ErrorRule(one.status, one.code, None if one.message is None else one.message.lower()) for one in entries)


def find_empty_rules(entries: Iterable[tuple[int, doc.ErrorRule]]) -> Iterator[tuple[str, str]]:
    """The problem of each rule that would fit every error: where it stands in its entry, and what is wrong."""
    for at, entry in entries:
        if entry.status is None and entry.code is None and entry.message is None:
            yield f"move_on[{at}]", "must have a status, a code or a message"
