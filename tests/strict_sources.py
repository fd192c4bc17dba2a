"""Providers that refuse what the real ones refuse: a table of rules, each with the place where it can be read.

Each kind is a model of a provider of the shipped catalogue, so that what the catalogue says of it is tried as well.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from anthropic.types.message_create_params import MessageCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from tests.configurations import ProviderEntry, configuration
from tests.harness import LAST_CHUNK, Gateway, Provider, Received, chunk, gateway, head, providers, whole

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
Complaint = tuple[str, str | None]
"""The words of a refusal, and the parameter that it names."""


class Rule(NamedTuple):
    """What is refused, and where that is documented or was seen."""

    source: str
    complaints: Callable[[Json], Iterator[Complaint]]


class Kind(NamedTuple):
    """A model of a provider of the shipped catalogue."""

    provider: str
    model: str
    rules: tuple[Rule, ...]
    dialect: str = "openai"


def _members(known: frozenset[str], message: str) -> Callable[[Json], Iterator[Complaint]]:
    def complaints(request: Json) -> Iterator[Complaint]:
        for name in request.keys() - known:
            yield message.format(name), None

    return complaints


def _refused(*names: str) -> Callable[[Json], Iterator[Complaint]]:
    def complaints(request: Json) -> Iterator[Complaint]:
        for name in names:
            if name in request:
                yield f"Unsupported parameter: '{name}' is not supported with this model.", name

    return complaints


def _efforts(*taken: str) -> Callable[[Json], Iterator[Complaint]]:
    def complaints(request: Json) -> Iterator[Complaint]:
        if request.get("reasoning_effort", taken[0]) not in taken:
            yield f"`reasoning_effort` must be one of {', '.join(taken)}", None

    return complaints


def _stop(most: int) -> Callable[[Json], Iterator[Complaint]]:
    def complaints(request: Json) -> Iterator[Complaint]:
        if len(request.get("stop", ())) > most:
            yield f"Invalid 'stop': array too long. Expected an array with maximum length {most}.", "stop"

    return complaints


def _functions(request: Json) -> Iterator[Json]:
    yield from (tool["function"] for tool in request.get("tools", ()))
    yield from (call["function"] for message in request["messages"] for call in message.get("tool_calls") or ())
    if isinstance(request.get("tool_choice"), dict):
        yield request["tool_choice"]["function"]


def _function_names(request: Json) -> Iterator[Complaint]:
    for function in _functions(request):
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"]):
            yield "Invalid 'tools[0].function.name': string does not match '^[a-zA-Z0-9_-]{1,64}$'.", "tools[0].function.name"


def _formats(*taken: str) -> Callable[[Json], Iterator[Complaint]]:
    def complaints(request: Json) -> Iterator[Complaint]:
        kind = request.get("response_format", {}).get("type", "text")
        if kind not in ("text", *taken):
            yield "This response_format type is unavailable now", None
        if kind == "json_object" and "json" not in json.dumps(request["messages"]).lower():
            yield (
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                "messages",
            )

    return complaints


def _user(request: Json) -> Iterator[Complaint]:
    if len(request.get("user", "")) > 64:
        yield "Invalid 'user': string too long. Expected a string with maximum length 64.", "user"


def _roles(request: Json) -> Iterator[Complaint]:
    for message in request["messages"]:
        if message["role"] not in ("system", "user", "assistant", "tool"):
            yield f"Unknown role {message['role']}", "messages"


def _no_effort_with_tools(request: Json) -> Iterator[Complaint]:
    if "tools" in request and "reasoning_effort" in request:
        yield "Function tools with reasoning_effort are not supported for gpt-5.4 in /v1/chat/completions.", "reasoning_effort"


def _tools_without_effort_only(request: Json) -> Iterator[Complaint]:
    if "tools" in request and request.get("reasoning_effort") != "none":
        yield "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions.", "reasoning_effort"


# ---- Anthropic

_SCHEMA_KEYWORDS = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "maxItems",
    "uniqueItems", "minProperties", "maxProperties", "oneOf", "not", "if", "patternProperties",
})  # fmt: skip


def _schema(schema: Any, path: str) -> Iterator[Complaint]:
    if not isinstance(schema, dict):
        return
    for name in _SCHEMA_KEYWORDS & schema.keys():
        yield f"{path}: For '{schema.get('type')}' type, property '{name}' is not supported", None
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false", None
    for part in (
        schema.get("items"),
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", ()),
        *schema.get("$defs", {}).values(),
    ):
        yield from _schema(part, path)


def _enforced_schemas(request: Json) -> Iterator[Complaint]:
    yield from _schema(request.get("output_config", {}).get("format", {}).get("schema"), "output_config.format.schema")
    for at, tool in enumerate(request.get("tools", ())):
        if tool.get("strict"):
            yield from _schema(tool["input_schema"], f"tools.{at}.custom.input_schema")


def _tool_names(request: Json) -> Iterator[Complaint]:
    used = [block["name"] for message in request["messages"] for block in message["content"] if block["type"] == "tool_use"]
    for name in (*[tool["name"] for tool in request.get("tools", ())], *used):
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            yield "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'", None


def _no_prefill(request: Json) -> Iterator[Complaint]:
    if request["messages"][-1]["role"] == "assistant":
        yield "This model does not support assistant message prefill. The conversation must end with a user message.", None


def _claude_efforts(*taken: str) -> Callable[[Json], Iterator[Complaint]]:
    def complaints(request: Json) -> Iterator[Complaint]:
        effort = request.get("output_config", {}).get("effort")
        if effort is not None and effort not in taken:
            yield f"output_config.effort: '{effort}' is not supported by this model", None

    return complaints


def _no_sampling(request: Json) -> Iterator[Complaint]:
    for name in request.keys() & {"temperature", "top_p", "top_k"}:
        yield f"`{name}` is deprecated for this model.", None


def _one_sampling_member(request: Json) -> Iterator[Complaint]:
    if {"temperature", "top_p"} <= request.keys():
        yield "`temperature` and `top_p` cannot both be specified for this model. Please use only one.", None


def _no_structured_output(request: Json) -> Iterator[Complaint]:
    if "output_config" in request:
        yield "output_config: Extra inputs are not permitted", None


_OPENAI = "https://platform.openai.com/docs/api-reference/chat/create"
_CLAUDE = "https://platform.claude.com/docs/en"
_MESSAGE_MEMBERS = frozenset({*MessageCreateParamsBase.__annotations__, "stream", "temperature", "top_p", "top_k"})
_CHAT = (
    Rule(_OPENAI, _members(frozenset({*CompletionCreateParamsBase.__annotations__, "stream"}),
                           "Unrecognized request argument supplied: {}")),
    Rule(_OPENAI, _function_names),
    Rule(_OPENAI, _roles),
)  # fmt: skip
_OF_OPENAI = (*_CHAT, Rule(_OPENAI, _stop(4)), Rule(_OPENAI, _user), Rule(_OPENAI, _formats("json_object", "json_schema")))
_REASONS = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "stop", "max_tokens")
_OF_ANTHROPIC = (
    Rule(f"{_CLAUDE}/api/messages", _members(_MESSAGE_MEMBERS,
                                             "{}: Extra inputs are not permitted")),
    Rule(f"{_CLAUDE}/agents-and-tools/tool-use/implement-tool-use", _tool_names),
    Rule(f"{_CLAUDE}/build-with-claude/structured-outputs", _enforced_schemas),
)  # fmt: skip
KINDS: Mapping[str, Kind] = {
    "gpt-4o": Kind("openai", "gpt-4o", (*_OF_OPENAI, Rule(_OPENAI, _refused("reasoning_effort")))),
    "o3": Kind("openai", "o3", (
        *_OF_OPENAI, Rule("https://platform.openai.com/docs/guides/reasoning", _refused(*_REASONS, "parallel_tool_calls")),
        Rule("https://platform.openai.com/docs/guides/reasoning", _efforts("low", "medium", "high")),
    )),
    "gpt-5-mini": Kind("openai", "gpt-5-mini", (
        *_OF_OPENAI, Rule("https://github.com/BerriAI/litellm/pull/15244", _refused(*_REASONS)),
        Rule(_OPENAI, _efforts("minimal", "low", "medium", "high")),
    )),
    "gpt-5.4": Kind("openai", "gpt-5.4", (
        *_OF_OPENAI, Rule("https://github.com/openai/openai-openapi/issues/541", _no_effort_with_tools),
        Rule(_OPENAI, _efforts("none", "low", "medium", "high", "xhigh")),
    )),
    "gpt-5.6": Kind("openai", "gpt-5.6-terra", (
        *_OF_OPENAI, Rule("https://github.com/BerriAI/litellm/pull/34569", _tools_without_effort_only),
        Rule(_OPENAI, _efforts("none", "low", "medium", "high", "xhigh")),
    )),
    "groq-llama": Kind("groq", "llama-3.3-70b-versatile", (
        *_CHAT, Rule("https://console.groq.com/docs/openai", _refused("logit_bias", "logprobs", "top_logprobs")),
        Rule("https://github.com/diegosouzapw/OmniRoute/pull/3277", _refused("reasoning_effort")), Rule(_OPENAI, _stop(4)),
        Rule("https://console.groq.com/docs/structured-outputs", _formats("json_object")),
    )),
    "groq-gpt-oss": Kind("groq", "openai/gpt-oss-120b", (
        *_CHAT, Rule("https://console.groq.com/docs/reasoning", _efforts("low", "medium", "high")), Rule(_OPENAI, _stop(4)),
        Rule("https://console.groq.com/docs/structured-outputs", _formats("json_object", "json_schema")),
    )),
    "groq-qwen": Kind("groq", "qwen/qwen3-32b", (
        *_CHAT, Rule("https://console.groq.com/docs/reasoning", _efforts("none", "default")),
        Rule("https://console.groq.com/docs/structured-outputs", _formats("json_object")),
    )),
    "deepseek": Kind("deepseek", "deepseek-flash", (
        *_CHAT, Rule("https://api-docs.deepseek.com/guides/json_mode", _formats("json_object")),
    )),
    "glm": Kind("zhipu", "glm-5.1", (
        *_CHAT, Rule("https://docs.z.ai/api-reference/llm/chat-completion", _stop(1)),
        Rule("https://docs.z.ai/guides/capabilities/struct-output", _formats("json_object")),
    )),
    "gemini": Kind("google", "gemini-3-flash-preview", (
        *_CHAT, Rule("https://ai.google.dev/gemini-api/docs/openai", _efforts("minimal", "low", "medium", "high")),
    )),
    "claude-3.7": Kind("anthropic", "claude-3-7-sonnet-20250219", (
        *_OF_ANTHROPIC, Rule(f"{_CLAUDE}/build-with-claude/structured-outputs", _no_structured_output),
    ), "anthropic"),
    "claude-4.5": Kind("anthropic", "claude-sonnet-4-5", (
        *_OF_ANTHROPIC, Rule(f"{_CLAUDE}/about-claude/models/migration-guide", _one_sampling_member),
        Rule(f"{_CLAUDE}/build-with-claude/effort", _claude_efforts()),
    ), "anthropic"),
    "claude-4.6": Kind("anthropic", "claude-opus-4-6", (
        *_OF_ANTHROPIC, Rule(f"{_CLAUDE}/about-claude/models/migration-guide", _one_sampling_member),
        Rule(f"{_CLAUDE}/about-claude/models/whats-new-claude-4-6", _no_prefill),
        Rule(f"{_CLAUDE}/build-with-claude/effort", _claude_efforts("low", "medium", "high", "max")),
    ), "anthropic"),
    "claude-4.7": Kind("anthropic", "claude-opus-4-7", (
        *_OF_ANTHROPIC, Rule(f"{_CLAUDE}/about-claude/models/migration-guide", _no_sampling),
        Rule(f"{_CLAUDE}/about-claude/models/whats-new-claude-4-6", _no_prefill),
        Rule(f"{_CLAUDE}/build-with-claude/effort", _claude_efforts("low", "medium", "high", "xhigh", "max")),
    ), "anthropic"),
}  # fmt: skip


def complaints(kind: Kind, request: Json) -> list[Complaint]:
    """The rules that a request breaks, in the provider's words."""
    return [one for rule in kind.rules for one in rule.complaints(request)]


def refusal(kind: Kind, complaint: Complaint) -> bytes:
    """The body of a 400."""
    message, param = complaint
    error: Json = {"type": "invalid_request_error", "message": message}
    return json.dumps(
        {"type": "error", "error": error} if kind.dialect == "anthropic" else {"error": {**error, "param": param}}
    ).encode()


def judged(kind: Kind, received: Received) -> bytes:
    """The answer to a request: its refusal, or a call of the first tool that it offers, or a text."""
    request = json.loads(received.body)
    broken = complaints(kind, request)
    if broken:
        return whole(refusal(kind, broken[0]), status="400 Bad Request")
    answer = (_message if kind.dialect == "anthropic" else _completion)(request)
    if not request.get("stream"):
        return whole(json.dumps(answer).encode())
    events = _events(answer) if kind.dialect == "anthropic" else _chunks(answer)
    return head() + b"".join([chunk(one) for one in events]) + LAST_CHUNK


def _completion(request: Json) -> Json:
    message: Json = {"role": "assistant", "content": '{"n": 1}'}
    if "tools" in request:
        function = {"name": request["tools"][0]["function"]["name"], "arguments": '{"n": 1}'}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tools" in request else "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}


def _chunks(answer: Json) -> Iterator[bytes]:
    choice, frame = answer["choices"][0], {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "x"}
    delta = choice["message"]
    if "tool_calls" in delta:
        delta = {**delta, "tool_calls": [{**one, "index": at} for at, one in enumerate(delta["tool_calls"])]}
    for one in ({"index": 0, "delta": delta}, {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}):
        yield b"data: %b\n\n" % json.dumps({**frame, "choices": [one]}).encode()
    yield b"data: %b\n\n" % json.dumps({**frame, "choices": [], "usage": answer["usage"]}).encode()
    yield b"data: [DONE]\n\n"


def _message(request: Json) -> Json:
    text = '{"n": 1}' if "format" in request.get("output_config", {}) else '```json\n{"n": 1}\n```'
    content: list[Json] = [{"type": "text", "text": text}]
    if "tools" in request:
        content = [{"type": "tool_use", "id": "toolu_1", "name": request["tools"][0]["name"], "input": {"n": 1}}]
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "x", "content": content, "stop_sequence": None,
        "stop_reason": "tool_use" if "tools" in request else "end_turn", "usage": {"input_tokens": 7, "output_tokens": 3},
    }  # fmt: skip


def _events(answer: Json) -> Iterator[bytes]:
    (block,) = answer["content"]
    events: list[Json] = [{"type": "message_start", "message": {**answer, "content": [], "stop_reason": None}}]
    if block["type"] == "text":
        events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        pieces = re.findall(r".{1,4}", block["text"], re.DOTALL)
        events += [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}} for one in pieces]
    else:
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events.append({"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}})
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": answer["stop_reason"]}, "usage": answer["usage"]},
        {"type": "message_stop"},
    ]
    yield from (f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)


# ---- a gateway in front of one


def entry(kind: Kind, port: int) -> ProviderEntry:
    """The provider as the shipped catalogue has it, at a port of this machine."""
    catalogue = yaml.safe_load((ROOT / "config" / "kyma.yaml").read_text())
    written = next(one for one in catalogue["providers"] if one["name"] == kind.provider)
    names = ("supports", "supports_by_model", "max_tokens_field", "reasoning_field")
    more = ", ".join(f"{name}: {json.dumps(written[name])}" for name in names if name in written)
    chat = "endpoints: [chat], " if kind.dialect == "openai" else ""
    return ProviderEntry(port, kind.dialect, more=(chat + more).rstrip(", "))


def model_entry(kind: Kind) -> str:
    """The model `m` at that provider."""
    return f"  - {{id: m, price: {{input: 1, output: 2}}, pool: [{{provider: p0, model: '{kind.model}'}}]}}\n"


@contextlib.asynccontextmanager
async def strict(kind: Kind, directory: Path) -> AsyncIterator[tuple[Gateway, Provider]]:
    """A gateway in front of a strict provider, whose model is `m`."""
    async with providers(1) as (provider,):
        provider.judge = lambda received: judged(kind, received)
        text = configuration(entry(kind, provider.port), models=model_entry(kind), pool=0)
        async with gateway(text, directory) as running:
            yield running, provider
