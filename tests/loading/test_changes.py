"""Two configurations are compared as they are written: by names, key by key, and without a secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kyma_proxy.config.reload_result import Change
from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.config.units import Secret
from kyma_proxy.loading.changes import find_changes
from kyma_proxy.loading.reading import read_document
from kyma_proxy.loading.written_form import Form, sealed_with, written_form

BEFORE = """\
providers:
  - {name: one, base_url: http://one, dialect: openai, api_key: "${ONE}", headers: {X-Team: blue, X-Key: hidden-1}}
  - {name: two, base_url: http://two, dialect: openai, api_key: literal-key-2, body: {user: hidden-2}}
models:
  - {id: small, pool: [{provider: one, model: s}, {provider: two, model: s}], price: {input: 1}}
  - {id: large, pool: [{provider: one, model: l, weight: 3}]}
aliases: {fast: small}
limits: {max_body: 1MiB}
"""
ENVIRONMENT = {"ONE": "secret-one", "TWO": "secret-two", "HOST": "host-of-env", "NO": "17"}
SECRETS = ("secret-one", "secret-two", "literal-key", "hidden", "host-of-env")


def form(text: str, seal: Callable[[str], str]) -> Form:
    substitutions = Substitutions({}, {})
    document, _, problems, *_ = read_document(text, ENVIRONMENT, substitutions)
    assert document is not None
    assert problems == []
    return written_form(document, substitutions, seal)


def changes(before: str, after: str) -> list[Change]:
    found = find_changes(form(before, str), form(after, str))
    assert not [secret for secret in SECRETS if secret in repr(found)]
    seal = sealed_with(Secret("a-token-for-the-admin-api"))
    sealed = [json.loads(json.dumps(form(text, seal))) for text in (before, after)]
    assert not [secret for secret in SECRETS if secret in repr(sealed)]
    assert find_changes(*sealed) == found
    return found


def lines(before: str, after: str) -> list[str]:
    return [f"{one.kind} {one.path}: {one.before} -> {one.after}" for one in changes(before, after)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_body: 1MiB", "max_body: 2MiB", ["changed limits.max_body: 1MiB -> 2MiB"]),
        ("limits: {max_body: 1MiB}", "", ["changed limits.max_body: 1MiB -> 32MiB"]),
        ("max_body: 1MiB", "max_body: 1048576", []),
        ("weight: 3", "weight: 4", ["changed models[large].pool[one l].weight: 3 -> 4"]),
        ("input: 1", "input: 1.5", ["changed models[small].price.input: 1 -> 1.5"]),
        ("input: 1", "input: $1", []),
        ("{fast: small}", "{fast: large}", ["changed aliases[fast]: small -> large"]),
        ("{fast: small}", "{slow: small}", ["removed aliases[fast]: small -> None", "added aliases[slow]: None -> small"]),
        ("id: large", "id: huge", ["removed models[large]: None -> None", "added models[huge]: None -> None"]),
        ("{provider: one, model: s}, ", "", ["removed models[small].pool[one s]: None -> None"]),
        (
            "{provider: one, model: s}, {provider: two, model: s}", "{provider: two, model: s}, {provider: one, model: s}",
            ["changed models[small].pool: None -> (in another order)"],
        ),
        ("model: s}, {provider: two,", "model: s}, {provider: one,", ["changed models[small].pool: None -> None"]),
        ("${ONE}", "${TWO}", ["changed providers[one].api_key: ${ONE} -> ${TWO}"]),
        ("${ONE}", "a-literal-key", ["changed providers[one].api_key: ${ONE} -> (not shown)"]),
        ("literal-key-2", "literal-key-3", ["changed providers[two].api_key: (not shown) -> (not shown)"]),
        ("api_key: literal-key-2, ", "", ["changed providers[two].api_key: (not shown) -> None"]),
        (
            "X-Team: blue, X-Key: hidden-1", "X-Key: hidden-3",
            ["removed providers[one].headers[X-Team]: (not shown) -> None",
             "changed providers[one].headers[X-Key]: (not shown) -> (not shown)"],
        ),
        ("user: hidden-2", "user: hidden-3", ["changed providers[two].body: (not shown) -> (not shown)"]),
        ("http://two", "http://${HOST}", ["changed providers[two].base_url: http://two -> http://${HOST}"]),
        ("max_body: 1MiB", "max_body: ${NO}", ["changed limits.max_body: 1MiB -> ${NO}"]),
        ("limits:", "hosts: [a, '${NO}']\nlimits:", ["changed hosts: [] -> [a, ${NO}]"]),
        ("limits:", "admin: null\nlimits:", ["changed admin: None -> null"]),
        (
            "limits:", "tls: {certificate: a, key: b}\nadmin: {token: hidden-token-of-the-admin}\nlimits:",
            ["changed tls: null -> {certificate: a, key: b}", "changed admin.token: None -> (not shown)"],
        ),
        (
            "pool: [{provider: one, model: l, weight: 3}]", "provider: one",
            ["changed models[large].provider: None -> one",
             "removed models[large].pool[one l]: None -> None"],
        ),
        (
            "weight: 3}]", "weight: 3}], reserve: [{provider: two, model: l, body: {a: hidden}}]",
            ["added models[large].reserve[two l]: None -> None"],
        ),
        (
            "weight: 3}", "timeouts: {idle: 5s}}",
            ["changed models[large].pool[one l].weight: 3 -> 1", "changed models[large].pool[one l].timeouts.idle: None -> 5s"],
        ),
        (
            "api_key: literal", "move_on: [{status: 400}], api_key_command: [hidden], api_key: literal",
            ["changed providers[two].api_key_command: None -> (not shown)",
             "changed providers[two].move_on: [] -> [{status: 400}]"],
        ),
    ],
)  # fmt: skip
def test_what_differs_is_named_with_both_values(old: str, new: str, expected: list[str]) -> None:
    assert old in BEFORE
    assert lines(BEFORE, BEFORE.replace(old, new)) == expected


def test_what_is_the_same_is_no_change_however_it_is_written() -> None:
    other = BEFORE.replace("headers: {X-Team: blue, X-Key: hidden-1}", "headers: {X-Key: hidden-1, X-Team: 'blue'}")
    assert lines(BEFORE, f"# a comment\n{other}drain: 25000ms\nusage: as_reported\n") == []


def test_an_order_matters_where_names_are_the_same() -> None:
    first, second = BEFORE.index("  - {id: small"), BEFORE.index("  - {id: large")
    end = BEFORE.index("aliases")
    other = BEFORE[:first] + BEFORE[second:end] + BEFORE[first:second] + BEFORE[end:]
    assert lines(BEFORE, other) == ["changed models: None -> (in another order)"]


@pytest.mark.parametrize(
    "form_of_a_stranger",
    [
        {"limits": []}, {"limits": "x"}, {"limits": {"max_body": {"a": 1}}}, {"providers": {}}, {"providers": [["one"]]},
        {"providers": [[1, {}]]}, {"providers": [["one", []]]}, {"aliases": [1]}, {"aliases": {"fast": {"a": None}}},
        {"models": [["small", {"pool": 7, "price": [], "prices": {"a": [[]]}}]]}, {"tls": {"nothing": 1}}, {"admin": 0}, {},
        {"no_such_key": 1},
    ],
)  # fmt: skip
def test_any_form_can_be_compared(form_of_a_stranger: dict[str, Any]) -> None:
    for change in find_changes(form(BEFORE, str), form_of_a_stranger):
        assert json.dumps(msgspec.structs.asdict(change))
        assert not [secret for secret in SECRETS if secret in repr(change)]
