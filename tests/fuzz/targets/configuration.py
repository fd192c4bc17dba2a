"""The reading of a configuration file: a snapshot, or problems that say where they are."""

from __future__ import annotations

import re

from kyma_proxy.config.problems import ConfigError, Problem
from kyma_proxy.loading.compiling import load
from tests.factories import DEFAULT, SEVERAL, SEVERAL_KEYS, SMALLEST
from tests.fuzz.mutators import line_mutator
from tests.fuzz.target import Target

_ENVIRONMENT = {**SEVERAL_KEYS, "ALPHA_KEY": "secret-of-alpha", "NUMBER": "17", "WORD": "m"}
_MORE = """\
listen: "[::1]:8080"
admin: {listen: "unix:/run/a.sock", token: "${WORD}"}
access_log: null
drain: 1.5m
cors: {origins: ["https://a.example"]}
accounts: {required: true, database: "sqlite:a.db", signup: {enabled: true, credits: 0.50, per_hour: 5}, hold_tokens: 10}
defaults: {max_tokens: null, policy: fastest, hedge_after: auto, timeouts: {connect: 2s, total: null}}
limits: {max_body: 32MiB, max_head: 64KB, max_connections: ${NUMBER}}
tiers:
  - {tier: 0, min_purchased: 0, rpm: 30, per_model_rpm: 25, tpm: 200000, max_request_tokens: 200000}
  - {tier: 1, min_purchased: 5, rpm: 60, per_model_rpm: 50, tpm: 400000, max_request_tokens: 400000}
providers:
  - &p {name: one, base_url: "http://[::1]:80/v1", dialect: openai, move_on: [{status: 400, code: x}], pass_headers: ["x-*"]}
models:
  - {id: m, created: 2026-01-02, pool: [{provider: one, model: m}], price: {input: 1, per_search: 0.01, included: [audio]}}
fallbacks: {m: [m]}
aliases: {fast: m}
"""
_TEXTS = (SMALLEST, SEVERAL, DEFAULT, _MORE)
_ODD_LINES = (
    b"<<: *p", b"? a", b"- - -", b"---", b"%YAML 1.1", b"!!binary x", b"!!python/none", b"&a [*a]", b"a: &a [*a, *a]", b"1: 2",
    b"|", b">-", b"x: 0o17", b"x: 1:60", b"x: .nan", b"x: 0b", b"x: 2026-13-45", b"\t- x", b"- {provider: one, weight: .inf}",
    b"created: 2026-02-30",
)  # fmt: skip
_LINES = (*(line.encode() for text in _TEXTS for line in text.splitlines() if len(line) < 90), *_ODD_LINES)
_WORDS = (
    b"${NUMBER}", b"${MISSING}", b"*a", b"&a ", b"!!int ", b"!!float ", b".nan", b"0x", b"1_0", b": ", b"- ", b"{", b"}",
    b"\xc2\x85", b"\xe2\x80\xa8", b"unix:/a", b"auto", b"1.5h", b"2KiB", b"https://",
)  # fmt: skip
_LINE_ENDS = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def configuration(data: bytes) -> None:
    """A file is compiled, or refused with problems; nothing else is raised."""
    text = data.decode("utf-8", "replace")
    problems: list[Problem] | None = None
    try:
        load(text, _ENVIRONMENT)
    except ConfigError as error:
        problems = error.problems
    assert problems is None or problems, "refused without a reason"
    lines = len(_LINE_ENDS.findall(text)) + 2
    for problem in problems or ():
        assert problem.message, "no words"
        assert 0 <= problem.line <= lines, f"line {problem.line} of {lines}"
        str(problem).encode()


def _seeds() -> list[bytes]:
    return [text.encode() for text in _TEXTS]


TARGETS = (Target("configuration", configuration, _seeds, line_mutator(_LINES), _WORDS, 2048),)
