"""Encodes a simulated answer in OpenAI's dialect: chat completions, completions and responses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kyma_proxy.simulated.answers import Answer
from kyma_proxy.simulated.request_fields import Json
from kyma_proxy.simulated.sse import encode_event


def chat_completion(answer: Answer, ident: str, now: int) -> Json:
    """Returns a `chat.completion`."""
    message: Json = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
    if answer.tool:
        function = {"name": answer.tool, "arguments": answer.text}
        call = {"id": f"call_{ident}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(answer)}
    return _envelope("chat.completion", f"chatcmpl-{ident}", answer, now) | {"choices": [choice], "usage": _usage(answer)}


def chat_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """Yields the `chat.completion.chunk`s of a stream, up to `[DONE]`."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    if answer.tool:
        function = {"name": answer.tool, "arguments": ""}
        call = {"index": 0, "id": f"call_{ident}", "type": "function", "function": function}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    for piece in answer.pieces:
        part = {"index": 0, "function": {"arguments": piece}}
        deltas.append({"tool_calls": [part]} if answer.tool else {"content": piece})
    choices: list[Json] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish_reason(answer)})
    yield from _chunks(answer, _envelope("chat.completion.chunk", f"chatcmpl-{ident}", answer, now), choices)


def text_completion(answer: Answer, ident: str, now: int) -> Json:
    """Returns a `text_completion`."""
    choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": _finish_reason(answer)}
    return _envelope("text_completion", f"cmpl-{ident}", answer, now) | {"choices": [choice], "usage": _usage(answer)}


def text_completion_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """Yields the `text_completion`s of a stream, up to `[DONE]`."""
    parts: list[tuple[str, str | None]] = [*((piece, None) for piece in answer.pieces), ("", _finish_reason(answer))]
    choices: list[Json] = [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason} for text, reason in parts]
    yield from _chunks(answer, _envelope("text_completion", f"cmpl-{ident}", answer, now), choices)


def _envelope(kind: str, ident: str, answer: Answer, now: int) -> Json:
    return {"id": ident, "object": kind, "created": now, "model": answer.model, "system_fingerprint": "simulated"}


def _chunks(answer: Answer, envelope: Json, choices: Iterable[Json]) -> Iterator[bytes]:
    """Yields one event per choice, then the usage, if requested, in an event without a choice."""
    for choice in choices:
        yield encode_event(envelope | {"choices": [choice]} | ({"usage": None} if answer.include_usage else {}))
    if answer.include_usage:
        yield encode_event(envelope | {"choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _finish_reason(answer: Answer) -> str:
    if answer.is_cut:
        return "length"
    return "tool_calls" if answer.tool else "stop"


def _usage(answer: Answer) -> Json:
    completion_tokens = len(answer.pieces)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": answer.prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def response(answer: Answer, ident: str, now: int) -> Json:
    """Returns a `response` that has ended."""
    usage = {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(answer.pieces),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.prompt_tokens + len(answer.pieces),
    }
    status = "incomplete" if answer.is_cut else "completed"
    reason = {"reason": "max_output_tokens"} if answer.is_cut else None
    end = {"status": status, "incomplete_details": reason, "usage": usage}
    return _started_response(answer, ident, now) | end | {"output": [_output_item(answer, ident, answer.text, status)]}


def response_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """Yields the events of a stream, from `response.created` to `response.completed` or `response.incomplete`."""
    ended = response(answer, ident, now)
    started: Json = {"response": _started_response(answer, ident, now)}
    payloads: list[tuple[str, Json]] = [("created", started), ("in_progress", started)]
    payloads += _output_item_events(answer, ident, str(ended["status"]))
    payloads.append((str(ended["status"]), {"response": ended}))
    for at, (name, payload) in enumerate(payloads):
        kind = f"response.{name}"
        yield encode_event({"type": kind, "sequence_number": at, **payload}, kind)


def _started_response(answer: Answer, ident: str, now: int) -> Json:
    return {
        "id": f"resp_{ident}",
        "object": "response",
        "created_at": now,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "access_programs": None,
        "temperature": None,
        "top_p": None,
        "store": False,
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _output_item(answer: Answer, ident: str, text: str | None, status: str) -> Json:
    """Returns the one output item. Without a text it is the empty item that opens a stream."""
    if answer.tool:
        call = {"call_id": f"call_{ident}", "name": answer.tool, "arguments": text or ""}
        return {"id": f"fc_{ident}", "type": "function_call", "status": status, **call}
    content = [] if text is None else [_content_part(text)]
    return {"id": f"msg_{ident}", "type": "message", "status": status, "role": "assistant", "content": content}


def _content_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _output_item_events(answer: Answer, ident: str, status: str) -> Iterator[tuple[str, Json]]:
    position: Json = {"item_id": f"fc_{ident}" if answer.tool else f"msg_{ident}", "output_index": 0}
    yield "output_item.added", {"output_index": 0, "item": _output_item(answer, ident, None, "in_progress")}
    if answer.tool:
        for piece in answer.pieces:
            yield "function_call_arguments.delta", {**position, "delta": piece}
        yield "function_call_arguments.done", {**position, "name": answer.tool, "arguments": answer.text}
    else:
        position |= {"content_index": 0}
        yield "content_part.added", {**position, "part": _content_part("")}
        for piece in answer.pieces:
            yield "output_text.delta", {**position, "delta": piece, "logprobs": []}
        yield "output_text.done", {**position, "text": answer.text, "logprobs": []}
        yield "content_part.done", {**position, "part": _content_part(answer.text)}
    yield "output_item.done", {"output_index": 0, "item": _output_item(answer, ident, answer.text, status)}
