"""Compiles `move_on`: the errors of a provider that lead to the next source. (Contract §9.)"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kyma_proxy.config import snapshot as snap
from kyma_proxy.loading import document as doc


def compile_error_rules(
    entries: Iterable[tuple[int, doc.ErrorRule]], report: Callable[[int, str], None]
) -> tuple[snap.ErrorRule, ...]:
    """The rules of a provider; `report` takes the index of a rule and what is wrong with it."""
    rules: list[snap.ErrorRule] = []
    for at, entry in entries:
        if entry.status is None and entry.code is None and entry.message is None:
            report(at, "must have a status, a code or a message")
        rules.append(snap.ErrorRule(entry.status, entry.code, None if entry.message is None else entry.message.lower()))
    return tuple(rules)
