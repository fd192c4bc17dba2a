"""No model's id, alias, request id, idempotency key or value of the configuration adds a line to a head, on either side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.loading.compiling import load
from tests.behaviour.translation import WHOLE_ANSWERS
from tests.configurations import ProviderEntry, configuration
from tests.harness import Client, both, whole
from tests.jobs.image_gateway import OPENAI, image_gateway, images_answer, play, submit

EVIL = b"evil"
SPLITS = [
    "m\r\nevil: 1",
    "m\nevil: 1",
    "m\revil: 1",
    "m\r\n\r\nHTTP/1.1 200 OK\r\nevil: 1",
    "m\0evil: 1",
    "m\u0085evil",
    "m\u560d\u560aevil: 1",
    "m\u2028evil",
]
"""The last but one is what becomes a line's end if only the low byte of each character is written."""
IMAGES = "output_modalities: [image]"
_LINE = re.compile(rb"HTTP/1\.1 [0-9]{3} [!-~ ]*|[A-Za-z-]+: [\t -~]*")


async def is_answered_with_whole_lines(client: Client, status: int) -> None:
    """The next answer has this status; each line of its head is one of the gateway's or the provider's, and none is evil."""
    head = await client.head()
    assert head.status == status
    lines = head.raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert [line for line in lines if not _LINE.fullmatch(line) or line.lower().startswith(EVIL)] == []
    await client.reader.readexactly(int(head.headers["content-length"]))


async def test_the_model_of_a_request_is_never_a_line(tmp_path: Path) -> None:
    async with both(tmp_path, more="aliases: {fast: m}\n") as (gateway, provider):
        client = await gateway.client()
        for split in SPLITS:
            for model in (split, f"fast{split[1:]}", f"vendor/{split}"):
                client.ask(model)
                await is_answered_with_whole_lines(client, 404)
                client.get(f"/v1/models/{quote(model)}")
                await is_answered_with_whole_lines(client, 404)
        client.ask("fast")
        assert (await client.answer()).headers["x-kyma-alias"] == "fast"
        assert len(provider.received) == 1
        lines = [json.dumps(one) for one in await gateway.records(len(SPLITS) * 6 + 1)]
        assert all(line.isprintable() for line in lines)


async def test_a_request_id_that_is_not_fit_to_be_repeated_is_replaced(tmp_path: Path) -> None:
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        for value in (
            b"a b",
            b"a,evil: 1",
            b"a%0d%0aevil: 1",
            b"a\tb",
            b"\xe5\x98\x8d\xe5\x98\x8aevil",
            b"a\x85evil",
            b"a" * 129,
            b"a;b",
            b'"a"',
            b"",
        ):
            client.send(b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-request-id: %b\r\n\r\n" % value)
            answer = await client.answer()
            assert re.fullmatch("[0-9a-f]{16}-[0-9]+", answer.headers["x-request-id"]), value
        for bare in (b"a\rb", b"a\nevil: 1", b"a\0b", b"a\r\n evil: 1", b"a\x7fb", b"a\x1bb"):
            other = await gateway.client()
            other.send(b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-request-id: %b\r\n\r\n" % bare)
            await is_answered_with_whole_lines(other, 400)
            assert await other.read_to_end() == b""


async def test_an_idempotency_key_is_printable_or_refused(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        caller = await images.caller()
        for split in (*SPLITS, "\r\n", " a", "a\t", "k" * 129):
            answer = await submit(caller, idempotency_key=split)
            assert (split, answer.status, answer.json["error"]["param"]) == (split, 400, "idempotency_key")
        play(provider, images_answer())
        assert (await submit(caller, headers="idempotency-key: a: b%0d%0a\r\n")).status == 202
        await images.all_jobs_end()
        (received,) = provider.received
        assert "idempotency-key" not in received.headers


async def test_the_members_that_a_translation_drops_are_named_only_if_they_are_harmless(tmp_path: Path) -> None:
    async with both(tmp_path, dialect="anthropic") as (gateway, provider):
        client = await gateway.client()
        for split in SPLITS:
            provider.plays(WHOLE_ANSWERS["anthropic"])
            dropped: dict[str, Any] = {split: 1, "logit_bias": {}}
            client.ask(max_tokens=5, messages=[{"role": "user", "content": "a"}], **dropped)
            await is_answered_with_whole_lines(client, 200)


@pytest.mark.parametrize("split", [b"evil\x01: 1", b"a: b\x00c", b"a: b\rc", b"a: \x1b[2J", b"a: b\r\n evil: 1"])
async def test_an_answer_with_a_control_character_in_its_head_reaches_nobody(tmp_path: Path, split: bytes) -> None:
    async with both(tmp_path, 2) as (gateway, bad, _):
        bad.plays(whole(b"{}", more="x-place\r\n").replace(b"x-place", split))
        client = await gateway.client()
        client.ask()
        await is_answered_with_whole_lines(client, 200)


def places(value: str) -> dict[str, str]:
    """Configurations with this value, as YAML, in each place from which it could get into a head."""
    usual, queue = ProviderEntry(1), ProviderEntry(1, "fal_queue")
    return {
        "api_key": configuration(usual._replace(api_key=value)),
        "base_url": configuration(1).replace("'http://127.0.0.1:1/v1'", value),
        "headers, value": configuration(usual._replace(more=f"headers: {{x-team: {value}}}")),
        "headers, name": configuration(usual._replace(more=f"headers: {{{value}: a}}")),
        "pass_headers": configuration(usual._replace(more=f"pass_headers: [{value}]")),
        "provider's name": configuration(usual._replace(name=value)),
        "model's id": configuration(1).replace("id: m,", f"id: {value},"),
        "alias": configuration(1, more=f"aliases: {{{value}: m}}\n"),
        "hosts": configuration(1, hosts=f"[{value}]"),
        "cors.origins": configuration(1, more=f"cors: {{origins: [{value}]}}\n"),
        "path of a queue": configuration(queue, model=IMAGES).replace("model: real-0", f"model: {value}"),
    }  # fmt: skip


@pytest.mark.parametrize("place", places(""))
def test_no_value_of_the_configuration_holds_a_line_end(place: str) -> None:
    good = {"base_url": "http://a.example", "cors.origins": "http://a.example", "path of a queue": "owner/app"}
    load(places(good.get(place, "good-name"))[place], {})
    for split in ("a\r\nevil: 1", "a\nevil: 1", "a\revil: 1", "a\r\n\r\n", "a\x1bb", "a\u0085b", "a\u560a", "a\u2028b"):
        with pytest.raises(ConfigError):
            load(places(json.dumps(split))[place], {})
        if not place.endswith(("name", "alias")) or place == "provider's name":  # a key has no variables
            with pytest.raises(ConfigError):
                load(places("'${VALUE}'")[place], {"VALUE": split})
