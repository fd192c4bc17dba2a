"""Compiles the entries of `models` whose id is a pattern, such as `groq/*`, and the short form of a pool. (Contract §12.)"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

import msgspec

from kyma_proxy.config import snapshot as snap
from kyma_proxy.core.routing.patterns import MAX_ID_CHARACTERS, model_of
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.prices import compile_price


def is_pattern(model_id: str) -> bool:
    """True if an id stands for many."""
    return model_id.endswith("*")


def with_pool(entry: doc.Model) -> doc.Model:
    """The entry with its pool written out: `provider` alone stands for one source, which is asked for the model by its id.

    A pattern's prefix up to its last slash names the provider, and is no part of the id there.
    """
    if entry.pool is not None or entry.provider is None:
        return entry
    asked = entry.id.rpartition("/")[2] if is_pattern(entry.id) else entry.id
    return msgspec.structs.replace(entry, pool=(doc.Source(entry.provider, asked),))


def find_pool_problems(entry: doc.Model, *, has_accounts: bool, has_pool: bool) -> Iterator[tuple[str, str]]:
    """The mistakes in what an entry says about its sources: for each the path in the entry and a message."""
    if entry.provider is not None and has_pool:
        yield "provider", "stands for a pool of one source; leave it or `pool` out"
    elif entry.provider is None and not has_pool:
        yield "", "pool is missing; `provider: NAME` will do if it has the model under the same id"
    if not is_pattern(entry.id):
        if entry.prices:
            yield "prices", "is for a pattern's ids; a single model has a `price`"
        for where, source in _written(entry):
            if source.model.endswith("*"):
                yield f"{where}.model", "has a `*`, which stands for the rest of a pattern's id, and this id is no pattern"
        return
    if "image" in entry.output_modalities:
        yield "output_modalities", "a pattern can't have image models; give each an entry of its own"
    for name in entry.prices:
        if not name.startswith(entry.id[:-1]) or len(name) > MAX_ID_CHARACTERS:
            yield f"prices.{name}", f"is no id that {entry.id} stands for"
    price = entry.price
    measured = price.per_minute, price.per_million_characters, price.per_request
    is_complete = (price.input is not None and price.output is not None) or measured != (None, None, None)
    if has_accounts and not is_complete and not entry.prices:
        yield (
            "price",
            "callers pay, so the models need prices: `price: {input: …, output: …}` for all of them, or `prices` for some; "
            "the others are refused then",
        )


def compile_patterns(models: Mapping[str, snap.Model], entries: Iterable[doc.Model]) -> tuple[snap.Pattern, ...]:
    """The patterns among the models, the longest prefix first; `entries` are the written ones."""
    patterns = []
    for entry in entries:
        model = models.get(entry.id)
        if model is not None and is_pattern(entry.id):
            dialects = [source.provider.dialect for source in (*model.pool, *model.reserve)]
            prices = {name: compile_price(price, dialects) for name, price in entry.prices.items()}
            patterns.append(snap.Pattern(prefix=entry.id[:-1], model=model, prices=prices))
    return tuple(sorted(patterns, key=lambda one: -len(one.prefix)))


def name_models(names: Iterable[str], models: Collection[str], patterns: tuple[snap.Pattern, ...]) -> dict[str, snap.Model]:
    """The models among `names` that only patterns know. As the configuration names them, each is counted by itself."""
    found: dict[str, snap.Model] = {}
    for name in names:
        pattern = next((one for one in patterns if name.startswith(one.prefix) and len(name) > len(one.prefix)), None)
        if pattern is not None and name not in models and not is_pattern(name):
            found[name] = replace(model_of(pattern, name) or pattern.model, counted_as=name)
    return found


def _written(entry: doc.Model) -> Iterator[tuple[str, doc.Source]]:
    for part, sources in (("pool", entry.pool or ()), ("reserve", entry.reserve)):
        for at, source in doc.present(sources):
            yield f"{part}[{at}]", source
