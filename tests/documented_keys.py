"""Every key of the configuration's reference, with a whole file that has its example in it, and one before that."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import yaml

from kyma_proxy.loading import document as doc
from kyma_proxy.loading.reference.fields import Section, sections
from kyma_proxy.loading.reference.key import Key

ENVIRONMENT: Final = MappingProxyType({
    name: f"a-secret-of-{name.lower()}"
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_2", "OPENAI_ORGANIZATION", "KYMA_ADMIN_TOKEN")
})  # fmt: skip
_BEFORE: Final = """\
providers:
  - {name: openai, base_url: https://api.openai.com/v1, dialect: openai, api_key: "${OPENAI_API_KEY}"}
  - {name: groq, base_url: https://api.groq.com/openai/v1, dialect: openai}
  - {name: spare, base_url: https://spare.example/v1, dialect: openai}
  - {name: painter, base_url: https://painter.example/v1, dialect: openai_images}
models:
  - {id: gpt-4o, pool: [{provider: openai, model: gpt-4o}], price: {input: 1, output: 2}}
  - {id: small, pool: [{provider: openai, model: gpt-4o-mini}]}
  - {id: spare, pool: [{provider: openai, model: gpt-4o-mini}]}
  - {id: "groq/*", provider: groq, price: {input: 1, output: 2}}
  - id: picture
    input_modalities: [text, image]
    output_modalities: [image]
    image: {sizes: [512x512], extra: [style]}
    price: {image: 0.05}
    pool: [{provider: painter, model: pic}]
"""
_TIERS: Final = [
    {"tier": at, "min_purchased": 5 * at, "rpm": 9, "per_model_rpm": 9, "tpm": 9, "max_request_tokens": 9} for at in (0, 1)
]
_TLS: Final = {"certificate": "/etc/kyma/old.pem", "key": "/etc/kyma/old.key"}

# Where the examples of a section stand in the file.
_PLACES: Final[dict[type, tuple[str | int, ...]]] = {
    doc.Document: (), doc.Admin: ("admin",), doc.Tls: ("tls",), doc.Cors: ("cors",), doc.Accounts: ("accounts",),
    doc.Dashboard: ("dashboard",),
    doc.Signup: ("accounts", "signup"), doc.Activity: ("activity",), doc.Defaults: ("defaults",),
    doc.Timeouts: ("defaults", "timeouts"),
    doc.Limits: ("limits",), doc.Tier: ("tiers", 1), doc.Provider: ("providers", 2),
    doc.ErrorRule: ("providers", 2, "move_on", 0), doc.Model: ("models", 0), doc.Price: ("models", 0, "price"),
    doc.Supports: ("providers", 0, "supports"), doc.Source: ("models", 0, "pool", 0),
    doc.ImageRules: ("models", 4, "image"), doc.ImageMembers: ("models", 4, "pool", 0, "image"),
}  # fmt: skip
_OTHER_PLACES: Final[dict[tuple[type, str], tuple[str | int, ...]]] = {
    (doc.Model, "id"): ("models", 2), (doc.Model, "prices"): ("models", 3), (doc.Model, "image"): ("models", 4),
    (doc.Source, "image"): ("models", 4, "pool", 0), (doc.Price, "by"): ("models", 4, "price"),
}  # fmt: skip


class DocumentedKey(NamedTuple):
    """A key, as its path in the file; the file before and with its example."""

    path: str
    key: Key
    before: str
    after: str


def documented_keys() -> list[DocumentedKey]:
    """All keys of the reference."""
    return [
        _documented(section.struct, field.name, field.key, section.paths[0])
        for section in sections()
        for field in section.fields
    ]


def with_defaults(section: Section) -> tuple[str, str]:
    """A file, and the same with all keys of a section that have a default, as they are written on the page."""
    before, after = _before(section.struct), _before(section.struct)
    place = _at(after, _PLACES[section.struct])
    for field in section.fields:
        if field.default is not None:
            place.setdefault(field.name, yaml.safe_load(field.default))
    return _text(before), _text(after)


def with_an_unknown_key(section: Section) -> str:
    """A file with a key in this section that it does not have."""
    document = _before(section.struct)
    _at(document, _PLACES[section.struct])["no_such_key"] = 1
    return _text(document)


def _before(struct: type) -> Any:
    document = yaml.safe_load(_BEFORE)
    if struct is doc.Tier:
        document["tiers"] = copy.deepcopy(_TIERS)
    if struct is doc.Activity:
        document |= {"activity": {}, "accounts": {"required": True}}
    if struct is doc.Tls:
        document["tls"] = dict(_TLS)
    if struct is doc.ErrorRule:
        document["providers"][2]["move_on"] = [{"status": 403, "code": "other", "message": "other"}]
    return document


def _at(document: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        document = document.setdefault(step, {}) if isinstance(step, str) else document[step]
    return document


def _documented(struct: type, name: str, key: Key, path: str) -> DocumentedKey:
    before, after = _before(struct), _before(struct)
    _at(after, _OTHER_PLACES.get((struct, name), _PLACES[struct]))[name] = yaml.safe_load(key.example)
    _ALSO.get((struct, name), lambda before, after: None)(before, after)
    return DocumentedKey(f"{path}.{name}".lstrip("."), key, _text(before), _text(after))


def _text(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False)


def _has_one_tier(before: Any, after: Any) -> None:
    before["tiers"].pop()


def _has_no_pool(before: Any, after: Any) -> None:
    del after["models"][0]["pool"]


def _has_a_model_of_it(before: Any, after: Any) -> None:
    after["models"] = [{"id": "gpt-4o", "provider": "openai"}]


def _has_the_key_too(before: Any, after: Any) -> None:
    after["tls"] = {"certificate": "/etc/kyma/fullchain.pem", "key": "/etc/kyma/privkey.pem"}


def _has_accounts(before: Any, after: Any) -> None:
    for document in (before, after):
        document["accounts"] = {"required": True}


def _has_the_same_dashboard(before: Any, after: Any) -> None:
    """The keys of the section need a restart, and the section itself does not: so nothing else is in its example."""
    _has_accounts(before, after)
    before["dashboard"] = after["dashboard"] | {"public_url": "https://llm.example.com/"}


def _has_a_dashboard(before: Any, after: Any) -> None:
    _has_accounts(before, after)
    before["dashboard"] = {"enabled": True, "public_url": "https://old.example.com"}
    after["dashboard"] = before["dashboard"] | after["dashboard"]


def _has_the_address_too(before: Any, after: Any) -> None:
    _has_accounts(before, after)
    before["dashboard"] = {"public_url": "https://llm.example.com"}
    after["dashboard"] = before["dashboard"] | after["dashboard"]


# What else differs, as the example could not stand alone.
_ALSO: Final[dict[tuple[type, str], Callable[[Any, Any], None]]] = {
    (doc.Tier, "tier"): _has_one_tier, (doc.Model, "provider"): _has_no_pool,
    (doc.Document, "providers"): _has_a_model_of_it,
    (doc.Document, "dashboard"): _has_the_same_dashboard, (doc.Dashboard, "enabled"): _has_the_address_too,
    (doc.Dashboard, "public_url"): _has_a_dashboard,
    (doc.Tls, "certificate"): _has_the_key_too, (doc.Tls, "key"): _has_the_key_too,
}  # fmt: skip
