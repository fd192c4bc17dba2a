"""Names that fall together in a hash table without a seed are spread by the tables that are used here, or are refused early.

A table in which all of 100,000 names fall together needs five billion comparisons: a minute and more, which no test here has.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tests.behaviour.translation import PATHS
from tests.harness import both, whole

MANY = 100_000
SLOTS = 2**18
ENDS = "a" * 32


def multiplied(factor: int) -> Callable[[str], int]:
    """The hash function of many libraries: each character is added after a multiplication."""

    def hashed(name: str) -> int:
        value = 0
        for character in name:
            value = (value * factor + ord(character)) & 0xFFFFFFFF
        return value

    return hashed


def joined(*syllables: str) -> Iterator[str]:
    """Names of 11 syllables, each of which counts the same."""
    return map("".join, itertools.product(syllables, repeat=11))


KINDS: dict[str, tuple[Callable[[str], int], Callable[[], Iterator[str]]]] = {
    "times 31 (Java)": (multiplied(31), lambda: joined("Aa", "BB", "C#")),
    "times 33 (PHP, Perl)": (multiplied(33), lambda: joined("Ez", "FY", "G8")),
    "sum of the characters": (multiplied(1), lambda: map("".join, itertools.permutations("abcdefghi"))),
    "the ends alone": (lambda name: hash((name[:32], name[-32:])), lambda: (f"{ENDS}{at:06}{ENDS}" for at in range(MANY))),
}  # fmt: skip


def names(kind: str) -> list[str]:
    """The first of the names of a kind."""
    return list(itertools.islice(KINDS[kind][1](), MANY))


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_are_spread_over_the_slots_of_a_table(kind: str) -> None:
    assert sys.flags.hash_randomization
    assert sys.hash_info.algorithm.startswith("siphash")
    found = names(kind)
    assert len(set(found)) == MANY
    assert len({KINDS[kind][0](name) for name in found}) == 1
    for texts in (found, [name.encode() for name in found]):
        assert len({hash(text) % SLOTS for text in texts}) > 0.7 * MANY  # of 82,700 that are to be expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_of_json_makes_a_table_of_them(kind: str) -> None:
    text = json.dumps(dict.fromkeys(names(kind), 1)).encode()
    for read in (msgspec.json.decode, orjson.loads, msgspec.json.Decoder(dict[str, msgspec.Raw]).decode, json.loads):
        assert len(read(text)) == MANY


async def test_at_the_top_of_a_body_they_are_refused_and_below_it_they_pass(tmp_path: Path) -> None:
    colliding: dict[str, Any] = dict.fromkeys(names("times 33 (PHP, Perl)"), 1)
    async with both(tmp_path) as (gateway, provider):
        client = await gateway.client()
        client.ask(**colliding)
        answer = await client.answer()
        assert answer.status == 400
        assert "members" in answer.json["error"]["message"]
        assert not provider.received
        client.ask(metadata=colliding)
        assert (await client.answer()).status == 200
        assert json.loads(provider.received[0].body)["metadata"] == colliding


@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_they_are_translated_in_a_request_and_in_an_answer(tmp_path: Path, caller: str) -> None:
    colliding = dict.fromkeys(names("times 31 (Java)"), 1)
    parameters = {"type": "object", "properties": colliding}
    call = json.dumps(colliding)
    if caller == "openai":
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        answer = {
            "type": "message",
            "content": [{"type": "tool_use", "id": "t", "name": "f", "input": colliding}],
            "stop_reason": "tool_use",
        }
    else:
        tool = {"name": "f", "input_schema": parameters}
        function = {"name": "f", "arguments": call}
        message = {"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": function}]}
        answer = {"object": "chat.completion", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
    async with both(tmp_path, dialect={"openai": "anthropic", "anthropic": "openai"}[caller]) as (gateway, provider):
        provider.plays(whole(json.dumps(answer).encode()))
        client = await gateway.client()
        document = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}], "tools": [tool]}
        client.post(json.dumps(document).encode(), path=PATHS[caller])
        got = await client.answer()
        assert got.status == 200
        assert got.body.count(b"Aa") + got.body.count(b"BB") >= MANY
