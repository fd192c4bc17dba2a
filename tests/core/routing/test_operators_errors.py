"""An error about the operator's account leads to the next source; an error of the caller's is for the caller."""

from __future__ import annotations

import json

import pytest

from kyma_proxy.config.snapshot import ErrorRule
from kyma_proxy.core.routing.operators_errors import meaning_of
from kyma_proxy.dialect.answers.errors import read_error
from kyma_proxy.dialect.anthropic import ANTHROPIC
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.openai import OPENAI


def openai(message: str = "no", **members: object) -> object:
    return {"error": {"message": message, **members}}


def anthropic(message: str, kind: str = "invalid_request_error") -> object:
    return {"type": "error", "error": {"type": kind, "message": message}}


ERRORS: list[tuple[Dialect, int, object, int | None]] = [
    (ANTHROPIC, 400, anthropic("Your credit balance is too low to access the API."), 402),
    (ANTHROPIC, 400, anthropic("You have reached your specified API usage limits."), 402),
    (ANTHROPIC, 400, anthropic("This organization has been disabled."), 403),
    (ANTHROPIC, 400, anthropic("no", "billing_error"), 402),
    (ANTHROPIC, 400, anthropic("max_tokens: must be at least 1"), None),
    (ANTHROPIC, 400, anthropic("messages: 'Your credit balance is too low' is no role"), None),
    (ANTHROPIC, 413, anthropic("Request exceeds the maximum size", "request_too_large"), None),
    (OPENAI, 400, openai(code="billing_hard_limit_reached"), 402),
    (OPENAI, 400, openai(type="insufficient_quota"), 402),
    (OPENAI, 400, openai("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT"), 401),
    (OPENAI, 400, openai("x", details=[{"@type": "x", "reason": "API_KEY_INVALID"}]), 401),
    (OPENAI, 400, [openai("User location is not supported for the API use.", status="FAILED_PRECONDITION")], 403),
    (OPENAI, 400, {"code": "Arrearage", "message": "no"}, 402),
    (OPENAI, 400, {"error": "Incorrect API key provided: ab***cd", "code": "x"}, 401),
    (OPENAI, 413, openai(type="tokens", code="rate_limit_exceeded"), 429),
    (OPENAI, 413, openai(code="request_too_large"), None),
    (OPENAI, 400, openai(code="context_length_exceeded"), None),
    (OPENAI, 400, openai("Please do not say: API key not valid"), None),
    (OPENAI, 400, "no JSON at all", None),
    (OPENAI, 400, {"error": {"code": None, "details": "x", "message": 5}}, None),
    (OPENAI, 422, openai(code="billing_hard_limit_reached"), 402),
    (OPENAI, 400, openai(type="budget_exceeded", code="400"), 402),
    (OPENAI, 400, openai(code="organization_restricted"), 403),
    (OPENAI, 422, openai("API key not valid"), None),
]


@pytest.mark.parametrize(("dialect", "status", "body", "expected"), ERRORS)
def test_an_ambiguous_status_is_judged_by_the_body(dialect: Dialect, status: int, body: object, expected: int | None) -> None:
    written = body if isinstance(body, str) else json.dumps(body)
    assert meaning_of(status, read_error(written.encode()), dialect.operators_errors) == expected


@pytest.mark.parametrize(("rule", "status", "body", "fits"), [
    (ErrorRule(400, "quota"), 400, openai(code="quota"), True), (ErrorRule(400, "quota"), 422, openai(code="quota"), False),
    (ErrorRule(None, "quota"), 422, openai(type="quota"), True), (ErrorRule(422), 422, "whatever", True),
    (ErrorRule(400, None, "out of"), 400, openai("Out of credits"), True),
    (ErrorRule(400, None, "out of"), 400, openai("You are out of credits"), False),
    (ErrorRule(400, "quota", "out of"), 400, openai("Out of credits"), False),
])  # fmt: skip
def test_each_member_of_a_rule_must_fit(rule: ErrorRule, status: int, body: object, fits: bool) -> None:
    written = body if isinstance(body, str) else json.dumps(body)
    assert (meaning_of(status, read_error(written.encode()), [rule]) == 403) is fits


def test_a_broken_character_hides_no_code() -> None:
    error = read_error(b'{"error":{"code":"insufficient_quota","message":"caf\xe9"}}')
    assert error.codes == ("insufficient_quota",)
