"""A member that differs only in case from one that the gateway decides by is refused: some providers would obey it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from kyma_proxy.core.accounts.extras import COSTLY_MEMBERS
from kyma_proxy.core.http.body import read_routing_fields
from kyma_proxy.errors import GatewayError, Kind

DECIDING = sorted({
    *COSTLY_MEMBERS, "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "n",
    "best_of", "input", "messages", "system", "thinking", "reasoning",
})  # fmt: skip


def refusal(members: Mapping[str, object]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read_routing_fields(json.dumps(members).encode())
    assert caught.value.kind is Kind.INVALID_REQUEST
    return caught.value


@pytest.mark.parametrize("name", DECIDING)
def test_no_other_spelling_of_a_member_that_decides_is_let_in(name: str) -> None:
    for other in {name.upper(), name.title(), name.swapcase(), name[0] + name[1:].upper()} - {name}:
        for members in ({other: "x", "model": "m"}, {"model": "m", name: "m", other: None}):
            error = refusal(members)
            assert error.param == name
            assert f"`{name}`" in error.message


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ("max_to\N{KELVIN SIGN}ens", "max_tokens"), ("\N{LATIN SMALL LETTER LONG S}tream", "stream"),
        ("me\N{LATIN SMALL LETTER LONG S}\N{LATIN SMALL LETTER LONG S}ages", "messages"),
        ("stream_opt\N{LATIN SMALL LETTER DOTLESS I}ons", "stream_options"),
        ("serv\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}ce_t\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}er", "service_tier"),
    ],
)  # fmt: skip
def test_letters_that_count_as_the_same_without_their_case_are_another_spelling(other: str, name: str) -> None:
    assert refusal({"model": "m", other: 1}).param == name


def test_a_body_whose_only_model_is_misspelt_is_told_the_right_spelling() -> None:
    assert "`model`" in refusal({"MODEL": "m"}).message


@pytest.mark.parametrize(
    "options",
    ['{"Include_usage":true}', '{"include_usage":true,"INCLUDE_USAGE":false}', '{"include_u\\u017fage":false}',
     '{"include_usage":true,"include_usage":false}', '{"a":1,"a":2}'],
)  # fmt: skip
def test_the_options_of_a_stream_are_spelled_one_way(options: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read_routing_fields(f'{{"model":"m","stream":true,"stream_options":{options}}}'.encode())
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "stream_options")


@pytest.mark.parametrize(
    "members",
    [
        {"Temperature": 1}, {"X": {"Model": "n"}}, {"mödel": "n"}, {"models_": 1}, {"maxTokens": 1}, {"m" * 256: 1},
        {"metadata": {"Stream": 1}}, {"stream_options": {"include_usage": True, "other": [{"Include_Usage": 1}]}},
        {"stream_options": None}, {"stream_options": 7}, {"stream_options": [["include_usage"], ["include_usage"]]},
    ],
)  # fmt: skip
def test_other_unknown_members_pass(members: Mapping[str, object]) -> None:
    assert read_routing_fields(json.dumps({"model": "m", **members}).encode()).model == "m"
