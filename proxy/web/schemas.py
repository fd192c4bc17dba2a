"""This file has the words in which the API's description is written: the few shapes of JSON Schema that it needs."""

from __future__ import annotations

from typing import Final

Json = dict[str, object]

STRING: Final[Json] = {"type": "string"}
STRING_OR_NULL: Final[Json] = {"type": ["string", "null"]}
BOOLEAN: Final[Json] = {"type": "boolean"}
COUNT: Final[Json] = {"type": "integer", "minimum": 0}
COUNT_OR_NULL: Final[Json] = {"type": ["integer", "null"], "minimum": 0}
USD: Final[Json] = {"type": "number", "minimum": 0}
USD_OR_NULL: Final[Json] = {"type": ["number", "null"], "minimum": 0}


def one_of(*values: str) -> Json:
    """One of these words."""
    return {"type": "string", "enum": list(values)}


def list_of(items: Json) -> Json:
    """An array."""
    return {"type": "array", "items": items}


def exactly(**members: Json) -> Json:
    """An object that has these members, all of them, and no others."""
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def open_object(*, optional: Json | None = None, **members: Json) -> Json:
    """An object that has these members, may have the optional ones, and others besides."""
    return {"type": "object", "properties": members | (optional or {}), "required": list(members)}


def map_of(values: Json) -> Json:
    """An object with any members, all alike."""
    return {"type": "object", "additionalProperties": values}


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}
