"""Writes the response object of a Responses answer: what its request said, its status, error and usage. (Contract §2, §4, §5.)

The object holds every member that the dialect's schema requires. `store` is always false, whatever was asked. A member of the
request that is large is not repeated: nobody reads it back, and a stream would carry it three times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from kyma_proxy.core.accounts.usage import NO_USAGE
from kyma_proxy.dialect.answers.openai import usage_of
from kyma_proxy.dialect.answers.usage import part, token_count
from kyma_proxy.dialect.responses.functions import Tool
from kyma_proxy.dialect.responses.request import ChatRequest
from kyma_proxy.dialect.translation import NO_RULES, ThoughtRules

Json = dict[str, Any]
MAX_REPEATED_BYTES: Final = 4096
_encode: Final = msgspec.json.encode


class AnswerOptions(NamedTuple):
    """The facts of a request that its answer needs. `head` is the text of the members that never change, without braces."""

    response_id: str
    head: bytes
    tools: Mapping[str, Tool]
    summarises: bool
    includes_thoughts: bool
    thoughts: ThoughtRules = NO_RULES


def answer_options(
    request: ChatRequest, public_model: str, request_id: str, created: int, thoughts: ThoughtRules
) -> AnswerOptions:
    """Return the options of an answer. `created` is a Unix time."""
    response_id = f"resp_{request_id or created}"
    members: Json = {
        "id": response_id, "object": "response", "created_at": created, "model": public_model, "store": False,
        "background": False, "previous_response_id": None, "service_tier": "default", "truncation": "disabled",
        "access_programs": None,
    }  # fmt: skip
    for name, default in _REPEATED.items():
        value = request.members.get(name)
        members[name] = default if value is None or memoryview(value).nbytes > MAX_REPEATED_BYTES else Raw(bytes(value))
    members["text"] = _text_of(members["text"])
    members["tools"] = _tools_of(members["tools"])
    head = _encode(members)[1:-1]
    return AnswerOptions(response_id, head, request.tools, request.summarises, request.includes_thoughts, thoughts)


_REPEATED: Final[Mapping[str, Any]] = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {}, "parallel_tool_calls": True,
    "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None}, "safety_identifier": None, "temperature": None,
    "text": None, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": None, "user": None,
}  # fmt: skip


def _text_of(written: Any) -> Any:
    """Return the `text` of a response, which has a format."""
    if written is None:
        return {"format": {"type": "text"}}
    members = _members(written)
    return members if bytes(members.get("format", Raw(b"null"))) != b"null" else members | {"format": Raw(b'{"type":"text"}')}


def _tools_of(written: Any) -> Any:
    """Return the `tools` of a response, of which each function says if it is strict."""
    if not isinstance(written, Raw):
        return written
    tools = _list_of_members(written)
    return [_FUNCTION | tool if bytes(tool.get("type", b"")) == b'"function"' else tool for tool in tools]


_FUNCTION: Final = {"strict": None, "parameters": None}
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_list_of_members: Final = msgspec.json.Decoder(list[dict[str, Raw]]).decode


def response_object(
    options: AnswerOptions, status: str, output: list[bytes], *, usage: bytes = b"null", error: bytes = b"null",
    incomplete: bytes = b"null", completed_at: bytes = b"null",
) -> bytes:  # fmt: skip
    """Return a response; the items of its output are JSON texts."""
    return b'{%b,"status":"%b","error":%b,"incomplete_details":%b,"completed_at":%b,"output":[%b],"usage":%b}' % (
        options.head, status.encode(), error, incomplete, completed_at, b",".join(output), usage,
    )  # fmt: skip


def usage_object(reported: Mapping[str, Any] | None) -> bytes:
    """Return a source's usage as an object of this dialect; null if it reported none."""
    usage = NO_USAGE if reported is None else usage_of(reported)
    if reported is None or usage is NO_USAGE:
        return b"null"
    prompt, completion = usage.prompt or 0, usage.completion or 0
    details = part(reported, "completion_tokens_details", "output_tokens_details")
    return _encode({
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": min(usage.cached or 0, prompt), "cache_write_tokens": usage.cache_write},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": min(token_count(details.get("reasoning_tokens")) or 0, completion)},
        "total_tokens": prompt + completion,
    })  # fmt: skip
