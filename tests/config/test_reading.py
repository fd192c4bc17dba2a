"""From YAML text to a document: every mistake of shape is found, with its path, its line and what to write instead."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.config.document import Document, Model, Provider, Source
from proxy.config.reading import read_document
from proxy.errors import ConfigError, Problem

# Ten lines that have no problem; a case appends to them (its first line is 11) or changes a word of them.
GOOD = """\
listen: 127.0.0.1:8080
providers:
  - name: one
    base_url: https://one.example/v1
    dialect: openai
models:
  - id: small
    pool:
      - provider: one
        model: small-1
"""
NAMES = ", ".join
SECTIONS = NAMES(Document.__struct_fields__)


def problems(text: str, environment: dict[str, str] | None = None) -> list[Problem]:
    return read_document(text, environment or {})[2]


def document(text: str, environment: dict[str, str] | None = None) -> Document:
    read, _, found = read_document(text, environment or {})
    assert found == []
    assert read is not None
    return read


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "the file is empty; config/sidecar.yaml is a good start"),
        ("# nothing but a remark\n", 0, "the file is empty; config/sidecar.yaml is a good start"),
        ("listen: [1,\nproviders", 2, "this is not YAML: did not find expected ',' or ']'"),
        ("listen: here\n\tmodels: 1", 2, "this is not YAML: found character '\\t' that cannot start any token"),
        (GOOD + "---\nlisten: x\n", 11, "this is not YAML: but found another document"),
        ("a: \0", 0, "this is not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("- " * 8000, 0, "this is not YAML: "),
        ("#" * (8 * 2**20 + 1), 0, "the file is larger than 8 MiB"),
        ("- listen", 1, f"a mapping is expected here, with {SECTIONS}"),
    ],
    ids=["empty", "remark", "brackets", "tab", "two-documents", "control", "too-deep", "too-large", "list"],
)
def test_a_text_that_is_no_document_is_one_problem(text: str, line: int, message: str) -> None:
    read, _, found = read_document(text, {})
    assert read is None
    assert [(problem.path, problem.line) for problem in found] == [("", line)]
    assert found[0].message.startswith(message) or "expected ',' or ']'" in found[0].message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + "listne: x\n", Problem("listne", 11, "unknown key; did you mean listen?")),
        (GOOD + "zzz: x\n", Problem("zzz", 11, f"unknown key; known here: {SECTIONS}")),
        (
            GOOD.replace("        model:", "        modle:"),
            Problem("models[0].pool[0].modle", 10, "unknown key; did you mean model?"),
        ),
        (GOOD.replace("    dialect: openai\n", ""), Problem("providers[0]", 3, "dialect is missing")),
        (GOOD.replace("        model: small-1\n", ""), Problem("models[0].pool[0]", 9, "model is missing")),
        (GOOD + "listen: x\n", Problem("listen", 11, "is there twice")),
        (GOOD + "? [a, b]\n: 1\n", Problem("", 11, "a key must be a plain word")),
        (GOOD + "aliases: {fast: small, fast: small}\n", Problem("aliases.fast", 11, "is there twice")),
        (GOOD + "aliases: [fast]\n", Problem("aliases", 11, "a mapping is expected here")),
        (GOOD + "limits: 3\n", Problem("limits", 11, "a mapping is expected here, with max_body, max_head, ")),
        (GOOD + "fallbacks: {small: big}\n", Problem("fallbacks.small", 11, "a list is expected here")),
        (
            GOOD.replace("providers:\n", "providers: []\nx:\n"),
            Problem("providers", 2, "the list must not be empty"),
        ),
        (GOOD + "drain: [30s]\n", Problem("drain", 11, "a number is expected here, not a sequence")),
        (GOOD + "access_log: {}\n", Problem("access_log", 11, "text is expected here, not a mapping")),
        (GOOD + "defaults: {max_tokens: []}\n", Problem("defaults.max_tokens", 11, "a whole number is expected here, not a ")),
        (GOOD + "accounts: {required: []}\n", Problem("accounts.required", 11, "true or false is expected here, not a sequence")),
        (GOOD + "admin: {token: []}\n", Problem("admin.token", 11, "a value is expected here, not a sequence")),
        (GOOD.replace("8080", "${PORT}"), Problem("listen", 1, "the environment variable PORT is not set")),
    ],
    ids=lambda case: f"{case.path}: {case.message[:20]}" if isinstance(case, Problem) else "",
)
def test_a_mistake_of_shape_is_named_with_its_path_and_line(text: str, problem: Problem) -> None:
    path, line, message = problems(text)[0]
    assert (path, line) == (problem.path, problem.line)
    assert message.startswith(problem.message)


@pytest.mark.parametrize(
    ("member", "path", "message"),
    [
        ("drain: 30", "drain", "a duration is a number with a unit, such as 250ms, 2s, 5m or 1h"),
        ("limits: {max_body: big}", "limits.max_body", "a size is a whole number of bytes with or without a unit, such as 64KiB, "),
        ("limits: {max_connections: 0}", "limits.max_connections", "Expected `int` >= 1"),
        ("limits: {max_connections: 1.5}", "limits.max_connections", "Expected `int`, got `float`"),
        ("limits: {max_connections: ten}", "limits.max_connections", "Expected `int`, got `str`"),
        ("accounts: {required: maybe}", "accounts.required", "Expected `bool`, got `str`"),
        ("accounts: {signup: {credits: lots}}", "accounts.signup.credits", "a price is a number of US dollars, such as 0.68"),
        ("accounts: {signup: {credits: -1}}", "accounts.signup.credits", "a price is between 0 and 1000000 US dollars"),
        ("accounts: {database: null}", "accounts.database", "Expected `str`, got `null`"),
        ("defaults: {policy: random}", "defaults.policy", "Invalid enum value 'random'"),
        ("aliases: {fast: a b}", "aliases.fast", "Expected `str` matching regex "),
    ],
    ids=lambda case: str(case)[:40],
)
def test_a_value_of_the_wrong_kind_is_named(member: str, path: str, message: str) -> None:
    ((found_path, line, found),) = problems(f"{GOOD}{member}\n")
    assert (found_path, line) == (path, 11)
    assert found.startswith(message)


def test_all_problems_are_reported_at_once_and_the_rest_is_read() -> None:
    text = GOOD.replace("dialect: openai", "dialect: klingon") + "drain: 30\nlisten: again\nzzz: 1\nadmin: {token: t, prot: 1}\n"
    read, _, found = read_document(text, {})
    assert [(problem.path, problem.line) for problem in ConfigError(found).problems] == [
        ("providers[0].dialect", 5), ("drain", 11), ("listen", 12), ("zzz", 13), ("admin.prot", 14),
    ]  # fmt: skip
    assert isinstance(read, Document)
    assert read.providers == (msgspec.UNSET,)
    assert read.models[0].id == "small"


def test_what_is_left_out_of_a_list_leaves_the_others_their_index() -> None:
    text = "providers: [{name: a}, {name: b, base_url: http://b, dialect: openai}]\nmodels: [{id: m, pool: [{provider: b, model: x}]}]"
    read, lines, _ = read_document(text, {})
    assert read is not None
    assert read.providers == (msgspec.UNSET, Provider("b", "http://b", "openai"))
    assert lines["providers[1].name"] == 1
    assert lines["models[0].pool[0].model"] == 2


def test_the_environment_is_put_into_block_and_flow_mappings() -> None:
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


def test_what_only_looks_like_a_variable_is_left_alone() -> None:
    assert document(f"{GOOD}access_log: $HOME/${{}}/$(X)/${{1A}}\n").access_log == "$HOME/${}/$(X)/${1A}"


def test_a_credential_without_its_variable_is_no_problem_yet() -> None:
    text = GOOD.replace("    dialect:", "    api_key: k-${A}-${B}\n    dialect:")
    for environment in ({"A": "1"}, {"A": "1", "B": ""}):
        assert [one.api_key.missing for one in document(text, environment).providers if one.api_key] == ["B"]


def test_a_credential_does_not_show_in_the_document() -> None:
    text = GOOD.replace("    dialect:", "    api_key: ${K}\n    dialect:") + "admin: {token: ${K}}\n"
    read = document(text, {"K": "hunter2"})
    assert "hunter2" not in repr(read) + str(read)


def test_text_stays_text_where_yaml_would_see_something_else() -> None:
    text = GOOD.replace("id: small", "id: 1.0\n    owned_by: on\n    created: 2026-04-02\n    name: 0x10")
    model = document(text).models[0]
    assert (model.id, model.owned_by, model.created, model.name) == ("1.0", "on", "2026-04-02", "0x10")


def test_null_is_off_only_where_off_is_meant() -> None:
    read = document(f"{GOOD}admin: null\naccess_log: ~\ndefaults: {{max_tokens: null, timeouts: {{idle: null}}}}\n")
    assert (read.admin, read.access_log, read.defaults.max_tokens, read.defaults.timeouts.idle) == (None, None, None, None)
    assert read.defaults.timeouts.total is msgspec.UNSET


def test_the_smallest_document_has_the_defaults() -> None:
    one = Provider("one", "https://one.example/v1", "openai")
    assert document(GOOD) == Document(providers=(one,), models=(Model(id="small", pool=(Source("one", "small-1"),)),))


@given(text=st.text() | st.text(alphabet="{}[]:,-#&*!|>'\"%@`?~ \n\t$aA10.") | st.binary().map(lambda raw: raw.decode("latin-1")))
@example(text="providers: &a [*a]\nmodels: *a")
@example(text="\ufeff")
def test_no_text_makes_the_reader_raise(text: str) -> None:
    read_document(text, {"A": text})


KEYS = sorted({*Document.__struct_fields__, *Provider.__struct_fields__, *Model.__struct_fields__, *Source.__struct_fields__})
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.sampled_from(["1s", "${A}"])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6))


@given(tree=st.dictionaries(st.sampled_from(Document.__struct_fields__), TREES))
def test_no_tree_of_known_keys_makes_the_reader_raise(tree: dict[str, object]) -> None:
    text = yaml.safe_dump(tree)
    _, lines, found = read_document(text, {"A": "1"})
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    assert all(problem.line in lines.values() for problem in found)


@pytest.mark.xfail(strict=True, reason="PyYAML's constructors raise more than YAMLError and ValueError on a tagged scalar")
@pytest.mark.parametrize("value", ["!!timestamp noon", "!!bool maybe", '!!int ""', '!!float ""'])
def test_a_wrong_yaml_tag_does_not_make_the_reader_raise(value: str) -> None:
    assert [problem.path for problem in problems(f"{GOOD}drain: {value}\n")] == ["drain"]


@pytest.mark.xfail(strict=True, reason="the marks that stand for a variable are not taken back in keys")
def test_a_variable_in_a_key_is_shown_as_it_was_written() -> None:
    assert [problem.path for problem in problems(GOOD + "${KEY}: 1\n", {"KEY": "drain"})] == ["${KEY}"]


@pytest.mark.xfail(strict=True, reason="msgspec repeats a wrong value of an enumeration in its message")
def test_a_credential_in_the_wrong_place_is_not_repeated() -> None:
    found = problems(GOOD.replace("dialect: openai", "dialect: ${K}"), {"K": "hunter2"})
    assert "hunter2" not in str(ConfigError(found))
