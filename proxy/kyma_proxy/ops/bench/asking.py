"""Sends one streamed request, and notes when its events came."""

from __future__ import annotations

import itertools
import re
from time import monotonic
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import orjson

from kyma_proxy.telemetry.visible_text import visible

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_MAX_REASON: Final = 200
_MAX_LINE_BYTES: Final = 2**20
_TEXT: Final = re.compile(rb'"(?:content|text|reasoning|reasoning_content|thinking)"\s*:\s*"[^"]')


class Way(NamedTuple):
    """A way to the model: its address, the headers that it needs, and the model's name there."""

    name: str
    url: str
    headers: dict[str, str]
    model: str


class Asked(NamedTuple):
    """The fate of a request, in seconds since it was due. `gaps` are the times between two of its events."""

    way: str
    number: int
    failure: str | None = None
    first_s: float = 0.0
    first_text_s: float | None = None
    gaps: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_per_s: float | None = None


class Prompt(NamedTuple):
    """The request that is sent again and again, without its model."""

    members: dict[str, Any]

    def body(self, model: str) -> bytes:
        """The body for a model."""
        return orjson.dumps({"model": model, **self.members})


async def ask(session: aiohttp.ClientSession, way: Way, prompt: Prompt, number: int, due: float) -> Asked:
    """Send the request by a way. `due` is the monotonic second at which it should have been sent."""
    try:
        async with session.post(way.url, data=prompt.body(way.model), headers=way.headers) as response:
            if response.status != 200:
                reason = (await response.content.read(_MAX_REASON)).decode(errors="replace")
                return Asked(way.name, number, f"{response.status}: {visible(reason)}")
            return await _read(response, way, number, due)
    except (aiohttp.ClientError, OSError) as error:
        return Asked(way.name, number, f"{type(error).__name__}: {visible(str(error))[:_MAX_REASON]}")


async def _read(response: aiohttp.ClientResponse, way: Way, number: int, due: float) -> Asked:
    times: list[float] = []
    usage: dict[str, int] = {}
    first_text_s: float | None = None
    rest, is_whole = b"", False
    async for piece in response.content.iter_any():
        now = monotonic() - due
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(_DATA):
                continue
            data = line[len(_DATA) :].strip()
            is_whole = is_whole or data == _DONE or b'"message_stop"' in data
            if data != _DONE:
                times.append(now)
                if first_text_s is None and _TEXT.search(data):
                    first_text_s = now
                if b'"usage"' in data:
                    usage |= _usage(data)
        if len(rest) > _MAX_LINE_BYTES:
            return Asked(way.name, number, "its answer is no event stream")
    if not times or not is_whole:
        return Asked(way.name, number, "its stream has no end" if times else "its answer has no events")
    output = usage.get("completion_tokens")
    took = times[-1] - times[0]
    return Asked(
        way.name, number, None, times[0], first_text_s, tuple(after - before for before, after in itertools.pairwise(times)),
        usage.get("prompt_tokens"), output, output / took if output and took > 0 else None,
    )  # fmt: skip


def _usage(data: bytes) -> dict[str, int]:
    """The tokens that an event of either dialect reports, under OpenAI's names."""
    try:
        event = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {}
    found: dict[str, int] = {}
    message = event.get("message") if isinstance(event, dict) else None
    for holder in (event, message):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        for name, ours in _NAMES.items():
            if isinstance(usage, dict) and isinstance(usage.get(name), int):
                found[ours] = usage[name]
    return found


_NAMES: Final = {
    "prompt_tokens": "prompt_tokens", "input_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens", "output_tokens": "completion_tokens",
}  # fmt: skip
