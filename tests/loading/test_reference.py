"""The reference has every key of the configuration, its examples can be used, and its schema accepts what a file may hold."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from deploy.reference import page, schema
from kyma_proxy.config.problems import ConfigError
from kyma_proxy.loading.compiling import load
from kyma_proxy.loading.kinds import kind_of
from kyma_proxy.loading.outside_values import Command, NoOutsideValues
from kyma_proxy.loading.reference.fields import KEYS, Section, sections, written
from kyma_proxy.loading.reference.json_schema import json_schema
from kyma_proxy.loading.reference.key import RELOADS
from kyma_proxy.loading.starting import starting_file
from kyma_proxy.ops.config_file import CATALOGUE, SCHEMA_FILE, SCHEMA_LINE, shipped_text
from tests.configurations import configuration, simulated_configuration
from tests.documented_keys import ENVIRONMENT, DocumentedKey, documented_keys, with_an_unknown_key, with_defaults
from tests.loading.as_an_editor import read_as_an_editor, schema_problems
from tests.processes import ROOT

ALL = documented_keys()
SHIPPED = [*sorted((ROOT / "config").glob("*.yaml")), ROOT / "deploy" / "docker" / "gateway.yaml"]


class Outside(NoOutsideValues):
    """Files and commands that give what any key of the reference needs."""

    def text_of(self, path: str) -> str:
        return "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n" if path.endswith(".pem") else "a-key"

    def run(self, commands: Collection[Command]) -> None:
        """Run nothing."""

    def output_of(self, command: Command) -> str:
        return "a-key"


# ---- no key is missing


def test_every_key_of_every_section_is_explained_and_no_other() -> None:
    assert {section.struct for section in sections()} == set(KEYS)
    for struct, keys in KEYS.items():
        assert tuple(keys) == struct.__struct_fields__, struct.__name__  # type: ignore[attr-defined]
        assert all(key.meaning.endswith(".") and key.reload in RELOADS for key in keys.values())


def test_the_page_and_the_schema_are_those_of_the_structs() -> None:
    assert (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8") == page()
    assert (ROOT / "config" / "kyma-proxy.schema.json").read_text(encoding="utf-8") == schema()


@pytest.mark.parametrize("section", sections(), ids=[one.struct.__name__ for one in sections()])
def test_a_key_with_its_default_changes_nothing(section: Section) -> None:
    before, after = with_defaults(section)
    assert before != after or all(one.default is None for one in section.fields)
    snapshots = [load(text, ENVIRONMENT, Outside()) for text in (before, after)]
    assert len({repr(replace(one, version="")) for one in snapshots}) == 1
    assert schema_problems(after) == []


# ---- examples


@pytest.mark.parametrize("one", ALL, ids=[one.path for one in ALL])
def test_the_example_of_every_key_can_be_loaded(one: DocumentedKey) -> None:
    load(one.before, ENVIRONMENT, Outside())
    load(one.after, ENVIRONMENT, Outside())
    assert schema_problems(one.after) == []


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.25, "Duration", "250ms"), (90.0, "Duration", "90s"), (3600.0, "Duration", "1h"), (0.0, "Delay", "auto"),
        (1000, "Size", "1000"), (2**31, "Size", "2GiB"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_an_operator_would(value: object, kind: str, text: str) -> None:
    from kyma_proxy.config import units

    assert written(value, kind_of(getattr(units, kind))) == text


# ---- the schema


def test_the_schema_is_a_schema() -> None:
    Draft7Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=[path.name for path in SHIPPED])
def test_a_shipped_file_names_its_schema_and_is_valid_and_plain_yaml(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    line, _, schema_path = text.partition("\n")[0].partition("=")
    assert line == SCHEMA_LINE.partition("=")[0]
    assert (path.parent / schema_path).resolve() == ROOT / "config" / SCHEMA_FILE
    yaml.safe_load(text)  # as it is: an editor does not know that `{key: ${NAME}}` is more than YAML
    yaml.safe_load(re.sub(r"^(\s*)# (- \{.*\})$", r"\1\2", text, flags=re.MULTILINE))
    assert schema_problems(text) == []


@pytest.mark.parametrize(
    "text",
    [
        configuration(1, 2), configuration(1, dialect="anthropic", hedge_after="auto", hold="0"),
        simulated_configuration("http://127.0.0.1:1/v1"),
        configuration(1, more="limits: {max_body: 5}\n", defaults="probe_after: 1.5m, max_tokens: null"),
    ],
)  # fmt: skip
def test_the_configurations_of_the_tests_are_valid(text: str) -> None:
    load(text, {})
    assert schema_problems(text) == []


@pytest.mark.parametrize("section", sections(), ids=[one.struct.__name__ for one in sections()])
def test_an_unknown_key_is_refused_in_every_section(section: Section) -> None:
    text = with_an_unknown_key(section)
    with pytest.raises(ConfigError) as refused:
        load(text, ENVIRONMENT, Outside())
    assert [problem.path.rpartition(".")[2] for problem in refused.value.problems] == ["no_such_key"]
    (problem,) = schema_problems(text)
    assert "'no_such_key' was unexpected" in problem or "is not valid under any" in problem


@pytest.mark.parametrize(
    "more",
    [
        "drain: 25", "drain: 25 s", "drain: soon", "limits: {max_body: 1.5MiB}", "limits: {max_body: -1}",
        "limits: {max_connections: many}", "limits: {max_connections: 0}", "usage: sometimes", "hosts: kyma.internal",
        "accounts: {required: 1}", "accounts: {required: 'yes'}", "accounts: {signup: {per_hour: 1001}}",
        "accounts: {signup: {credits: -1}}", "defaults: {hedge_after: 0}", "defaults: {policy: random}",
        "defaults: {timeouts: null}", "tls: {certificate: a}", "aliases: [a]", "tiers: [{tier: 0}]",
    ],
)  # fmt: skip
def test_what_the_gateway_refuses_the_schema_refuses(more: str) -> None:
    assert schema_problems(configuration(1, defaults="").replace("defaults: {}\n", "") + more + "\n") != []


def test_a_variable_may_stand_for_any_value() -> None:
    more = "drain: ${D}\nusage: ${U}\nlimits: {max_body: ${B}, max_connections: ${C}}\naccounts: {required: ${R}}\n"
    assert schema_problems(configuration(1, more=more)) == []


def test_what_init_writes_is_valid_for_an_editor() -> None:
    from kyma_proxy.loading.known_providers import read_known_providers

    known = read_known_providers(shipped_text(CATALOGUE))
    text = starting_file(known, known)
    yaml.safe_load(text)
    assert schema_problems(text) == []


def test_the_examples_of_the_guides_are_valid_for_an_editor() -> None:
    pages = [ROOT / "docs" / "ACCOUNTS.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
    blocks = [
        block for page in pages for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    whole = [block for block in blocks if "\nproviders:" in f"\n{block}" and "\nmodels:" in block]
    assert len(whole) >= 3
    for block in whole:
        assert yaml.safe_load(block)
        assert schema_problems(block) == []


def test_every_key_of_the_schema_has_a_description() -> None:
    document = json.loads(schema())
    for section in (document, *(one for name, one in document["definitions"].items() if name != "Variable")):
        assert section["additionalProperties"] is False
        assert all(len(one["description"]) > 20 for one in section["properties"].values())
    assert read_as_an_editor("a: 2026-04-01")["a"] == "2026-04-01"
