"""What a source lacks, or what one account provokes, keeps nobody else from the model, and nobody from its other endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.accounts_harness import TOKEN, AccountsGateway
from tests.configurations import TIMEOUTS, ProviderEntry, configuration
from tests.harness import CLOSE, EMBEDDINGS, LAST_CHUNK, RESET, SILENCE, Answer, Gateway, Step, chunk, gateway, providers, whole
from tests.harness import head as answer_head

MESSAGE = whole(json.dumps({
    "id": "msg_1", "type": "message", "role": "assistant", "model": "real-0", "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 5},
}).encode())  # fmt: skip
CHAT = whole(json.dumps({
    "id": "c", "object": "chat.completion", "created": 1, "model": "real-0",
    "usage": {"prompt_tokens": 3, "completion_tokens": 5},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}).encode())  # fmt: skip
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}
PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", HELLO),
    "messages": ("/v1/messages", HELLO),
    "count_tokens": ("/v1/messages/count_tokens", {"model": "m", "messages": HELLO["messages"]}),
    "responses": ("/v1/responses", {"model": "m", "input": "hello"}),
    "completions": ("/v1/completions", {"model": "m", "prompt": "hello"}),
    "embeddings": ("/v1/embeddings", {"model": "m", "input": "hello"}),
}
ENTRY = "{tier: 0, min_purchased: 0, rpm: 900, per_model_rpm: 900, tpm: 9000000, max_request_tokens: 90000}"
LACKS = ("404 Not Found", "405 Method Not Allowed", "501 Not Implemented")


class Case(NamedTuple):
    """Sources of a dialect that lack one endpoint and have another, with the answer that they give there."""

    dialect: str
    missing: str
    present: str
    answer: bytes


CASES = (
    Case("openai", "embeddings", "chat", CHAT),
    Case("openai", "completions", "chat", CHAT),
    Case("openai", "embeddings", "messages", CHAT),
    Case("anthropic", "count_tokens", "messages", MESSAGE),
    Case("anthropic", "count_tokens", "chat", MESSAGE),
    Case("openai", "chat", "embeddings", whole(EMBEDDINGS)),
)


def accounts(directory: Path) -> str:
    """The sections of a gateway with accounts, whose callers have no limit that the tests could meet."""
    return (
        f"accounts: {{required: true, database: 'sqlite:{directory}/kyma.db'}}\nadmin: {{token: {TOKEN}}}\ntiers: [{ENTRY}]\n"
    )


async def callers(running: Gateway, count: int, *, is_metered: bool) -> list[Any]:
    """Ways to ask at an endpoint, each of another caller; with accounts each has its own."""
    made = []
    for at in range(count):
        if is_metered:
            caller = await AccountsGateway(running).caller(f"caller-{at}@example.com", nano=10**12)
            made.append(lambda key, caller=caller, **more: caller.ask("POST", PATHS[key][0], PATHS[key][1] | more))
        else:
            made.append(_without_account(await running.client()))
    return made


def _without_account(client: Any) -> Any:
    async def ask(key: str, **more: Any) -> Answer:
        client.post(json.dumps(PATHS[key][1] | more).encode(), path=PATHS[key][0])
        answer: Answer = await client.answer()
        return answer

    return ask


def endpoints(running: Gateway, at: int = 0) -> dict[str, str]:
    """What `/v1/status` says of each endpoint of a source of `m`."""
    return {one["endpoint"]: one["status"] for one in running.source(at)["endpoints"]}


@pytest.mark.parametrize("is_metered", [False, True], ids=["sidecar", "accounts"])
@pytest.mark.parametrize("count", [1, 2], ids=["lone", "pool"])
@pytest.mark.parametrize("status", LACKS)
@pytest.mark.parametrize("case", CASES, ids=[f"{one.missing} of {one.dialect}, {one.present}" for one in CASES])
async def test_what_a_source_lacks_silences_none_of_its_other_endpoints(
    tmp_path: Path, case: Case, status: str, count: int, is_metered: bool
) -> None:
    more = accounts(tmp_path) if is_metered else ""
    async with providers(count) as made:
        text = configuration(*(one.port for one in made), dialect=case.dialect, more=more)
        async with gateway(text, tmp_path) as running:
            guilty, innocent = await callers(running, 2, is_metered=is_metered)
            statuses = []
            for _ in range(12):
                for provider in made:
                    provider.scripts.clear()
                    provider.plays(whole(b'{"error":{"message":"no"}}', status=status))
                statuses.append((await guilty(case.missing)).status)
            if case.missing == "count_tokens":
                assert set(statuses) == {200}  # estimated
            else:
                assert statuses[0] == int(status[:3])  # relayed as the last one's
                assert statuses[-1] == 404
                assert statuses.count(404) in (11, 12) or case.missing == "chat"
            asked = 4 if case.missing == "chat" else 1  # a main endpoint is believed to be there
            assert [len(provider.received) for provider in made] == [asked] * count
            for at in range(count):
                assert endpoints(running, at)[case.missing] == "missing"
                assert running.source(at)["status"] == "available"
            for ask in (guilty, innocent):
                for provider in made:
                    provider.scripts.clear()
                    provider.plays(case.answer)
                assert (await ask(case.present)).status == 200


@pytest.mark.parametrize("status", LACKS)
async def test_a_source_that_lacks_an_endpoint_is_left_out_there_and_another_answers(tmp_path: Path, status: str) -> None:
    async with providers(2) as (lacking, having), gateway(configuration(lacking.port, having.port), tmp_path) as running:
        (ask,) = await callers(running, 1, is_metered=False)
        lacking.plays(whole(b"{}", status=status))
        for _ in range(5):
            answer = await ask("responses")
            assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "1")
        assert (len(lacking.received), len(having.received)) == (1, 5)
        assert endpoints(running) == {"responses": "missing"}
        assert (await ask("chat")).headers.get("x-kyma-fallback") is None
        assert endpoints(running) == {"responses": "missing", "chat": "available"}


async def test_a_404_for_what_a_caller_has_invented_is_no_missing_endpoint(tmp_path: Path) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port), tmp_path) as running:
        (ask,) = await callers(running, 1, is_metered=False)
        assert (await ask("responses")).status == 200
        for _ in range(12):
            provider.plays(whole(b'{"error":{"code":"previous_response_not_found"}}', status="404 Not Found"))
            assert (await ask("responses", previous_response_id="none")).json["error"]["code"] == "previous_response_not_found"
        assert (await ask("responses")).status == 200
        assert len(provider.received) == 14
        assert endpoints(running) == {"responses": "available"}


async def test_an_endpoint_is_missing_for_all_once_a_second_account_was_told(tmp_path: Path) -> None:
    async with providers(1) as (provider,), gateway(configuration(provider.port, more=accounts(tmp_path)), tmp_path) as running:
        first, second, third = await callers(running, 3, is_metered=True)
        for ask in (first, first, second, third):
            provider.scripts.clear()
            provider.plays(whole(b'{"error":{"code":"of the source"}}', status="404 Not Found"))
            answer = await ask("embeddings")
            assert answer.status == 404
        assert len(provider.received) == 2
        assert answer.json["error"]["code"] == "not_found"
        assert "lacks this endpoint" in answer.json["error"]["message"]


async def test_what_the_configuration_says_is_missing_is_not_asked(tmp_path: Path) -> None:
    async with providers(2) as (first, second):
        entries = (
            ProviderEntry(first.port, more="endpoints: [chat, embeddings]"),
            ProviderEntry(second.port, more="endpoints: [chat, embeddings]", source="endpoints: [chat, responses]"),
        )
        async with gateway(configuration(*entries), tmp_path) as running:
            (ask,) = await callers(running, 1, is_metered=False)
            answer = await ask("responses")
            assert (answer.status, answer.headers.get("x-kyma-fallback")) == (200, None)
            assert (len(first.received), len(second.received)) == (0, 1)
            assert (await ask("embeddings")).status == 200
            assert (len(first.received), len(second.received)) == (1, 1)
            answer = await ask("completions")
            assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
            assert "ask for it at /v1/chat/completions" in answer.json["error"]["message"]
            first.plays(CHAT)
            assert (await ask("messages")).status == 200  # in translation, at chat


async def test_a_source_without_count_tokens_in_the_configuration_has_its_tokens_estimated(tmp_path: Path) -> None:
    async with providers(1) as (provider,):
        entry = ProviderEntry(provider.port, "anthropic", more="endpoints: [messages]")
        async with gateway(configuration(entry), tmp_path) as running:
            (ask,) = await callers(running, 1, is_metered=False)
            answer = await ask("count_tokens")
            assert (answer.status, answer.headers["x-kyma-estimated"], provider.received) == (200, "true", [])


PROVOKED: dict[str, Sequence[Step]] = {
    **{f"answers {code}": (whole(b"{}", status=f"{code} No"),) for code in (402, 403, 408, 429, 500, 502, 529)},
    "rests with a 429": (whole(b"{}", status="429 Slow", more="retry-after: 600\r\n"),),
    "rests with a 503": (whole(b"{}", status="503 Busy", more="retry-after: 600\r\n"),),
    "begins with an error": (
        answer_head() + chunk(b'data: {"error":{"message":"no"}}\n\n') + LAST_CHUNK,
    ),
    "breaks off in its head": (b"HTTP/1.1 200 OK\r\nconte", CLOSE),
    "breaks off in its answer": (answer_head() + chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'), CLOSE),
    "has no first byte": (SILENCE,),
}  # fmt: skip


@pytest.mark.parametrize("fault", PROVOKED)
async def test_what_one_account_provokes_keeps_no_other_from_the_source(tmp_path: Path, fault: str) -> None:
    timeouts = TIMEOUTS.replace("first_byte: 10s", "first_byte: 50ms")
    async with providers(1) as (provider,):
        text = configuration(provider.port, timeouts=timeouts, more=accounts(tmp_path))
        async with gateway(text, tmp_path) as running:
            (innocent,) = await callers(running, 1, is_metered=True)
            caller = await AccountsGateway(running).caller("guilty@example.com", nano=10**12)
            for _ in range(14):
                provider.scripts.clear()
                provider.plays(*PROVOKED[fault])
                client = await running.client()
                body = json.dumps(HELLO | {"stream": True}).encode()
                client.post(body, more=f"authorization: Bearer {caller.secret}\r\n")
                with contextlib.suppress(asyncio.IncompleteReadError):
                    await client.answer()
            # The guilty one is kept from asking for ever; but a source that was cut is asked if nobody else is left.
            assert len(provider.received) < 14 or "breaks off" in fault
            provider.scripts.clear()
            before = len(provider.received)
            assert (await innocent("chat")).status == 200
            assert len(provider.received) == before + 1


@pytest.mark.parametrize("fault", [fault for fault in PROVOKED if "breaks off" not in fault])
async def test_what_two_accounts_meet_keeps_all_from_the_source(tmp_path: Path, fault: str) -> None:
    timeouts = TIMEOUTS.replace("first_byte: 10s", "first_byte: 50ms")
    async with providers(1) as (provider,):
        text = configuration(provider.port, timeouts=timeouts, more=accounts(tmp_path))
        async with gateway(text, tmp_path) as running:
            first, second, third = await callers(running, 3, is_metered=True)
            for ask in (first, first, second, second):
                provider.scripts.clear()
                provider.plays(*PROVOKED[fault])
                assert (await ask("chat", stream=True)).status != 200
            provider.scripts.clear()
            before = len(provider.received)
            assert (await third("chat")).status in (429, 503)
            assert len(provider.received) == before
            assert running.source()["status"] == "unavailable"
            assert (await third("embeddings")).status == 200  # failures of one endpoint are its own


@pytest.mark.parametrize("script", [(whole(b"{}", status="401 No"),), (RESET,), (CLOSE,)], ids=["401", "reset", "close"])
@pytest.mark.parametrize("is_metered", [False, True], ids=["sidecar", "accounts"])
async def test_what_no_caller_can_provoke_counts_for_all_and_at_every_endpoint(
    tmp_path: Path, script: Sequence[Step], is_metered: bool
) -> None:
    more = accounts(tmp_path) if is_metered else ""
    async with providers(1) as (provider,), gateway(configuration(provider.port, more=more), tmp_path) as running:
        first, second = await callers(running, 2, is_metered=is_metered)
        for key in ("chat", "responses", "embeddings", "completions"):
            provider.scripts.clear()
            provider.plays(*script)
            await first(key)
        statuses = {one["breaker"] for one in running.source()["endpoints"]}
        assert statuses == {"open"}
        provider.scripts.clear()
        answer = await second("chat")
        assert answer.status == (503 if script[0] != RESET and script[0] != CLOSE else 200)  # a cut is bypassed if alone
        if answer.status == 200:
            assert {one["status"] for one in running.source()["endpoints"]} == {"available"}
