"""`${NAME}` is replaced by an environment variable in values only, and credentials from the environment stay secret."""

from __future__ import annotations

import pytest

from kyma_proxy.config.problems import ConfigError, Problem
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.document import Document
from kyma_proxy.loading.reading import read_document
from tests.factories import SMALLEST as GOOD

WITH_KEY = GOOD.replace("    dialect:", "    api_key: ${K}\n    dialect:") + "admin: {token: ${T}}\n"


def problems(text: str, environment: dict[str, str]) -> list[Problem]:
    return read_document(text, environment).problems


def document(text: str, environment: dict[str, str]) -> Document:
    read, _, found, *_ = read_document(text, environment)
    assert found == []
    assert read is not None
    return read


def test_variables_are_replaced_in_block_and_flow_mappings() -> None:
    text = (
        GOOD.replace("https://one.example", "https://${HOST}:${PORT}").replace("id: small", 'id: "${ID}-x"')
        + "admin: {listen: ${A}:1, token: ${TOKEN}}\ncors: {origins: [${A}, '${A}']}\nlimits: {max_connections: ${N}}\n"
        + "accounts:\n  required: ${NO}\n  database: >-\n    ${A}\n"
    )
    read = document(text, {"HOST": "h", "PORT": "1", "ID": "i", "A": "a", "TOKEN": "s", "N": "7", "NO": "false"})
    assert read.providers[0].base_url == "https://h:1/v1"
    assert read.models[0].id == "i-x"
    assert read.admin is not None
    assert read.admin.listen == "a:1"
    assert read.admin.token is not None
    assert read.admin.token.reveal() == "s"
    assert read.cors.origins == ("a", "a")
    assert read.limits.max_connections == 7
    assert (read.accounts.required, read.accounts.database) == (False, "a")


def test_a_variable_cannot_become_syntax() -> None:
    value = "x}, listen: 'y' # \n- &a *b: ${OTHER}"
    assert document(f"{GOOD}accounts: {{database: ${{V}}}}\n", {"V": value}).accounts.database == value


def test_text_that_only_resembles_a_variable_is_left_unchanged() -> None:
    assert document(f"{GOOD}access_log: a$b/$5/%20/$/{{x}}\n", {}).access_log == "a$b/$5/%20/$/{x}"


def test_a_credential_whose_variable_is_not_set_is_marked_as_missing() -> None:
    text = GOOD.replace("    dialect:", "    api_key: k-${A}-${B}\n    dialect:")
    for environment in ({"A": "1"}, {"A": "1", "B": ""}):
        assert [one.api_key.missing for one in document(text, environment).providers if one.api_key] == ["B"]


def test_a_variable_that_is_not_set_is_a_problem_outside_credentials() -> None:
    text = GOOD.replace("8080", "${PORT}").replace("dialect: openai", "dialect: openai\n    body: {user: [${TEAM}]}")
    assert problems(text, {"TEAM": ""}) == [
        Problem("listen", 1, "the environment variable PORT is not set"),
        Problem("providers[0].body.user[0]", 6, "the environment variable TEAM is not set"),
    ]


def test_a_credential_does_not_show_in_the_document() -> None:
    read = document(WITH_KEY, {"K": "hunter2-key", "T": "hunter2-token"})
    assert "hunter2" not in repr(read) + str(read)


def test_a_credential_does_not_show_in_a_problem() -> None:
    with pytest.raises(ConfigError) as refused:
        load(WITH_KEY, {"K": "hunter2\r\nx: y", "T": "hunter2-token"})
    assert [problem.path for problem in refused.value.problems] == ["providers[0].api_key", "admin.token"]
    assert "hunter2" not in repr(refused.value) + str(refused.value)


def test_a_credential_does_not_show_in_the_admin_section() -> None:
    admin = load(WITH_KEY, {"K": "hunter2-key", "T": "hunter2-token-16"}).admin
    assert admin is not None
    assert "hunter2" not in repr(admin) + str(admin)


def test_a_credential_does_not_show_in_the_snapshot() -> None:
    snapshot = load(WITH_KEY, {"K": "hunter2-key", "T": "hunter2-token-16"})
    assert "hunter2" not in repr(snapshot) + str(snapshot)


def test_a_variable_in_a_key_is_refused_and_its_value_is_not_shown() -> None:
    found = problems(GOOD + "${KEY}: 1\n", {"KEY": "hunter2"})
    assert found == [Problem("", 11, "a key must be a plain word, without variables")]


def test_a_credential_in_the_wrong_place_does_not_show_in_the_problem() -> None:
    found = problems(GOOD.replace("dialect: openai", "dialect: ${K}"), {"K": "hunter2"})
    assert "hunter2" not in str(ConfigError(found))
