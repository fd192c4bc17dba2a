"""What came from the environment is shown by the name of its variable."""

from __future__ import annotations

import pytest

from kyma_proxy.config.substitutions import Substitutions

SUBSTITUTIONS = Substitutions({"KEY": "hunter2", "LONG": "hunter2-and-more", "WORD": "abc", "ONE": "1"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hunter2", "${KEY}"), ("https://x/hunter2/v1", "https://x/${KEY}/v1"), ("hunter2-and-more", "${LONG}"),
        ("a hunter2-and-more b hunter2", "a ${LONG} b ${KEY}"),
        ("no model abc; abcd", "no model ${WORD}; abcd"),
        ("1", "${ONE}"), ("line 1", "line 1"), ("nothing", "nothing"),
    ],
)  # fmt: skip
def test_a_value_is_shown_by_its_name(text: str, shown: str) -> None:
    assert SUBSTITUTIONS.shown(text) == shown


def test_all_texts_of_a_document_are_shown_so() -> None:
    document = {"hunter2": ["a hunter2", {"b": "abc"}], "n": 1, "none": None, "on": True}
    assert SUBSTITUTIONS.shown_in(document) == {"${KEY}": ["a ${KEY}", {"b": "${WORD}"}], "n": 1, "none": None, "on": True}


def test_a_value_does_not_show_in_a_repr() -> None:
    assert "hunter2" not in repr(SUBSTITUTIONS) + str(SUBSTITUTIONS)


def test_a_value_that_is_a_part_of_another_variables_name_is_not_sought_in_it() -> None:
    values = {"ACME_API_KEY": "a-long-secret-value", "VENDOR": "ACME_"}
    assert Substitutions(values, {}).shown("key a-long-secret-value of ACME_1") == "key ${ACME_API_KEY} of ${VENDOR}1"
