"""Makes the JSON Schema of the configuration, with which editors complete, explain and check it.

It is of draft 7, as editors' YAML support knows no later one everywhere. It says what a file may look like; what names refer to
is for `check`. Wherever a value may stand, a text with a `${NAME}` in it may stand too.
"""

from __future__ import annotations

import typing
from decimal import Decimal
from typing import Any, Final

import yaml

from kyma_proxy.config.units import MAX_INTEGER, MAX_WORKERS, Secret
from kyma_proxy.dialect.registry import DIALECTS, IMAGE_DIALECTS, endpoints_of
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.kinds import Kind, element_of, is_section
from kyma_proxy.loading.reference.fields import Field, Section, sections
from kyma_proxy.loading.reference.key import RELOADS

_VARIABLE: Final = {"type": "string", "pattern": r"\$\{[A-Za-z_]"}
_REFERENCE: Final = "#/definitions/"
_DURATION: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h)$"
_SIZE: Final = r"^[0-9]{1,15}(B|KB|MB|GB|KiB|MiB|GiB)?$"
_USD: Final = r"^\$[0-9]{1,7}(\.[0-9]{1,9})?$"
_UNITS: Final[dict[str, list[dict[str, Any]]]] = {
    "duration": [{"type": "string", "pattern": _DURATION}, {"type": "number", "const": 0}],
    "delay": [{"type": "string", "pattern": _DURATION}, {"type": "string", "const": "auto"}],
    "size": [{"type": "string", "pattern": _SIZE}, {"type": "integer", "minimum": 0}],
    "workers": [
        {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS},
        {"type": "string", "const": "auto"},
    ],
    "usd": [{"type": "number", "minimum": 0, "maximum": 10**6}, {"type": "string", "pattern": _USD}],
}
_WORDS: Final = {
    "duration": "A duration such as 250ms, 2s, 5m or 1h",
    "delay": "`auto`, or a duration such as 800ms or 2s",
    "size": "A size such as 64KiB, 32MiB or 1MB, or a number of bytes",
    "usd": "US dollars",
    "workers": f"A number from 1 to {MAX_WORKERS}, or `auto`",
}


def json_schema() -> dict[str, Any]:
    """The schema, as a JSON document."""
    known = sections()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_section(known[0]),
        "description": "Configuration of kyma-proxy.",
        "definitions": {
            **{section.struct.__name__: _section(section) for section in known[1:]},
            "Variable": {**_VARIABLE, "description": "A text with variables of the environment in it: ${NAME}."},
        },
    }


def _section(section: Section) -> dict[str, Any]:
    required = [field.name for field in section.fields if field.is_required]
    return {
        "description": f"The section {' or '.join(section.paths)}.",
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": {field.name: _property(section, field) for field in section.fields},
    }


def _property(section: Section, field: Field) -> dict[str, Any]:
    unit = f" {words}." if (words := _WORDS.get(field.kind.unit or "")) else ""
    about: dict[str, Any] = {"description": f"{field.key.meaning}{unit} {RELOADS[field.key.reload]}"}
    if field.default is not None and not field.is_required:
        about["default"] = yaml.safe_load(field.default)
    shape = _endpoints() if field.name == "endpoints" and section.struct in (doc.Provider, doc.Source) else _shape(field.kind)
    return {**about, **shape, "examples": [yaml.load(field.key.example, Loader=_Loader)]}  # noqa: S506  (a SafeLoader)


class _Loader(yaml.SafeLoader):
    """Reads values as YAML 1.2 does: a date stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _shape(kind: Kind) -> dict[str, Any]:
    """The schema of a value."""
    if kind.type is Any:
        return {}
    if is_section(kind):
        return _one_of([{"$ref": _REFERENCE + kind.type.__name__}], kind)
    element = element_of(kind)
    if element is None:
        return _one_of([*_scalar(kind), {"$ref": f"{_REFERENCE}Variable"}], kind)
    if typing.get_origin(kind.type) is dict:
        return _one_of([{"type": "object", "additionalProperties": _shape(element)}], kind)
    least = {"minItems": kind.meta.min_length} if kind.meta is not None and kind.meta.min_length else {}
    return _one_of([{"type": "array", "items": _shape(element), **least}], kind)


def _one_of(shapes: list[dict[str, Any]], kind: Kind) -> dict[str, Any]:
    if kind.takes_null:
        shapes = [*shapes, {"type": "null"}]
    if len(shapes) == 1 and "$ref" not in shapes[0]:
        return shapes[0]
    return {"anyOf": shapes}  # in draft 7 nothing counts beside a $ref


def _scalar(kind: Kind) -> list[dict[str, Any]]:
    meta = kind.meta
    if kind.unit == "dialect":
        return [{"type": "string", "enum": [*DIALECTS, *IMAGE_DIALECTS]}]
    if kind.unit is not None:
        return _UNITS[kind.unit]
    if typing.get_origin(kind.type) is typing.Literal:
        return [{"type": "string", "enum": list(typing.get_args(kind.type))}]
    if kind.type is bool:
        return [{"type": "boolean"}]
    if kind.type in (int, float, Decimal):
        bounds = {"minimum": meta.ge, "maximum": meta.le} if meta is not None else {}
        return [{
            "type": "integer" if kind.type is int else "number",
            **{name: bound for name, bound in bounds.items() if bound is not None and bound < MAX_INTEGER},
        }]  # fmt: skip
    if kind.type is Secret:
        return [{"type": ["string", "number", "boolean"]}]
    lengths = {"pattern": meta.pattern, "minLength": meta.min_length, "maxLength": meta.max_length} if meta is not None else {}
    return [{"type": ["string", "number"], **{name: one for name, one in lengths.items() if one is not None}}]


def _endpoints() -> dict[str, Any]:
    known = dict.fromkeys(key for dialect in (*DIALECTS, *IMAGE_DIALECTS) for key in endpoints_of(dialect))
    return {
        "anyOf": [
            {"type": "array", "minItems": 1, "items": {"anyOf": [{"enum": [*known]}, {"$ref": f"{_REFERENCE}Variable"}]}},
            {"type": "null"},
        ]
    }
