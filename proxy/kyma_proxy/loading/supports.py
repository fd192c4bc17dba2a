"""Compiles what a source takes from what its provider, its model and the source itself say. (Contract §12.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from kyma_proxy.config.supports import Supports, innermost, longest_first, of_model
from kyma_proxy.loading import document as doc


class SourceSupports(NamedTuple):
    """The parameters that a source takes; of a source for many models also by the names of some."""

    supports: Supports
    by_model: tuple[tuple[str, Supports], ...]


def compile_supports(provider: doc.Provider, model: doc.Supports, source: doc.Source) -> SourceSupports:
    """The parameters that a source takes: the source decides, then its model, the provider for that model, the provider."""
    base, inner = _read(provider.supports), (_read(model), _read(source.supports))
    entries = _sorted(provider.supports_by_model)
    by_model = [
        (pattern, innermost(base, *[_read(one) for outer, one in reversed(entries) if _covers(outer, pattern)], *inner))
        for pattern, _ in entries
    ]
    supports = innermost(base, *inner)
    if source.model.endswith("*"):
        return SourceSupports(supports, tuple(by_model))
    return SourceSupports(of_model(source.model, by_model, supports), ())


def _covers(outer: str, pattern: str) -> bool:
    """True if every name that fits `pattern` fits the other, too."""
    return outer == pattern or (outer.endswith("*") and pattern.startswith(outer[:-1]))


def _sorted(written: Mapping[str, doc.Supports]) -> list[tuple[str, doc.Supports]]:
    entries = [(pattern, one) for pattern, one in written.items() if isinstance(one, doc.Supports)]
    return sorted(entries, key=lambda entry: longest_first(entry[0]))


def _read(written: doc.Supports) -> Supports:
    """The members that are written; a list may have lost entries that were mistakes."""
    specified: dict[str, Any] = {}
    for name in Supports._fields:
        value = getattr(written, name)
        if isinstance(value, tuple):
            specified[name] = tuple([one for one in value if one is not msgspec.UNSET])
        elif value is not msgspec.UNSET:
            specified[name] = value
    return Supports(**specified)
