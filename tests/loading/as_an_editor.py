"""Reads a configuration as an editor does, and validates it with the JSON Schema."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from kyma_proxy.loading.reference.json_schema import json_schema

_VALIDATOR: Final = Draft7Validator(json_schema())
# In YAML 1.2 a date is text, and only these words are booleans.
_OTHERS: Final = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")


class _Loader(yaml.SafeLoader):
    """Reads scalars as YAML 1.2 does."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] not in _OTHERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false|True|False|TRUE|FALSE"), list("tTfF"))


def read_as_an_editor(text: str) -> Any:
    """The document in a text. `${NAME}` in braces is made plain YAML, as if it stood in quotes."""
    shielded = re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", "\ue000\\1\ue001", text)
    return _unshielded(yaml.load(shielded, Loader=_Loader))


def schema_problems(text: str) -> list[str]:
    """The problems that an editor shows."""
    return [f"{error.json_path}: {error.message}" for error in _VALIDATOR.iter_errors(read_as_an_editor(text))]


def _unshielded(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub("\ue000(.*?)\ue001", r"${\1}", value)
    if isinstance(value, dict):
        return {str(name): _unshielded(one) for name, one in value.items()}
    return [_unshielded(one) for one in value] if isinstance(value, list) else value
