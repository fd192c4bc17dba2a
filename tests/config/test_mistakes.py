"""A mistake in a configuration is told with its line, its place and what to write instead; `mistakes.yaml` has the mistakes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.loading.compiling import load
from tests.processes import ROOT

GOOD = """\
listen: 127.0.0.1:8080
providers:
  - name: openai
    base_url: https://api.openai.com/v1
    dialect: openai
    api_key: ${OPENAI_API_KEY}
models:
  - id: gpt
    price: {input: 2.5, output: 10}
    pool:
      - provider: openai
        model: gpt-4o
"""
KEY = "sk-this-is-the-key-of-the-tests"
MISTAKES: list[dict[str, Any]] = yaml.safe_load((ROOT / "tests/config/mistakes.yaml").read_text(encoding="utf-8"))
PYTHONS_WORDS = re.compile(r"\b(?:Expected|NoneType|int|str|float|bool|dict|tuple|regex|Node|stream end|any token)\b")


def written(mistake: dict[str, Any]) -> str:
    if "text" in mistake:
        return str(mistake["text"])
    if "append" in mistake:
        return GOOD + str(mistake["append"])
    assert GOOD.count(mistake["replace"]) == 1
    return GOOD.replace(mistake["replace"], mistake["with"])


def told(text: str) -> tuple[list[str], list[str]]:
    """The problems and the warnings about a configuration."""
    try:
        return [], [str(warning) for warning in load(text, {"OPENAI_API_KEY": KEY}).warnings]
    except ConfigError as error:
        return [str(problem) for problem in error.problems], [str(warning) for warning in error.warnings]


def test_the_file_that_the_mistakes_are_made_in_has_none() -> None:
    assert told(GOOD) == ([], [])


@pytest.mark.parametrize("mistake", [pytest.param(one, id=one["name"]) for one in MISTAKES])
def test_a_mistake_is_told_with_its_line_and_what_to_write(mistake: dict[str, Any]) -> None:
    assert told(written(mistake)) == (mistake.get("problems", []), mistake.get("warnings", []))


def test_every_message_names_a_line_and_has_no_words_of_pythons() -> None:
    lines = [line for one in MISTAKES for line in (*one.get("problems", []), *one.get("warnings", []))]
    empty = [line for line in lines if line.startswith("the file is empty")]
    assert [line for line in lines if not re.match(r"line [1-9]", line)] == empty
    assert [line for line in lines if PYTHONS_WORDS.search(line)] == []
    assert [line for line in lines if KEY in line] == []


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"), GOOD.replace("\n", "\r"), f"\ufeff{GOOD}", f"---\n{GOOD}", f"%YAML 1.2\n---\n{GOOD}",
        f"{GOOD}...\n",
        GOOD.replace("127.0.0.1:8080", "${LISTEN:-127.0.0.1:8080}"), GOOD.replace("- name", "- &it\n    name"),
        GOOD.replace("gpt-4o", "gpt-4o  # the model"), GOOD.replace("\n", "  \n"),
    ],
)  # fmt: skip
def test_a_file_is_good_whatever_its_line_ends_marks_and_remarks_are(text: str) -> None:
    assert told(text) == ([], [])


@pytest.mark.parametrize("base", ["https://api.anthropic.com", "https://api.anthropic.com/", "https://api.anthropic.com/v1"])
def test_a_base_url_for_anthropics_dialect_may_have_its_version_or_lack_it(base: str) -> None:
    text = GOOD.replace("https://api.openai.com/v1", base).replace("dialect: openai", "dialect: anthropic")
    provider = load(text, {"OPENAI_API_KEY": KEY}).providers["openai"]
    assert provider.targets[b"/messages"] == b"/v1/messages"


@pytest.mark.parametrize(
    ("written", "environment", "value"),
    [
        ("${NAME:-127.0.0.1:1}", {}, "127.0.0.1:1"), ("${NAME:-127.0.0.1:1}", {"NAME": ""}, "127.0.0.1:1"),
        ("${NAME:-127.0.0.1:1}", {"NAME": "localhost:2"}, "localhost:2"), ("${HOST:-localhost}:${PORT:-3}", {}, "localhost:3"),
        ("unix:/${DIRECTORY:-run, #[a]&*!|>%@: x}/a.sock", {}, "unix:/run, #[a]&*!|>%@: x/a.sock"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["admin:\n  listen: {}\n", "admin: {{listen: {}}}\n", "admin: {{listen: '{}'}}\n"])
def test_a_variable_may_have_a_default(form: str, written: str, environment: dict[str, str], value: str) -> None:
    snapshot = load(GOOD + form.format(written), {"OPENAI_API_KEY": KEY, **environment})
    assert snapshot.admin is not None
    assert str(snapshot.admin.listen) == value


def test_a_default_may_be_empty_and_is_no_value_of_the_environment() -> None:
    snapshot = load(f"{GOOD}access_log: a${{NAME:-}}b\n", {"OPENAI_API_KEY": KEY})
    assert (snapshot.access_log, snapshot.substitutions.values) == ("ab", {"OPENAI_API_KEY": KEY})


def test_all_problems_are_told_at_once_and_names_are_judged_beside_entries_that_are_broken() -> None:
    text = f"""{GOOD.replace("dialect: openai", "dialect: openia")}\
  - id: broken
    pool: [{{provider: opnai, model: x}}]
    colour: red
  - {{id: other, provider: nobody}}
aliases: {{fast: gtp, slow: broken, new: gpt}}
fallbacks: {{gpt: [broken, othr]}}
"""
    problems, _ = told(text)
    assert [line.partition(": ")[0] + ": " + line.split(": ")[1] for line in problems] == [
        "line 5: providers[0].dialect",
        "line 14: models[1].pool[0].provider",
        "line 15: models[1].colour",
        "line 16: models[2].provider",
        "line 17: aliases.fast",
        "line 18: fallbacks.gpt[1]",
    ]
