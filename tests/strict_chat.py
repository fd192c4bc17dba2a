"""A provider of chat completions that refuses what real ones refuse, and plays a task with tools, step by step.

The rules, with their sources:

- A member that the endpoint does not know is a 400 (OpenAI: "Unrecognized request argument supplied", "Unknown parameter").
- A message of the assistant without text or calls is a 400 (Moonshot: "message must not be empty"; also Mistral, Bedrock).
- A result must follow the message with its call (OpenAI: "messages with role 'tool' must be a response to …").
- `moonshot`: a call without `reasoning_content` is a 400 (platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model).
- `gemini`: the first call of a turn without its `thought_signature` is a 400
  (ai.google.dev/gemini-api/docs/thought-signatures).
- `openrouter`: `reasoning_details` must come back as they were given
  (openrouter.ai/docs/guides/best-practices/reasoning-tokens).
- `think`: thoughts come in the text, and go back there (platform.minimax.io/docs/guides/text-m2-function-call).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, get_type_hints

from openai.types.chat import completion_create_params as params

Json = dict[str, Any]
_MEMBERS = frozenset(get_type_hints(params.CompletionCreateParamsStreaming))
_CALL = frozenset({"id", "type", "function"})
_MESSAGE = {
    "system": frozenset({"role", "content", "name"}), "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "refusal", "tool_calls"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}  # fmt: skip
_EXTENSIONS = {
    "plain": frozenset[str](), "moonshot": frozenset({"reasoning_content"}), "gemini": frozenset[str](),
    "openrouter": frozenset({"reasoning", "reasoning_details"}), "think": frozenset[str](),
}  # fmt: skip
FLAVOURS = tuple(_EXTENSIONS)
NO_SIGNATURE = "skip_thought_signature_validator"
_DETAIL = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0, "signature": "EqQB"}
_ENCRYPTED = {"type": "reasoning.encrypted", "data": "gAAA", "format": "anthropic-claude-v1", "id": "rs_1", "index": 1}
_LACKING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
Step = tuple[str, Json] | str
"""A tool and its arguments, or the text of the last answer."""


class Refused(Exception):
    """A request that a real provider would not answer."""


class StrictChat:
    """`steps` returns the steps of the task for a request; the number of results in it says which comes next."""

    def __init__(self, flavour: str, steps: Callable[[Json], list[Step]]) -> None:
        self.flavour = flavour
        self.requests: list[Json] = []
        self.refusals: list[str] = []
        self._steps = steps

    @property
    def results(self) -> list[str]:
        """The texts of all results in the longest conversation."""
        longest: list[Json] = max([one["messages"] for one in self.requests], key=len, default=[])
        return [str(one["content"]) for one in longest if one["role"] == "tool"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(size[1]) if size else 0)
                writer.write(self._answer(json.loads(body)) if b"chat/completions" in head else _LACKING)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, request: Json) -> bytes:
        try:
            self._check(request)
        except Refused as refused:
            self.refusals.append(str(refused))
            body = json.dumps({"error": {"message": str(refused), "type": "invalid_request_error"}}).encode()
            return b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
                len(body), body,
            )  # fmt: skip
        self.requests.append(request)
        done = sum(one["role"] == "tool" for one in request["messages"])
        steps = self._steps(request) if request.get("tools") else ["A title"]
        deltas, finish = self.play(steps[min(done, len(steps) - 1)], done)
        if not request.get("stream"):
            body = json.dumps(whole_of(deltas, finish, f"chatcmpl-{len(self.requests)}")).encode()
            return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        ident = f"chatcmpl-{len(self.requests)}"  # Claude Code takes answers of one id for one message
        chunks = [chunk_of(delta, ident) for delta in deltas] + [chunk_of({}, ident, finish)]
        body = b"".join(chunks) + b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}\n\n'
        body += b"data: [DONE]\n\n"
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    # ---- the rules

    def _check(self, request: Json) -> None:
        unknown = request.keys() - _MEMBERS
        if unknown:
            raise Refused(f"Unrecognized request argument supplied: {', '.join(sorted(unknown))}")
        if len(request.get("stop") or ()) > 4:
            raise Refused("Invalid 'stop': array too long.")
        for tool in request.get("tools", ()):
            if tool.keys() != {"type", "function"} or tool["function"].keys() - {"name", "description", "parameters", "strict"}:
                raise Refused(f"Unknown parameter: 'tools' of {tool}")
        open_calls: set[str] = set()
        for at, message in enumerate(request["messages"]):
            self._check_message(message, at, open_calls)

    def _check_message(self, message: Json, at: int, open_calls: set[str]) -> None:
        role = message["role"]
        unknown = message.keys() - _MESSAGE[role] - (_EXTENSIONS[self.flavour] if role == "assistant" else frozenset())
        if unknown:
            raise Refused(f"Unknown parameter: 'messages[{at}].{min(unknown)}'")
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                raise Refused(f"messages[{at}] with role 'tool' must be a response to a preceding message with 'tool_calls'")
            return
        calls = message.get("tool_calls")
        if role == "assistant" and not message.get("content") and not calls:
            raise Refused(f"Invalid request: message at position {at} with role 'assistant' must not be empty")
        if role == "assistant":
            open_calls.clear()
        if not calls:
            return
        open_calls |= {call["id"] for call in calls}
        allowed = _CALL | ({"extra_content"} if self.flavour == "gemini" else frozenset())
        if any(call.keys() - allowed for call in calls):
            raise Refused(f"Unknown parameter: 'messages[{at}].tool_calls'")
        if any(len(call["id"]) > 64 for call in calls):
            raise Refused(f"Invalid 'messages[{at}].tool_calls': string too long.")
        if self.flavour == "moonshot" and not message.get("reasoning_content"):
            raise Refused(f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {at}")
        signature = calls[0].get("extra_content", {}).get("google", {}).get("thought_signature")
        if self.flavour == "gemini" and signature != self._signature_of(calls[0]):
            raise Refused("Function call is missing a thought_signature in functionCall parts.")
        if self.flavour == "openrouter" and message.get("reasoning_details") != [_DETAIL | {"text": "I look."}, _ENCRYPTED]:
            raise Refused(f"Invalid `signature` in `thinking` block: {message}")
        if self.flavour == "think" and not str(message["content"]).startswith("<think>\nI look.\n</think>"):
            raise Refused(f"The thoughts are missing: {message}")

    def _signature_of(self, call: Json) -> str:
        """The signature that was given with this call; the placeholder if it was made elsewhere."""
        return f"CiQB{call['id'].encode().hex()}{'x' * 600}==" if call["id"].startswith("functions.") else NO_SIGNATURE

    # ---- the answers

    def play(self, step: Step, number: int) -> tuple[list[Json], str]:
        """The deltas of an answer, and its finish reason."""
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        if self.flavour == "moonshot":
            deltas += [{"reasoning_content": "I "}, {"reasoning_content": "look."}]
        elif self.flavour == "openrouter":
            plain = {name: value for name, value in _DETAIL.items() if name != "signature"}
            deltas += [
                {"reasoning": "I ", "reasoning_details": [plain | {"text": "I "}]},
                {"reasoning": "look.", "reasoning_details": [plain | {"text": "look."}]},
                {"content": "", "reasoning_details": [_DETAIL]}, {"content": "", "reasoning_details": [_ENCRYPTED]},
            ]  # fmt: skip
        elif self.flavour == "think":
            deltas += [{"content": piece} for piece in ("<th", "ink>", "\nI lo", "ok.</", "think>\n", "\n")]
        if isinstance(step, str):
            return [*deltas, {"content": step}], "stop"
        name, arguments = step
        text = json.dumps(arguments)
        call: Json = {"index": 0, "id": f"functions.{name}:{number}", "type": "function", "function": {"name": name}}
        if self.flavour == "gemini":  # it gives a call in one piece
            call["extra_content"] = {"google": {"thought_signature": self._signature_of(call)}}
            call["function"]["arguments"] = text
            return [*deltas, {"tool_calls": [call]}], "tool_calls"
        call["function"]["arguments"] = text[:5]
        more = {"index": 0, "function": {"arguments": text[5:]}}
        return [*deltas, {"tool_calls": [call]}, {"tool_calls": [more]}], "tool_calls"


def chunk_of(delta: Json, ident: str, finish: str | None = None) -> bytes:
    """An event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": ident, "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def whole_of(deltas: list[Json], finish: str, ident: str) -> Json:
    """The whole answer that these deltas amount to."""
    message: Json = {"role": "assistant", "content": ""}
    for delta in deltas:
        for name in ("content", "reasoning", "reasoning_content"):
            if delta.get(name):
                message[name] = message.get(name, "") + delta[name]
        if "tool_calls" in delta and "tool_calls" in message:
            message["tool_calls"][0]["function"]["arguments"] += delta["tool_calls"][0]["function"]["arguments"]
        elif "tool_calls" in delta:
            message["tool_calls"] = json.loads(json.dumps(delta["tool_calls"]))
    if "reasoning" in message:
        message["reasoning_details"] = [_DETAIL | {"text": message["reasoning"]}, _ENCRYPTED]
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {
        "id": ident,
        "object": "chat.completion",
        "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5},
    }


@asynccontextmanager
async def strict_chat(flavour: str, steps: Callable[[Json], list[Step]]) -> AsyncIterator[tuple[StrictChat, int]]:
    """A provider of this flavour, and its port."""
    made = StrictChat(flavour, steps)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=2**22)
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        server.close()


SOURCES = {
    "plain": "reasoning_field: none", "moonshot": "calls_need: reasoning",
    "gemini": "reasoning_field: none, calls_need: thought_signature", "openrouter": "reasoning_field: reasoning",
    "think": "reasoning_parser: think",
}  # fmt: skip
"""The members of a source's entry in the configuration for each flavour."""
