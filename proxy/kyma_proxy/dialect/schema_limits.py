"""Fits a JSON schema to what Anthropic enforces, as its own client libraries do. (Contract §3.)

Structured output and strict tools refuse `minimum`, `maxLength`, most of `minItems`, and an object that allows others
(https://platform.claude.com/docs/en/build-with-claude/structured-outputs). What is refused goes into the description, where the
model may read it. Nobody checks it: an answer that ignores it is the caller's to find.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

Json = dict[str, Any]
_FORMATS: Final = frozenset({
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
})  # fmt: skip
_CHOICES: Final = (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf"))
"""The keywords for several schemas, and what they become; the first that is there counts."""
_DEFINITIONS: Final = ("$defs", "definitions")


class Unfit(ValueError):
    """A schema that can't be enforced: it does not say of what type a value is."""


def fit_schema(schema: Any) -> Json:
    """Return a schema that can be enforced. Raises Unfit if there is none that means the same."""
    if not isinstance(schema, dict):
        raise Unfit("a schema must be an object")
    rest = dict(schema)
    fit: Json = {}
    for name in _DEFINITIONS:
        definitions = rest.pop(name, None)
        if isinstance(definitions, dict):
            fit[name] = {key: fit_schema(one) for key, one in definitions.items()}
    if "$ref" in rest:
        return {**fit, "$ref": rest["$ref"]}
    kind = rest.pop("type", None)
    has_choices = _move_choices(rest, fit)
    has_literals = _move_literals(rest, fit)
    if has_literals:
        kind = None
    if isinstance(kind, list) and not has_choices:  # Anthropic takes a list, but each type has keywords of its own
        return _fit_types(rest, kind, fit)
    if not (has_choices or has_literals):
        if kind is None:
            raise Unfit("a schema must have a type")
        fit["type"] = kind
    for name in ("description", "title"):
        _move(name, rest, fit)
    _move_members(rest, fit, kind)
    if rest:
        more = "{" + ", ".join(f"{name}: {value}" for name, value in rest.items()) + "}"
        about = fit.get("description")
        fit["description"] = more if about is None else f"{about}\n\n{more}"
    return fit


def _move(name: str, rest: Json, fit: Json) -> None:
    """Move a keyword; one that is null is left out."""
    if (value := rest.pop(name, None)) is not None:
        fit[name] = value


def _move_choices(rest: Json, fit: Json) -> bool:
    """Move the schemas of a choice. Return True if there is one."""
    written = [(rest.pop(name, None), to) for name, to in _CHOICES]
    for schemas, to in written:
        if isinstance(schemas, list):
            fit[to] = [fit_schema(one) for one in schemas]
            return True
    return False


def _move_literals(rest: Json, fit: Json) -> bool:
    """Move an enumeration or a constant of plain values. Return True if there is one."""
    values = rest.get("enum")
    if isinstance(values, list) and values and _are_plain(values):
        fit["enum"] = rest.pop("enum")
    if "const" in rest and _are_plain((rest["const"],)):
        fit["const"] = rest.pop("const")
    return "enum" in fit or "const" in fit


def _are_plain(values: Iterable[object]) -> bool:
    return all(value is None or isinstance(value, str | int | float) for value in values)


def _move_members(rest: Json, fit: Json, kind: object) -> None:
    """Move the keywords of a type that are enforced."""
    if kind == "object":
        properties = rest.pop("properties", None)
        fit["properties"] = (
            {} if not isinstance(properties, dict) else {name: fit_schema(one) for name, one in properties.items()}
        )
        rest.pop("additionalProperties", None)
        fit["additionalProperties"] = False
        _move("required", rest, fit)
    elif kind == "string":
        written = rest.pop("format", None)
        if written:
            (fit if written in _FORMATS else rest)["format"] = written
    elif kind == "array":
        _move("items", rest, fit)
        if "items" in fit:
            fit["items"] = fit_schema(fit["items"])
        least = rest.pop("minItems", None)
        if least is not None:
            (fit if least in (0, 1) else rest)["minItems"] = least


def _fit_types(schema: Json, kinds: list[Any], fit: Json) -> Json:
    """Return a schema of several types as a choice among schemas of one: the description stands above it."""
    about: Json = {name: schema.pop(name) for name in ("description", "title") if name in schema}
    choices = [{"type": one} if one == "null" else {**schema, "type": one} for one in kinds]
    return {**fit, "anyOf": [fit_schema(one) for one in choices], **about}
