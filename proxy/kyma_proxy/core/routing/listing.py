"""Finds the ids under which callers reach the models that a provider lists: the reverse of a pattern. (Contract §6.)"""

from __future__ import annotations

from kyma_proxy.config.snapshot import Model, Pattern, Snapshot
from kyma_proxy.core.routing.patterns import model_of, pattern_of


def listed_model(snapshot: Snapshot, provider: str, name: str) -> Model | None:
    """The model that a provider lists as `name`, under the shortest id that leads there; None if no pattern does.

    An id of the configuration, or one that a longer prefix takes elsewhere, does not.
    """
    found: list[tuple[str, Pattern]] = []
    for pattern in snapshot.patterns:
        for source in pattern.model.pool:
            beginning = source.model[:-1]
            if source.provider.name == provider and source.model.endswith("*") and name.startswith(beginning):
                ident = pattern.prefix + name[len(beginning) :]
                if ident not in snapshot.models and ident not in snapshot.aliases and pattern_of(snapshot, ident) is pattern:
                    found.append((ident, pattern))
    if not found:
        return None
    ident, pattern = min(found, key=lambda one: len(one[0]))
    return model_of(pattern, ident, needs_price=snapshot.accounts.required)
