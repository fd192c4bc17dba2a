"""Every valid configuration that a test here loads is also valid for an editor, which knows the JSON Schema alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.reading import read_document
from tests.loading.as_an_editor import schema_problems

_MAX_CHARACTERS = 100_000
"""Of a text that is validated: those above are long for the sake of it."""


@pytest.fixture(autouse=True)
def fits_the_schema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Validate what a test has loaded, after it."""
    loaded: dict[str, Mapping[str, str]] = {}

    def noting(text: str, environment: Mapping[str, str], *more: Any) -> Any:
        loaded[text] = environment
        return read_document(text, environment, *more)

    monkeypatch.setattr("kyma_proxy.loading.compiling.read_document", noting)
    yield
    monkeypatch.undo()
    for text, environment in loaded.items():
        if len(text) <= _MAX_CHARACTERS and _is_valid(text, environment):
            assert schema_problems(text) == [], text


def _is_valid(text: str, environment: Mapping[str, str]) -> bool:
    try:
        load(text, environment)
    except ConfigError:
        return False
    return True
