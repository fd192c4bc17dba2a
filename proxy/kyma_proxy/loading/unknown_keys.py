"""Explains a key that is not known where it stands: by the nearest that is, or the place where it belongs."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from kyma_proxy.loading.document import Document
from kyma_proxy.loading.shapes import Listed, Members, Named, Shape, members_of

_WORDS_OF_OTHERS: Final = {
    "address": "listen", "api": "dialect", "api_base": "base_url", "api_key_env": "api_key", "apikey": "api_key",
    "bind": "listen", "cert": "certificate", "endpoint": "base_url", "host": "base_url", "kind": "dialect",
    "model_id": "id", "model_name": "id",
    "port": "listen", "priority": "weight", "private_key": "key", "protocol": "dialect", "sources": "pool", "token": "api_key",
    "type": "dialect", "upstreams": "pool", "uri": "base_url", "url": "base_url",
}  # fmt: skip
_LITELLM: Final = frozenset({"environment_variables", "general_settings", "litellm_settings", "model_list", "router_settings"})


def intended_key(key: str, known: Collection[str]) -> str | None:
    """The known key that was probably meant, if there is one."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_").strip("\u00a0\ufeff \"'“”")
    if plain in known:
        return plain
    if key in _LITELLM:
        return None
    other = _WORDS_OF_OTHERS.get(plain)
    if other is not None and other in known:
        return other
    return next(iter(difflib.get_close_matches(plain, known, n=1)), None)


def explain_key(key: str, kind: type[msgspec.Struct], intended: str | None) -> str:
    """The message about an unknown key among the members of a struct."""
    known = members_of(kind).shapes
    if "\u00a0" in key:
        return "unknown key; it has a no-break space (U+00A0) in it: type plain spaces"
    name, colon, rest = key.partition(":")
    if colon and name.strip("\"'") in known:
        return f"a space is missing after the colon: {name}: {rest}"
    if key.isdigit():
        return "unknown key; if it is what follows a decimal comma, write a point, such as 0.68"
    if key.startswith("-") and not intended:
        return "unknown key; an entry of a list begins with a dash and a space: `- `"
    if intended is not None:
        return f"unknown key; did you mean {intended}?"
    if kind is Document and key in _LITELLM:
        return "unknown key; this is a configuration of LiteLLM, which `kyma-proxy init --from-litellm FILE` converts"
    places = [place for place in _places().get(key, ()) if members_of(kind) is not place[1]]
    if places:
        return (
            f"unknown key here; it belongs in {' or '.join(dict.fromkeys(place for place, _ in places))}: is it indented right?"
        )
    return f"unknown key; known here: {', '.join(known)}"


@functools.cache
def _places() -> dict[str, list[tuple[str, object]]]:
    """Each key of a document with the sections that have it, as they are called in a message."""
    found: dict[str, list[tuple[str, object]]] = {}
    for section, kind in _sections(Document, "", frozenset()):
        fields = members_of(kind)
        for name in fields.shapes:
            found.setdefault(name, []).append((section or "the outermost level", fields))
    return found


def _sections(
    kind: type[msgspec.Struct], section: str, above: frozenset[type[msgspec.Struct]]
) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    yield section, kind
    for name, shape in members_of(kind).shapes.items():
        inner, words = _struct_of(shape, f"{section}.{name}" if section else name)
        if inner is not None and inner not in above:
            yield from _sections(inner, words, above | {inner})


def _struct_of(shape: Shape, words: str) -> tuple[type[msgspec.Struct] | None, str]:
    if isinstance(shape, Members):
        return shape.kind, words
    if isinstance(shape, Listed):
        return _struct_of(shape.item, f"{words}[]")
    if isinstance(shape, Named):
        return _struct_of(shape.value, f"{words}.NAME")
    return None, words
