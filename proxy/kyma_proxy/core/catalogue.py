"""Builds the public documents of the configuration: models, prices, tiers, capabilities. (Contract §6, §7.)

Each document is encoded once per snapshot and has an ETag.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Collection, Generator
from dataclasses import replace
from typing import Final

import msgspec
import orjson

from kyma_proxy.config.snapshot import NANO, Model, Price, Snapshot
from kyma_proxy.core.accounts.quantities import is_measured
from kyma_proxy.core.http.endpoints import IMAGE_EDITS, IMAGE_JOBS, Endpoint
from kyma_proxy.core.jobs.job import EXPIRES_AFTER_S, STATUSES
from kyma_proxy.core.routing.patterns import model_of, pattern_of


class Page(msgspec.Struct, frozen=True):
    """An encoded document. `max_age` is in seconds; None if caches must revalidate it each time."""

    body: bytes
    etag: str
    max_age: int | None


class Catalogue:
    """All public documents of one snapshot. `make_catalogue` makes it."""

    def __init__(
        self, snapshot: Snapshot, listed: tuple[Model, ...], entries: dict[str, bytes], pages: tuple[Page, ...]
    ) -> None:
        self._snapshot: Final = snapshot
        self._listed_patterns: Final = frozenset(model.counted_as for model in listed)
        self._entries: Final = entries
        self._pages: Final[dict[str, Page]] = {}
        self.models, self.pricing, self.tiers, self.capabilities = pages

    def model(self, name: str) -> Page | None:
        """The page of a model, by its id or an alias; None if there is no such model.

        A model that only a pattern knows is there if its provider lists it, or if no list is known.
        """
        name = self._snapshot.aliases.get(name, name)
        entry = self._entries.get(name)
        if entry is not None:
            if name not in self._pages:
                self._pages[name] = _page([entry])
            return self._pages[name]
        pattern = pattern_of(self._snapshot, name)
        if pattern is None or pattern.model.id in self._listed_patterns:
            return None
        model = model_of(pattern, name, needs_price=self._snapshot.accounts.required)
        return None if model is None else make_page(_model(model))


def make_catalogue(
    snapshot: Snapshot, logged_fields: tuple[str, ...], relayed: Collection[Endpoint], listed: tuple[Model, ...] = ()
) -> Generator[None, None, Catalogue]:
    """Make the catalogue in small steps, as there may be thousands of models.

    `listed` are models that only patterns know, and that their providers list.
    """
    entries: dict[str, bytes] = {}
    for model in itertools.chain(listed, snapshot.models.values()):
        entries[model.id] = orjson.dumps(_model(model))
        yield
    names = [*snapshot.models, *(model.id for model in listed if model.id not in snapshot.models)]
    aliases = orjson.dumps({"aliases": dict(snapshot.aliases)})
    yield
    models = yield from _joined(b'{"object":"list","data":[', [entries[name] for name in names], b"]," + aliases[1:])
    pricing = yield from _pricing(snapshot)
    pages = (
        models, pricing, make_page(_tiers(snapshot), max_age=300),
        make_page(_capabilities(snapshot, logged_fields, relayed)),
    )  # fmt: skip
    yield
    return Catalogue(snapshot, listed, entries, pages)


def make_page(document: object, *, max_age: int | None = None) -> Page:
    """Encodes a document. Equal documents have equal ETags."""
    return _page([orjson.dumps(document)], max_age=max_age)


def _page(parts: list[bytes], *, max_age: int | None = None) -> Page:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return Page(b"".join(parts), _etag(digest.hexdigest()), max_age)


def _joined(begin: bytes, items: list[bytes], end: bytes, *, max_age: int | None = None) -> Generator[None, None, Page]:
    """A page with these encoded items in an array."""
    digest, parts = hashlib.sha256(begin), [begin]
    for at, item in enumerate(items):
        part = b"," + item if at else item
        digest.update(part)
        parts.append(part)
        yield
    digest.update(end)
    parts.append(end)
    return Page(b"".join(parts), _etag(digest.hexdigest()), max_age)


def _etag(digest: str) -> str:
    return f'"{digest[:24]}"'


def _usd(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO


def _by(price: Price) -> dict[str, object]:
    """The prices of variants, as a configuration writes them; nothing if there are none."""
    by: dict[str, dict[str, float | None]] = {}
    for variant in price.by:
        by.setdefault("+".join(variant.members), {})["+".join(variant.values)] = _usd(variant.price)
    return {"by": by} if by else {}


def _model(model: Model) -> dict[str, object]:
    price = model.price
    tokens: dict[str, object] = {
        "input": _usd(price.input), "output": _usd(price.output), "cached_input": _usd(price.cached_input),
    }  # fmt: skip
    pricing: dict[str, object] = {"mode": "per_token", **tokens}
    if model.is_image:
        pricing = {"mode": "per_image", "per_image_usd": _usd(price.image), **_by(price)}
    elif is_measured(price):
        pricing = {"mode": _mode(price), **_measured(price), **tokens}
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "name": model.name,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "gateway_output_limit": None,
        "max_tokens_passthrough": True,
        "supports_tools": model.supports_tools,
        "supports_caching": model.supports_caching,
        "input_modalities": model.input_modalities,
        "output_modalities": model.output_modalities,
        "release_stage": model.release_stage,
        "pricing": pricing,
    }


def _mode(price: Price) -> str:
    """The first of the quantities that have a price beside tokens."""
    if price.per_minute is not None:
        return "per_minute"
    return "per_request" if price.per_million_characters is None else "per_character"


def _measured(price: Price) -> dict[str, object]:
    return {
        "per_minute_usd": _usd(price.per_minute), "per_1m_characters_usd": _usd(price.per_million_characters),
        "per_request_usd": _usd(price.per_request),
    }  # fmt: skip


def _pricing(snapshot: Snapshot) -> Generator[None, None, Page]:
    text: list[bytes] = []
    media: list[bytes] = []
    for model in sorted((*snapshot.entries, *_priced_apart(snapshot)), key=operator.attrgetter("id")):
        if model.is_image:
            media.append(orjson.dumps(_price_of_image(model)))
        elif is_measured(model.price):
            media.append(orjson.dumps(_price_measured(model)))
        else:
            text.append(orjson.dumps(_price(model)))
        yield
    counts = b'"text_count":%d,"media_count":%d' % (len(text), len(media))
    end = b'],"media":[' + b",".join(media) + b"]}"
    return (yield from _joined(b'{"object":"pricing.catalog",' + counts + b',"text":[', text, end, max_age=60))


def _price(model: Model) -> dict[str, object]:
    return {
        "id": model.id,
        "name": model.name,
        "input_per_1m": _usd(model.price.input),
        "output_per_1m": _usd(model.price.output),
        "cached_input_per_1m": _usd(model.price.cached_input),
    }


def _price_of_image(model: Model) -> dict[str, object]:
    return {
        "id": model.id,
        "name": model.name,
        "modality": "image",
        "pricing_mode": "per_image",
        "usd_per_call": _usd(model.price.image),
        **_by(model.price),
    }


def _price_measured(model: Model) -> dict[str, object]:
    has_sound = "audio" in (*model.input_modalities, *model.output_modalities)
    return {
        "id": model.id,
        "name": model.name,
        "modality": "audio" if has_sound else "text",
        "pricing_mode": _mode(model.price),
        "usd_per_call": _usd(model.price.per_request),
        "usd_per_minute": _usd(model.price.per_minute),
        "usd_per_1m_characters": _usd(model.price.per_million_characters),
    }


def _priced_apart(snapshot: Snapshot) -> list[Model]:
    """Models of a pattern that have a price of their own, or some of them with a `*`."""
    return [
        replace(pattern.model, id=name, name=name, price=price)
        for pattern in snapshot.patterns
        for name, price in pattern.prices.items()
        if name not in snapshot.models
    ]


def _tiers(snapshot: Snapshot) -> dict[str, object]:
    tiers = [
        {
            "tier": tier.tier,
            "name": tier.name,
            "min_deposit": _usd(tier.min_purchased),
            "rpm": tier.rpm,
            "per_model_rpm": tier.per_model_rpm,
            "tpm": tier.tpm,
            "max_single_request": tier.max_request_tokens,
            "image_concurrent": tier.image_concurrent,
            "image_queue_depth_cap": tier.image_queue,
        }
        for tier in snapshot.tiers
    ]
    return {"object": "tier.matrix", "tiers": tiers}


def _images(snapshot: Snapshot) -> dict[str, object]:
    return {
        "expires_after_s": EXPIRES_AFTER_S,
        "statuses": STATUSES,
        "note": "Poll an image job at /v1/jobs/{id}, or wait for it with `Prefer: wait=N`; delivered images are charged.",
        "models": [
            {
                "id": model.id,
                "sizes": model.image.sizes,
                "most_images": model.image.most,
                "needs_image_url": model.image.needs_image,
                "most_input_images": model.image.most_input_images if "image" in model.input_modalities else 0,
                "extra": model.image.extra,
            }
            for model in snapshot.models.values()
            if model.is_image
        ],
    }


def _capabilities(snapshot: Snapshot, logged_fields: tuple[str, ...], relayed: Collection[Endpoint]) -> dict[str, object]:
    return {
        "object": "capabilities",
        "gateway_output_limit": None,
        "max_tokens_passthrough": True,
        "default_max_tokens": snapshot.max_tokens,
        "endpoints": [
            {"path": f"/v1{endpoint.path.decode()}", "method": "POST", "dialect": endpoint.dialect}
            for endpoint in (*dict.fromkeys(relayed), IMAGE_JOBS, IMAGE_EDITS)
        ],
        "dialects": sorted({endpoint.dialect for endpoint in relayed}),
        "images": _images(snapshot),
        "streaming": {
            "passthrough": "unchanged",
            "note": "Server-sent events are passed on byte for byte, piece by piece; nothing is re-serialised or added. "
            "If a source speaks another dialect than the caller, they are translated one by one.",
        },
        "fallback": {
            "layers": {
                "1": "same model, another source of its pool",
                "2": "same model, from its reserve",
                "3": "another model of equal quality",
            },
            "headers": ["x-kyma-fallback", "x-kyma-fallback-layer"],
        },
        "headers": {
            "x-request-id": "the caller's id if it is valid, else a new one",
            "x-kyma-model": "the catalogue id of the model that answered",
            "x-kyma-alias": "the alias that the request named, only when it named one",
            "x-kyma-fallback": "true, only when a fallback answered",
            "x-kyma-fallback-layer": "the layer of the source that answered, only when a fallback did",
            "x-kyma-dropped": "members that have no place in the other dialect, of the request or (`answer`) of a whole answer",
            "x-kyma-estimated": "true, only when a count of tokens is the gateway's own estimate",
        },
        "privacy": {
            "statement": "Prompts and answers are never stored, logged or put in an error message.",
            "logged_fields": logged_fields,
        },
    }
