"""Translates an Anthropic request for OpenAI, except its messages. (Contract §3.4.)

- `top_k` is dropped: OpenAI refuses a request with it, though some servers that speak its dialect would accept it.
- `mcp_servers` are refused, and `inference_geo`, which the gateway can't guarantee.
- The line `x-anthropic-billing-header: …` at the head of the system prompt, which Claude Code adds, is dropped: it says nothing
  to a model, and changes with every request, so that no cache of prefixes would ever fit (anthropics/claude-code#68900).
- `thinking` becomes an effort: up to LOW_BUDGET_TOKENS low, up to MEDIUM_BUDGET_TOKENS medium, above that high. The caller's
  own `effort` takes precedence. If thinking is disabled, an effort would switch it on again, and is dropped;
  the effort is `none` where that is taken.
- An output schema is `strict` if OpenAI's strict mode accepts it; else it is sent without the guarantee.
- `metadata.user_id` becomes OpenAI's `user`; it is dropped if it is longer than OpenAI accepts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.content_parts import PARAGRAPH
from kyma_proxy.dialect.anthropic_to_openai.messages import Conversation
from kyma_proxy.dialect.anthropic_to_openai.request_reader import Json, RequestReader, present_members
from kyma_proxy.dialect.anthropic_to_openai.tool_definitions import tool_members
from kyma_proxy.dialect.chat_fitting import ChatFitting
from kyma_proxy.dialect.effort import NONE
from kyma_proxy.dialect.translation import ThoughtRules
from kyma_proxy.dialect.utf_8 import check_utf_8
from kyma_proxy.errors import GatewayError, Kind

LOW_BUDGET_TOKENS: Final = 4_096
MEDIUM_BUDGET_TOKENS: Final = 16_384
_MAX_USER_CHARACTERS: Final = 64
_BILLING: Final = "x-anthropic-billing-header:"
_PASSED_THROUGH: Final = frozenset({
    "temperature", "top_p", "stream",
    # These are OpenAI's own members, and do not change the form of the answer.
    "frequency_penalty", "logit_bias", "presence_penalty", "prompt_cache_key", "safety_identifier", "seed", "verbosity",
})  # fmt: skip
_REFUSED: Final = MappingProxyType(
    {
        "mcp_servers": "this model's source can't reach them; leave it out, and offer their tools as custom ones.",
        "inference_geo": "the gateway can't promise where this model's source computes; leave it out.",
    }
)
_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})
CALLER_NAMES: Final = MappingProxyType({
    "reasoning_effort": "output_config.effort", "response_format": "output_config.format", "stop": "stop_sequences",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use", "user": "metadata.user_id",
})  # fmt: skip
"""The caller's names for members of a chat request."""


class _Request(msgspec.Struct, gc=False):
    messages: list[Raw]
    model: Raw = Raw()
    max_tokens: Raw = Raw()
    system: str | list[Raw] | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = Raw()
    metadata: Raw = Raw()
    thinking: Raw = Raw()
    output_config: Raw = Raw()
    output_format: Raw = Raw()
    service_tier: str | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class _Thinking(msgspec.Struct, gc=False):
    type: str
    budget_tokens: int | None = None


class _OutputConfig(msgspec.Struct, gc=False):
    effort: str | None = None
    format: Raw = Raw()


class _OutputFormat(msgspec.Struct, gc=False):
    type: str
    schema: Raw


_request: Final = msgspec.json.Decoder(_Request)
_metadata: Final = msgspec.json.Decoder(_Metadata)
_thinking: Final = msgspec.json.Decoder(_Thinking)
_output_config: Final = msgspec.json.Decoder(_OutputConfig)
_output_format: Final = msgspec.json.Decoder(_OutputFormat)
_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


def translate_request(
    body: bytes, model: str, *, max_tokens_field: str | None, default_max_tokens: int | None, asks_for_usage: bool,
    thoughts: ThoughtRules, fitting: ChatFitting,
) -> tuple[bytes, tuple[str, ...], frozenset[str]]:  # fmt: skip
    """Return the body for the source, the paths of the dropped members, and the stop sequences.

    Raises GatewayError for what can't be translated.
    """
    reader = RequestReader()
    try:
        check_utf_8(body)
        members = present_members(reader.members(body, ""))
        request = reader.read(_request, body, "", [name for name in members if name not in _PASSED_THROUGH])
        translated = _translate(request, members, Conversation(reader, thoughts), reader, can_stop=fitting.can_stop_thinking)
    except RecursionError:
        raise GatewayError(Kind.INVALID_JSON, "The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON: it is not UTF-8.") from None
    field = max_tokens_field or "max_tokens"
    if "max_tokens" in members:
        translated[field] = request.max_tokens
    elif default_max_tokens is not None:
        translated[field] = default_max_tokens
    if request.stream and asks_for_usage:
        translated["stream_options"] = {"include_usage": True}
    fitting.fit(translated, reader.drop)
    return _encode({"model": model} | translated), reader.dropped, frozenset(request.stop_sequences or ())


def _translate(
    request: _Request, members: dict[str, Raw], conversation: Conversation, reader: RequestReader, *, can_stop: bool
) -> Json:
    """Translate the members of the request, except the model and the limit of tokens."""
    for name, why in _REFUSED.items():
        if name in members and bytes(members[name]) not in (b"[]", b'"global"'):
            raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` can't be translated: {why}", param=name)
    translated: Json = {}
    messages = conversation.translate(request.messages)
    system_text = _system_text(request.system or "", conversation, reader)
    instructions = [text for text in (system_text, *conversation.system) if text]
    if instructions:
        messages.insert(0, {"role": "system", "content": PARAGRAPH.join(instructions)})
    translated["messages"] = messages
    translated |= {name: value for name, value in members.items() if name in _PASSED_THROUGH}
    if request.stop_sequences:
        translated["stop"] = request.stop_sequences
    if request.tools:
        translated |= tool_members(request.tools, members.get("tool_choice"), conversation.has_named, reader)
    if "metadata" in members:
        translated |= _user_member(request.metadata, reader)
    translated |= _service_tier_member(request.service_tier, reader)
    return translated | _effort_and_format(request, members, reader, can_stop=can_stop)


def _system_text(system: str | list[Raw], conversation: Conversation, reader: RequestReader) -> str:
    """Return the system prompt, without the line that is meant for Anthropic's books."""
    text = system if isinstance(system, str) else conversation.system_text(system)
    if not text.startswith(_BILLING):
        return text
    reader.drop("system" if isinstance(system, str) else "system[0]")
    return text.partition("\n")[2].lstrip("\n")


def _user_member(raw: Raw, reader: RequestReader) -> Json:
    metadata = reader.read(_metadata, raw, "metadata")
    if metadata.user_id is None:
        return {}
    if len(metadata.user_id) > _MAX_USER_CHARACTERS:
        reader.drop("metadata.user_id")
        return {}
    return {"user": metadata.user_id}


def _service_tier_member(tier: str | None, reader: RequestReader) -> Json:
    """Translate the service tier; `auto` is the default of both dialects."""
    if tier == "standard_only":
        return {"service_tier": "default"}
    if tier not in (None, "auto"):
        reader.drop("service_tier")
    return {}


def _effort_and_format(request: _Request, members: dict[str, Raw], reader: RequestReader, *, can_stop: bool) -> Json:
    """Translate the effort and the format; `can_stop` is True if the source can be told not to think."""
    effort: str | None = None
    is_disabled = False
    if "thinking" in members:
        thinking = reader.read(_thinking, request.thinking, "thinking")
        budget = thinking.budget_tokens
        if thinking.type == "enabled" and budget is not None:
            effort = "low" if budget <= LOW_BUDGET_TOKENS else "medium" if budget <= MEDIUM_BUDGET_TOKENS else "high"
        elif thinking.type != "adaptive":
            is_disabled = thinking.type == "disabled"
            if is_disabled and can_stop:
                effort = NONE
            else:
                reader.drop("thinking")  # a model may think without an effort, too
    output_format, path = members.get("output_format"), "output_format"
    if "output_config" in members:
        config_members = present_members(reader.members(request.output_config, "output_config"))
        config = reader.read(_output_config, request.output_config, "output_config", config_members)
        if is_disabled or (config.effort is not None and config.effort not in _EFFORTS):
            if config.effort is not None:
                reader.drop("output_config.effort")
        else:
            effort = config.effort or effort
        if "format" in config_members:
            output_format, path = config_members["format"], "output_config.format"
    translated: Json = {} if effort is None else {"reasoning_effort": effort}
    if output_format is not None:
        translated["response_format"] = _response_format(output_format, path, reader)
    return translated


def _response_format(raw: Raw, path: str, reader: RequestReader) -> Json:
    output_format = reader.read(_output_format, raw, path)
    if output_format.type != "json_schema":
        raise GatewayError(Kind.INVALID_REQUEST, f"`{path}.type` must be json_schema.", param=f"{path}.type")
    schema: Json = {"name": "answer", "schema": output_format.schema}
    try:
        is_strict = _is_strict(_decode_any(output_format.schema))
    except (msgspec.MsgspecError, RecursionError):  # a number out of range, or too much nesting
        is_strict = False
    if is_strict:
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}


def _is_strict(schema: Any) -> bool:
    """True if every object of a schema requires all its properties and allows no others, as OpenAI's strict mode demands."""
    if isinstance(schema, list):
        return all(_is_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        if schema.get("additionalProperties") is not False:
            return False
        required = schema.get("required")
        is_listed = isinstance(properties, dict) and isinstance(required, list) and all(name in required for name in properties)
        if properties and not is_listed:
            return False
    return all(_is_strict(part) for part in schema.values())
