"""This file gives a simulated answer OpenAI's shapes: chat, completions, responses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kyma_proxy.simulated.reading import Answer, Json, event


def chat_whole(answer: Answer, ident: str, now: int) -> Json:
    """A `chat.completion`."""
    message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool:
        function = {"name": answer.tool, "arguments": answer.text}
        call = {"id": f"call_{ident}", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    return _object("chat.completion", f"chatcmpl-{ident}", answer, now) | {"choices": [choice], "usage": _usage(answer)}


def chat_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """The `chat.completion.chunk`s of a stream, to `[DONE]`."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    if answer.tool:
        function = {"name": answer.tool, "arguments": ""}
        call = {"index": 0, "id": f"call_{ident}", "type": "function", "function": function}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    for piece in answer.pieces:
        more = {"index": 0, "function": {"arguments": piece}}
        deltas.append({"tool_calls": [more]} if answer.tool else {"content": piece})
    choices: list[Json] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish(answer)})
    yield from _chunks(answer, _object("chat.completion.chunk", f"chatcmpl-{ident}", answer, now), choices)


def completion_whole(answer: Answer, ident: str, now: int) -> Json:
    """A `text_completion`."""
    choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": _finish(answer)}
    return _object("text_completion", f"cmpl-{ident}", answer, now) | {"choices": [choice], "usage": _usage(answer)}


def completion_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """The pieces of a streamed `text_completion`, to `[DONE]`."""
    ends: list[tuple[str, str | None]] = [*((piece, None) for piece in answer.pieces), ("", _finish(answer))]
    choices: list[Json] = [{"index": 0, "text": text, "logprobs": None, "finish_reason": end} for text, end in ends]
    yield from _chunks(answer, _object("text_completion", f"cmpl-{ident}", answer, now), choices)


def _object(kind: str, ident: str, answer: Answer, now: int) -> Json:
    return {"id": ident, "object": kind, "created": now, "model": answer.model, "system_fingerprint": "simulated"}


def _chunks(answer: Answer, head: Json, choices: Iterable[Json]) -> Iterator[bytes]:
    """One event a choice; the usage, if asked for, in an event of its own that has no choice."""
    for choice in choices:
        yield event(head | {"choices": [choice]} | ({"usage": None} if answer.include_usage else {}))
    if answer.include_usage:
        yield event(head | {"choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _finish(answer: Answer) -> str:
    if answer.is_cut:
        return "length"
    return "tool_calls" if answer.tool else "stop"


def _usage(answer: Answer) -> Json:
    said = len(answer.pieces)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": answer.prompt_tokens + said,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def response_whole(answer: Answer, ident: str, now: int) -> Json:
    """A `response` that is over."""
    usage = {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(answer.pieces),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.prompt_tokens + len(answer.pieces),
    }
    status = "incomplete" if answer.is_cut else "completed"
    reason = {"reason": "max_output_tokens"} if answer.is_cut else None
    over = {"status": status, "incomplete_details": reason, "usage": usage}
    return _response(answer, ident, now) | over | {"output": [_item(answer, ident, answer.text, status)]}


def response_events(answer: Answer, ident: str, now: int) -> Iterator[bytes]:
    """The events of a streamed response, from `response.created` to `response.completed` or `response.incomplete`."""
    whole = response_whole(answer, ident, now)
    started: Json = {"response": _response(answer, ident, now)}
    payloads: list[tuple[str, Json]] = [("created", started), ("in_progress", started)]
    payloads += _item_events(answer, ident, str(whole["status"]))
    payloads.append((str(whole["status"]), {"response": whole}))
    for at, (name, payload) in enumerate(payloads):
        kind = f"response.{name}"
        yield event({"type": kind, "sequence_number": at, **payload}, kind)


def _response(answer: Answer, ident: str, now: int) -> Json:
    return {
        "id": f"resp_{ident}",
        "object": "response",
        "created_at": now,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _item(answer: Answer, ident: str, text: str | None, status: str) -> Json:
    """The one output item; without a text it is that which a stream opens with."""
    if answer.tool:
        call = {"call_id": f"call_{ident}", "name": answer.tool, "arguments": text or ""}
        return {"id": f"fc_{ident}", "type": "function_call", "status": status, **call}
    content = [] if text is None else [_part(text)]
    return {"id": f"msg_{ident}", "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item_events(answer: Answer, ident: str, status: str) -> Iterator[tuple[str, Json]]:
    place: Json = {"item_id": f"fc_{ident}" if answer.tool else f"msg_{ident}", "output_index": 0}
    yield "output_item.added", {"output_index": 0, "item": _item(answer, ident, None, "in_progress")}
    if answer.tool:
        for piece in answer.pieces:
            yield "function_call_arguments.delta", {**place, "delta": piece}
        yield "function_call_arguments.done", {**place, "name": answer.tool, "arguments": answer.text}
    else:
        place |= {"content_index": 0}
        yield "content_part.added", {**place, "part": _part("")}
        for piece in answer.pieces:
            yield "output_text.delta", {**place, "delta": piece, "logprobs": []}
        yield "output_text.done", {**place, "text": answer.text, "logprobs": []}
        yield "content_part.done", {**place, "part": _part(answer.text)}
    yield "output_item.done", {"output_index": 0, "item": _item(answer, ident, answer.text, status)}
