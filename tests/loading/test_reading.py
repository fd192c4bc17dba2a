"""YAML text is parsed into a document, and every mistake of shape is found, with its path, its line and a correction."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kyma_proxy.config.problems import ConfigError, Problem
from kyma_proxy.loading import nodes
from kyma_proxy.loading.document import Document, Model, Provider, Source
from kyma_proxy.loading.reading import read_document
from tests.factories import SMALLEST as GOOD

# GOOD is ten lines that have no problem. A case appends lines (the first is line 11) or changes one of them.
NAMES = ", ".join
SECTIONS = NAMES(Document.__struct_fields__)


def problems(text: str, environment: dict[str, str] | None = None) -> list[Problem]:
    return read_document(text, environment or {}).problems


def document(text: str, environment: dict[str, str] | None = None) -> Document:
    read, _, found, *_ = read_document(text, environment or {})
    assert found == []
    assert read is not None
    return read


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "the file is empty; config/sidecar.yaml is a good start"),
        ("# nothing but a remark\n", 0, "the file is empty; config/sidecar.yaml is a good start"),
        ("listen: [1,\nproviders", 1, "this is not YAML: the [ that opens here is never closed"),
        ("listen: here\n\tmodels: 1", 2, "this is not YAML: there is a tab; YAML is indented with spaces only"),
        (GOOD + "---\nlisten: x\n", 11, "a second document begins here"),
        ("a: \0", 1, "this is not YAML: there is a NUL character here; save the file as UTF-8"),
        ("- " * 8000, 1, "more than 64 levels are nested here"),
        ("#" * (8 * 2**20 + 1), 0, "the file is larger than 8 MiB"),
        ("- listen", 1, f"a mapping is expected here, and no list: leave the dashes or brackets out; known here: {SECTIONS}"),
    ],
    ids=["empty", "remark", "brackets", "tab", "two-documents", "control", "too-deep", "too-large", "list"],
)
def test_a_text_that_is_no_document_is_one_problem(text: str, line: int, message: str) -> None:
    read, _, found, *_ = read_document(text, {})
    assert read is None
    assert [(problem.path, problem.line) for problem in found] == [("", line)]
    assert found[0].message.startswith(message)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + "listne: x\n", Problem("listne", 11, "unknown key; did you mean listen?")),
        (GOOD + "zzz: x\n", Problem("zzz", 11, f"unknown key; known here: {SECTIONS}")),
        (GOOD + "limits: {max_bod: 1}\n", Problem("limits.max_bod", 11, "unknown key; did you mean max_body?")),
        (GOOD.replace("    dialect: openai\n", ""), Problem("providers[0]", 3, "dialect is missing")),
        (GOOD.replace("        model: small-1\n", ""), Problem("models[0].pool[0]", 9, "model is missing")),
        (GOOD + "listen: x\n", Problem("listen", 11, "is there twice")),
        (GOOD + "? [a, b]\n: 1\n", Problem("", 11, "a key must be a plain word")),
        (GOOD + "aliases: {fast: small, fast: small}\n", Problem("aliases.fast", 11, "is there twice")),
        (GOOD + "aliases: [fast]\n", Problem("aliases", 11, "a mapping is expected here")),
        (
            GOOD + "limits: 3\n",
            Problem(
                "limits",
                11,
                "a mapping is expected here: lines of `key: value`, with a space after each colon; known here: ",
            ),
        ),
        (GOOD + "fallbacks: {small: big}\n", Problem("fallbacks.small", 11, "a list is expected here")),
        ("providers: []\n" + GOOD[GOOD.index("models:") :], Problem("providers", 1, "the list must not be empty")),
        (GOOD + "drain: [30s]\n", Problem("drain", 11, "a duration such as 30s is expected here, not a list")),
        (GOOD + "access_log: {}\n", Problem("access_log", 11, "text is expected here, not a mapping")),
        (
            GOOD + "defaults: {max_tokens: []}\n",
            Problem("defaults.max_tokens", 11, "a whole number of 1 or more is expected here, not a list"),
        ),
        (
            GOOD + "accounts: {required: []}\n",
            Problem("accounts.required", 11, "true or false is expected here, not a list"),
        ),
        (GOOD + "admin: {token: []}\n", Problem("admin.token", 11, "text is expected here, not a list")),
        (GOOD.replace("8080", "${PORT}"), Problem("listen", 1, "the environment variable PORT is not set")),
    ],
    ids=lambda case: f"{case.path}: {case.message[:20]}" if isinstance(case, Problem) else "",
)
def test_a_mistake_of_shape_is_reported_with_its_path_and_line(text: str, problem: Problem) -> None:
    ((path, line, message),) = problems(text)
    assert (path, line) == (problem.path, problem.line)
    assert message.startswith(problem.message)


@pytest.mark.parametrize(
    ("member", "path", "message"),
    [
        ("drain: 30", "drain", "a duration is a number with a unit, such as 250ms, 2s, 5m or 1h"),
        (
            "limits: {max_body: big}",
            "limits.max_body",
            "a size is a whole number of bytes with or without a unit, such as 64KiB, ",
        ),
        (
            "limits: {max_connections: 0}",
            "limits.max_connections",
            "a whole number of 1 or more is expected here, not ",
        ),
        (
            "limits: {max_connections: 9223372036854775808}",
            "limits.max_connections",
            "a number of at most 9223372036854775807 is",
        ),
        ("limits: {max_body: 999999999999999GiB}", "limits.max_body", "a number of at most 9223372036854775807 is"),
        (f"defaults: {{max_tokens: {10**30}}}", "defaults.max_tokens", "a number of at most 9223372036854775807 is"),
        (
            "limits: {max_connections: 1.5}",
            "limits.max_connections",
            "a whole number of 1 or more is expected here, not the number 1.5",
        ),
        (
            "limits: {max_connections: ten}",
            "limits.max_connections",
            "a whole number of 1 or more is expected here, not 'ten'",
        ),
        ("accounts: {required: maybe}", "accounts.required", "true or false is expected here, not 'maybe'"),
        ("accounts: {signup: {credits: lots}}", "accounts.signup.credits", "a price is a number of US dollars, such as 0.68"),
        ("accounts: {signup: {credits: -1}}", "accounts.signup.credits", "a price is between 0 and 1000000 US dollars"),
        ("accounts: {database: null}", "accounts.database", "text is expected here, not null"),
        ("defaults: {policy: random}", "defaults.policy", "'random' is not known here; use one of weighted, priority"),
        (
            "aliases: {fast: a b}",
            "aliases.fast",
            "a name that begins with a letter or a digit and has only letters, digits and ._:/-",
        ),
    ],
    ids=lambda case: str(case)[:40],
)
def test_a_value_of_the_wrong_type_is_reported(member: str, path: str, message: str) -> None:
    ((found_path, line, found),) = problems(f"{GOOD}{member}\n")
    assert (found_path, line) == (path, 11)
    assert found.startswith(message)


@pytest.mark.parametrize(
    "written",
    [
        "1_0",
        "1_000.5",
        "0o17",
        "017",
        "-017",
        "0x10",
        "0b11",
        "1:30",
        "1:30.5",
        "+1",
        "+1.5",
        "+.5",
        ".inf",
        "-.inf",
        ".nan",
        "9" * 200,
    ],
)
@pytest.mark.parametrize(
    ("before", "after", "path"),
    [("limits: {max_connections: ", "}", "limits.max_connections"), ("limits: {max_body: ", "}", "limits.max_body"),
     ("drain: ", "", "drain"), ("accounts: {signup: {credits: ", "}}", "accounts.signup.credits")],
)  # fmt: skip
def test_a_number_that_yaml_and_people_read_differently_is_refused(before: str, after: str, path: str, written: str) -> None:
    ((found_path, line, message),) = problems(f"{GOOD}{before}{written}{after}\n")
    assert (found_path, line) == (path, 11)
    assert "decimal digits" in message


@pytest.mark.parametrize(
    ("written", "dollars"), [("10", 10), ("0.5", 0.5), (".5", 0.5), ("1.", 1), ("1e3", 1000), ("1.5e-3", 0.0015), ("0", 0)]
)
def test_a_number_is_decimal(written: str, dollars: float) -> None:
    document, _, found, *_ = read_document(f"{GOOD}accounts: {{signup: {{credits: {written}}}}}\n", {})
    assert found == []
    assert document is not None
    assert float(document.accounts.signup.credits or 0) == dollars


def test_a_number_in_another_scripts_digits_is_refused() -> None:
    for member in ("limits: {max_connections: \u0661\u0660}", "limits: {max_body: \uff11KB}", "drain: \u0663s"):
        assert len(problems(f"{GOOD}{member}\n")) == 1


@pytest.mark.parametrize("written", ['"a\\0b"', '"${NOT_UTF_8}"', "${NUL}"])
@pytest.mark.parametrize(
    ("before", "after", "path"),
    [("access_log: ", "", "access_log"), ("tls: {key: x, certificate: ", "}", "tls.certificate"),
     ("aliases: {fast: ", "}", "aliases.fast"), ("cors: {origins: [", "]}", "cors.origins[0]"), ("drain: ", "", "drain"),
     ("accounts: {top_up: ", "}", "accounts.top_up")],
)  # fmt: skip
def test_a_value_that_is_no_text_is_a_problem(before: str, after: str, path: str, written: str) -> None:
    environment = {"NOT_UTF_8": "a\udcff", "NUL": "a\0"}
    ((found_path, line, message),) = problems(f"{GOOD}{before}{written}{after}\n", environment)
    assert (found_path, line) == (path, 11)
    assert "no text" in message


@pytest.mark.parametrize("text", ['"\\U00110000": 1', 'aliases: {"\\ud800": small}', 'aliases: {"\\0": small}'])
def test_an_odd_key_is_a_problem(text: str) -> None:
    assert problems(f"{GOOD}{text}\n")


def test_all_problems_are_reported_at_once_and_the_rest_is_read() -> None:
    text = (
        GOOD.replace("dialect: openai", "dialect: klingon") + "drain: 30\nlisten: again\nzzz: 1\nadmin: {token: t, prot: 1}\n"
    )
    read, _, found, *_ = read_document(text, {})
    assert [(problem.path, problem.line) for problem in ConfigError(found).problems] == [
        ("providers[0].dialect", 5), ("drain", 11), ("listen", 12), ("zzz", 13), ("admin.prot", 14),
    ]  # fmt: skip
    assert isinstance(read, Document)
    assert [isinstance(one, Provider) for one in read.providers] == [False]
    assert read.models[0].id == "small"


def test_the_entries_of_a_list_keep_their_index_if_one_has_a_problem() -> None:
    text = """\
providers: [{name: a}, {name: b, base_url: http://b, dialect: openai}]
models: [{id: m, pool: [{provider: b, model: x}]}]
"""
    read, lines, _, *_ = read_document(text, {})
    assert read is not None
    assert [isinstance(one, Provider) for one in read.providers] == [False, True]
    assert read.providers[1] == Provider("b", "http://b", "openai")
    assert lines["providers[1].name"] == 1
    assert lines["models[0].pool[0].model"] == 2


def test_a_text_member_stays_text_if_yaml_would_read_a_number_or_a_date() -> None:
    text = GOOD.replace("id: small", "id: 1.0\n    owned_by: on\n    created: 2026-04-02\n    name: 0x10")
    model = document(text).models[0]
    assert (model.id, model.owned_by, model.created, model.name) == ("1.0", "on", "2026-04-02", "0x10")


def test_null_turns_a_setting_off_and_an_absent_one_stays_unset() -> None:
    read = document(f"{GOOD}admin: null\naccess_log: ~\ndefaults: {{max_tokens: null, timeouts: {{idle: null}}}}\n")
    assert (read.admin, read.access_log, read.defaults.max_tokens, read.defaults.timeouts.idle) == (None, None, None, None)
    assert read.defaults.timeouts.total is msgspec.UNSET


def test_the_smallest_document_has_the_defaults() -> None:
    one = Provider("one", "https://one.example/v1", "openai")
    assert document(GOOD) == Document(providers=(one,), models=(Model(id="small", pool=(Source("one", "small-1"),)),))


@given(
    text=st.text() | st.text(alphabet="{}[]:,-#&*!|>'\"%@`?~ \n\t$aA10.") | st.binary().map(lambda raw: raw.decode("latin-1"))
)
@example(text="providers: &a [*a]\nmodels: *a")
@example(text="\ufeff")
def test_any_text_is_read_into_a_document_or_into_problems(text: str) -> None:
    read, lines, found, *_ = read_document(text, {"A": text})
    assert (read is None) <= bool(found)
    assert all(line >= 1 for line in lines.values())


KEYS = sorted({*Document.__struct_fields__, *Provider.__struct_fields__, *Model.__struct_fields__, *Source.__struct_fields__})
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.sampled_from(["1s", "${A}"])
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
)


@given(tree=st.dictionaries(st.sampled_from(Document.__struct_fields__), TREES))
def test_any_tree_of_known_keys_is_read_with_lines_of_the_file(tree: dict[str, object]) -> None:
    text = yaml.safe_dump(tree)
    _, lines, found, *_ = read_document(text, {"A": "1"})
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    assert all(problem.line in lines.values() for problem in found)


def test_without_libyaml_a_warning_says_what_that_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_document(GOOD, {}).warnings == []
    monkeypatch.setattr(nodes, "HAS_LIBYAML", False)
    (warning,) = read_document(GOOD, {}).warnings
    assert warning.message == "PyYAML is without libyaml here, so that a configuration takes ten times as long to read"


@pytest.mark.parametrize("value", ["!!timestamp noon", "!!bool maybe", '!!int ""', '!!float ""'])
def test_a_wrong_yaml_tag_is_a_problem_of_its_value(value: str) -> None:
    assert [problem.path for problem in problems(f"{GOOD}drain: {value}\n")] == ["drain"]
