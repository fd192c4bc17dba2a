"""Builds the pieces of the OpenAPI document: JSON Schemas, parameters and operations."""

from __future__ import annotations

from typing import Final, NamedTuple

Json = dict[str, object]

STRING: Final[Json] = {"type": "string"}
STRING_OR_NULL: Final[Json] = {"type": ["string", "null"]}
BOOLEAN: Final[Json] = {"type": "boolean"}
COUNT: Final[Json] = {"type": "integer", "minimum": 0}
COUNT_OR_NULL: Final[Json] = {"type": ["integer", "null"], "minimum": 0}
USD: Final[Json] = {"type": "number", "minimum": 0}
USD_OR_NULL: Final[Json] = {"type": ["number", "null"], "minimum": 0}


def or_null(schema: Json) -> Json:
    """The same type, or null, which means that the member is absent."""
    members = {**schema, "type": [schema["type"], "null"]}
    if isinstance(values := schema.get("enum"), list):
        members["enum"] = [*values, None]
    return members


def one_of(*values: str) -> Json:
    """One of these strings."""
    return {"type": "string", "enum": list(values)}


def list_of(items: Json) -> Json:
    """An array."""
    return {"type": "array", "items": items}


def exactly(**members: Json) -> Json:
    """An object that has exactly these members."""
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def any_of(*schemas: Json) -> Json:
    """One of these."""
    return {"anyOf": list(schemas)}


def open_object(*, optional: Json | None = None, **members: Json) -> Json:
    """An object that has these members, and may have the optional ones and any others."""
    return {"type": "object", "properties": members | (optional or {}), "required": list(members)}


def map_of(values: Json) -> Json:
    """An object with any members, whose values all have this schema."""
    return {"type": "object", "additionalProperties": values}


def ref(name: str) -> Json:
    """A reference to a schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


class Operation(NamedTuple):
    """One method of one path. `errors` are the statuses besides those that every operation may have.

    `answers` are the successful ones with other statuses than `status`. A public operation needs no key; if `needs_key` is
    False, a key is needed only on a gateway with accounts.
    """

    method: str
    path: str
    name: str
    summary: str
    answer: Json
    status: int = 200
    body: Json | None = None
    parameters: tuple[Json, ...] = ()
    errors: tuple[int, ...] = ()
    is_public: bool = False
    tag: str = "accounts"
    answers: tuple[tuple[int, str, Json], ...] = ()
    needs_key: bool = True
    takes_form: bool = False
    needs_body: bool = True
    """False if an empty body means the same as `{}`."""


def query(name: str, description: str, schema: Json) -> Json:
    """A query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header(name: str, description: str, schema: Json) -> Json:
    """A request header."""
    return {"name": name, "in": "header", "description": description, "schema": schema}
