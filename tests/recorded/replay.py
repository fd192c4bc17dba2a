"""Replays recorded answers to callers of a gateway, on real sockets, with a second source that is healthy."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from kyma_proxy.telemetry.access_log import AccessLog
from kyma_proxy.telemetry.record import LabelledRecord, Record
from tests.configurations import ProviderEntry, configuration
from tests.harness import CLOSE, LAST_CHUNK, TURN, Client, Gateway, Provider, Step, chunk, gateway, providers
from tests.recorded.codings import compressed, decompressed
from tests.recorded.corpus import JSON_TYPE, STREAM_TYPE, Item, Mode
from tests.waiting import PATIENCE_S, until

OTHER_ENDPOINT = {"chat/completions": "messages", "messages": "chat/completions"}
HEALTHY_TEXT = "The second source answers."
HEALTHY_CHARGE = {True: 13e-6, False: 7e-6}
"""In USD, of an answer of the second source, by whether it has output: 7 tokens of prompt and 3 of output."""
_DIALECTS = ("openai", "anthropic")
_PRICE = "{input: 1, output: 2, cached_input: 0.1}"
_MODELS = "".join(
    f"  - {{id: {one}-alone, price: {_PRICE}, pool: [{{provider: p{at}, model: real}}]}}\n"
    f"  - {{id: {one}, price: {_PRICE},"
    f" pool: [{{provider: p{at}, model: real}}, {{provider: p{at + 2}, model: real, weight: 0}}]}}\n"
    for at, one in enumerate(_DIALECTS)
)
_TIER = (
    "tiers: [{tier: 0, min_purchased: 0, rpm: 100000, per_model_rpm: 100000, tpm: 2000000000, max_request_tokens: 1000000}]\n"
)
_REASONS = {200: "OK", 400: "Bad Request", 499: "Client Closed Request"}


# ---- the second source


def _events(*documents: dict[str, Any], named: bool = False, done: bool = False) -> bytes:
    lines = [(f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n" for one in documents]
    return ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


_USED = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
_USED_INPUT = {"input_tokens": 7, "output_tokens": 3}
_RESPONSE = {
    "id": "resp_2", "object": "response", "status": "completed", "error": None, "model": "real",
    "usage": _USED_INPUT | {"total_tokens": 10},
    "output": [
        {"type": "message", "id": "msg_2", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": HEALTHY_TEXT, "annotations": []}]}
    ],
}  # fmt: skip
_MESSAGE = {
    "id": "msg_2", "type": "message", "role": "assistant", "model": "real", "content": [{"type": "text", "text": HEALTHY_TEXT}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": _USED_INPUT,
}  # fmt: skip
_WHOLE: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "id": "c2", "object": "chat.completion", "created": 1, "model": "real", "usage": _USED,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": HEALTHY_TEXT}, "finish_reason": "stop"}],
    },
    "completions": {
        "id": "c2", "object": "text_completion", "created": 1, "model": "real", "usage": _USED,
        "choices": [{"index": 0, "text": HEALTHY_TEXT, "finish_reason": "stop"}],
    },
    "embeddings": {
        "object": "list", "model": "real", "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}],
    },
    "responses": _RESPONSE,
    "messages": _MESSAGE,
}  # fmt: skip
_STREAMS = {
    "chat/completions": _events(
        {"id": "c2", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": HEALTHY_TEXT}}]},
        {"id": "c2", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "c2", "object": "chat.completion.chunk", "choices": [], "usage": _USED},
        done=True,
    ),
    "completions": _events(
        {"id": "c2", "object": "text_completion", "choices": [{"index": 0, "text": HEALTHY_TEXT, "finish_reason": "stop"}]},
        {"id": "c2", "object": "text_completion", "choices": [], "usage": _USED},
        done=True,
    ),
    "responses": _events(
        {"type": "response.created", "response": {"id": "resp_2", "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "item_id": "msg_2", "output_index": 0, "delta": HEALTHY_TEXT},
        {"type": "response.completed", "response": _RESPONSE},
        named=True,
    ),
    "messages": _events(
        {"type": "message_start", "message": _MESSAGE | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": HEALTHY_TEXT}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
        named=True,
    ),
}  # fmt: skip


def healthy(item: Item) -> bytes:
    """The second source's answer to the request of an item."""
    if item.stream:
        return head_of(200, {"content-type": STREAM_TYPE}, "chunks") + chunk(_STREAMS[item.endpoint]) + LAST_CHUNK
    body = json.dumps(_WHOLE[item.endpoint]).encode()
    return head_of(200, {"content-type": JSON_TYPE}, "length", len(body)) + body


# ---- the recorded answer


def head_of(status: int, headers: dict[str, str], framing: str, length: int = 0) -> bytes:
    """The head of an answer whose body ends as `framing` says."""
    ends = {
        "length": f"content-length: {length}\r\n",
        "chunks": "transfer-encoding: chunked\r\n",
        "close": "connection: close\r\n",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n{lines}{ends[framing]}\r\n".encode()


def steps(item: Item, pieces: Iterable[bytes], framing: str, *, coding: str = "", length: int = 0) -> list[Step]:
    """What a provider does to send a body in these pieces."""
    headers = {"content-type": item.content_type} | item.headers | ({"content-encoding": coding} if coding else {})
    played: list[Step] = [head_of(item.status, headers, framing, length)]
    for piece in pieces:
        played += [chunk(piece) if framing == "chunks" else piece, TURN]
    ends: dict[str, list[Step]] = {"chunks": [LAST_CHUNK], "close": [CLOSE], "length": []}
    return played + ends[framing]


def as_recorded(item: Item) -> list[Step]:
    """An item as its provider sends it: a stream event by event, anything else in one piece."""
    framing = item.framing or ("chunks" if item.is_stream else "length")
    pieces = item.events if item.is_stream else [item.data]
    return steps(item, filter(None, pieces), framing, length=len(item.data))


def close_delimited(item: Item) -> list[Step]:
    """An item that ends with its connection."""
    return steps(item, filter(None, item.events if item.is_stream else [item.data]), "close")


def in_small_pieces(item: Item) -> list[Step]:
    """An item in pieces of one byte; of a prime number of bytes if that would take too many."""
    size = next((prime for prime in (1, 7, 61) if len(item.data) <= 1500 * prime), 997)
    pieces = [item.data[at : at + size] for at in range(0, len(item.data), size)]
    return steps(item, pieces, "chunks")


def in_coding(coding: str) -> Callable[[Item], list[Step]]:
    """Makes items compressed, a stream event by event."""

    def sent(item: Item) -> list[Step]:
        pieces = compressed(coding, item.events if item.is_stream else [item.data])
        return steps(item, filter(None, pieces), "chunks", coding=coding)

    return sent


def cut(item: Item, size: int, framing: str) -> list[Step]:
    """The first `size` bytes of an item; then the connection ends, and nothing says that the answer does."""
    body = item.data[:size]
    opening = head_of(item.status, {"content-type": item.content_type} | item.headers, framing, len(item.data))
    return [opening, TURN, chunk(body) if framing == "chunks" else body, TURN, CLOSE]


# ---- the caller


class Seen(msgspec.Struct):
    """What the caller saw, and what was logged of it. `charged` is in USD."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool
    record: dict[str, Any]
    charged: float = 0.0

    @property
    def document(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)


class _KeptLog:
    """An access log that keeps its records for the test, by the request's id. (The compiled one can't be subclassed.)"""

    def __init__(self, path: str) -> None:
        self.records: dict[str, Record] = {}
        self._log = AccessLog(path)
        self.flush, self.reopen, self.close = self._log.flush, self._log.reopen, self._log.close

    @property
    def lost_lines(self) -> int:
        """As the log counts them."""
        return self._log.lost_lines

    def write(self, record: Record | LabelledRecord) -> None:
        """Keep a record, and write it."""
        self.records[record.request_id] = msgspec.json.decode(msgspec.json.encode(record), type=Record)
        self._log.write(record)


class Stage:
    """A gateway between callers, a provider that sends what is recorded, and one that is healthy."""

    def __init__(self, running: Gateway, provider: tuple[Provider, Provider], account: Any = None, secret: str = "") -> None:
        """`account` pays for the requests; without one they are free. `provider` are the recorded one and the second."""
        self._recorded, self._second = provider
        self._running = running
        log = cast("object", running.log)
        assert isinstance(log, _KeptLog)
        self._records = log.records
        self._account = account
        self._secret = secret
        self._count = 0

    async def play(self, item: Item, mode: Mode, played: Sequence[Step], *, alone: bool = False) -> Seen:
        """Send the item's request while the recorded provider plays these steps. `alone`: there is no second source."""
        self._running.forget_failures()
        for provider, script in ((self._recorded, played), (self._second, (healthy(item),))):
            provider.scripts.clear()
            provider.received.clear()
            provider.plays(*script)
        self._count += 1
        request_id = f"request-{self._count}"
        before = 0 if self._account is None else self._account.balance
        client = await self._running.client()
        endpoint = OTHER_ENDPOINT[item.endpoint] if mode.is_translated else item.endpoint
        body = _request(endpoint, f"{item.dialect}-alone" if alone else item.dialect, stream=item.stream)
        key = f"x-api-key: {self._secret}\r\n" if mode.is_metered else ""
        client.post(body, path=f"/v1/{endpoint}", more=f"x-request-id: {request_id}\r\n{key}")
        seen = await _read(client)
        client.leave()
        await until(lambda: request_id in self._records)
        seen.record = msgspec.to_builtins(self._records.pop(request_id))
        if self._account is not None:
            seen.charged = (before - self._account.balance) / 1e9
            assert self._account.held == 0
        return seen


def _request(endpoint: str, model: str, *, stream: bool) -> bytes:
    document: dict[str, Any] = {"model": model} | ({"stream": True} if stream else {})
    if endpoint in ("chat/completions", "messages"):
        document |= {"max_tokens": 500, "messages": [{"role": "user", "content": "hello"}]}
    elif endpoint == "completions":
        document |= {"max_tokens": 500, "prompt": "hello"}
    else:
        document["input"] = "hello"
    return json.dumps(document).encode()


async def _read(client: Client) -> Seen:
    """Read an answer, however it ends."""
    head = await client.head()
    body, is_whole = b"", True
    try:
        async with asyncio.timeout(PATIENCE_S):
            if head.headers.get("transfer-encoding") == "chunked":
                while piece := await client.chunk():
                    body += piece
            elif "content-length" in head.headers:
                length = int(head.headers["content-length"])
                while len(body) < length:
                    piece = await client.reader.read(length - len(body))
                    if not piece:
                        raise ConnectionError
                    body += piece
            else:
                while piece := await client.reader.read(65536):
                    body += piece
    except (ConnectionError, asyncio.IncompleteReadError, ValueError):
        is_whole = False
    return Seen(head.status, head.headers, decompressed(head.headers.get("content-encoding", ""), body), is_whole, {})


@contextlib.asynccontextmanager
async def stage(directory: Path, *, metered: bool) -> AsyncIterator[Stage]:
    """A gateway with or without accounts, in front of the recorded provider and the healthy one."""
    section = f"accounts: {{required: true, database: 'sqlite:{directory}/kyma.db'}}\n{_TIER}" if metered else ""
    async with providers(2) as made:
        entries = [ProviderEntry(provider.port, dialect) for provider in made for dialect in _DIALECTS]
        text = configuration(*entries, pool=0, models=_MODELS, more=section)
        async with gateway(text, directory, log_type=cast("type[AccessLog]", _KeptLog)) as running:
            if not metered:
                yield Stage(running, (made[0], made[1]))
                return
            service: Any = running.app.account_service
            account, _, secret = await service.create_account("a@example.com", amount=10**14, kind="grant")
            yield Stage(running, (made[0], made[1]), account, secret)
