"""Translates an Anthropic request for OpenAI, except its messages. (Contract §3.4.)

- `top_k` is dropped: OpenAI refuses a request with it, though some servers that speak its dialect would accept it.
- A tool that Anthropic runs itself, or whose schema only its models know, is refused: without its definition the model would
  answer as if it had never been offered. So are `mcp_servers`, and `inference_geo`, which the gateway can't guarantee.
- `thinking` becomes an effort: up to LOW_BUDGET_TOKENS low, up to MEDIUM_BUDGET_TOKENS medium, above that high. The caller's
  own `effort` takes precedence.
- An output schema is `strict` if OpenAI's strict mode accepts it; else it is sent without the guarantee.
- `metadata.user_id` becomes OpenAI's `user`; it is dropped if it is longer than OpenAI accepts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.messages import PARAGRAPH, Conversation, Json, RequestReader, present_members
from kyma_proxy.dialect.chat_fitting import ChatFitting
from kyma_proxy.dialect.utf_8 import check_utf_8
from kyma_proxy.errors import GatewayError, Kind

LOW_BUDGET_TOKENS: Final = 4_096
MEDIUM_BUDGET_TOKENS: Final = 16_384
_MAX_USER_CHARACTERS: Final = 64
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
_TOOL_CHOICES: Final = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})
_EFFORTS: Final = MappingProxyType({"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"})
_OBJECT: Final = b'"object"'
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


class _Tool(msgspec.Struct, gc=False):
    name: str
    input_schema: Raw
    description: str | None = None
    strict: bool | None = None


class _ToolChoice(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


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
_tool: Final = msgspec.json.Decoder(_Tool)
_tool_choice: Final = msgspec.json.Decoder(_ToolChoice)
_metadata: Final = msgspec.json.Decoder(_Metadata)
_thinking: Final = msgspec.json.Decoder(_Thinking)
_output_config: Final = msgspec.json.Decoder(_OutputConfig)
_output_format: Final = msgspec.json.Decoder(_OutputFormat)
_decode_any: Final = msgspec.json.Decoder().decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.encode


def translate_request(
    body: bytes, model: str, *, max_tokens_field: str | None, default_max_tokens: int | None, asks_for_usage: bool,
    reasoning_field: str | None, fitting: ChatFitting,
) -> tuple[bytes, tuple[str, ...], frozenset[str]]:  # fmt: skip
    """Return the body for the source, the paths of the dropped members, and the stop sequences.

    Raises GatewayError for what can't be translated.
    """
    reader = RequestReader()
    try:
        check_utf_8(body)
        members = present_members(reader.members(body, ""))
        request = reader.read(_request, body, "", [name for name in members if name not in _PASSED_THROUGH])
        translated = _translate(request, members, Conversation(reader, reasoning_field), reader)
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


def _translate(request: _Request, members: dict[str, Raw], conversation: Conversation, reader: RequestReader) -> Json:
    """Translate the members of the request, except the model and the limit of tokens."""
    for name, why in _REFUSED.items():
        if name in members and bytes(members[name]) not in (b"[]", b'"global"'):
            raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` can't be translated: {why}", param=name)
    translated: Json = {}
    messages = conversation.translate(request.messages)
    system = request.system or ""
    system_text = system if isinstance(system, str) else conversation.text_of(system, "system")
    instructions = [text for text in (system_text, *conversation.system) if text]
    if instructions:
        messages.insert(0, {"role": "system", "content": PARAGRAPH.join(instructions)})
    translated["messages"] = messages
    translated |= {name: value for name, value in members.items() if name in _PASSED_THROUGH}
    if request.stop_sequences:
        translated["stop"] = request.stop_sequences
    if request.tools:
        translated["tools"] = [_tool_definition(raw, f"tools[{index}]", reader) for index, raw in enumerate(request.tools)]
        if "tool_choice" in members:
            translated |= _tool_choice_members(request.tool_choice, reader)
    if "metadata" in members:
        translated |= _user_member(request.metadata, reader)
    translated |= _service_tier_member(request.service_tier, reader)
    return translated | _effort_and_format(request, members, reader)


def _tool_definition(raw: Raw, path: str, reader: RequestReader) -> Json:
    members = present_members(reader.members(raw, path))
    tool_type = members.get("type")
    if tool_type is not None and bytes(tool_type) != b'"custom"':
        message = f"`{path}` is one of Anthropic's own tools, which this model's source does not have; "
        advice = "leave it out, or define a custom tool with an `input_schema`."
        raise GatewayError(Kind.INVALID_REQUEST, message + advice, param=path)
    tool = reader.read(_tool, raw, path, members)
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = _parameters(tool.input_schema)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _parameters(schema: Raw) -> object:
    """Return a schema as written; but OpenAI requires `properties` of an object, if only an empty one."""
    if bytes(schema) == b"true":
        return {"type": "object", "properties": {}}
    try:
        members = _members(schema)
    except msgspec.MsgspecError:
        return schema
    if "properties" in members or bytes(members.get("type", _OBJECT)) != _OBJECT:
        return schema
    return {"type": Raw(_OBJECT)} | members | {"properties": {}}


def _tool_choice_members(raw: Raw, reader: RequestReader) -> Json:
    choice = reader.read(_tool_choice, raw, "tool_choice")
    if choice.type == "tool" and choice.name is not None:
        members: Json = {"tool_choice": {"type": "function", "function": {"name": choice.name}}}
    elif choice.type in _TOOL_CHOICES:
        members = {"tool_choice": _TOOL_CHOICES[choice.type]}
    else:
        message = "`tool_choice` must be auto, any, none, or tool with a `name`."
        raise GatewayError(Kind.INVALID_REQUEST, message, param="tool_choice")
    if choice.disable_parallel_tool_use:
        members["parallel_tool_calls"] = False
    return members


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


def _effort_and_format(request: _Request, members: dict[str, Raw], reader: RequestReader) -> Json:
    effort: str | None = None
    if "thinking" in members:
        thinking = reader.read(_thinking, request.thinking, "thinking")
        budget = thinking.budget_tokens
        if thinking.type == "enabled" and budget is not None:
            effort = "low" if budget <= LOW_BUDGET_TOKENS else "medium" if budget <= MEDIUM_BUDGET_TOKENS else "high"
        elif thinking.type != "adaptive":
            reader.drop("thinking")  # a model may think without an effort, too
    output_format, path = members.get("output_format"), "output_format"
    if "output_config" in members:
        config_members = present_members(reader.members(request.output_config, "output_config"))
        config = reader.read(_output_config, request.output_config, "output_config", config_members)
        effort = _EFFORTS.get(config.effort or "", effort)
        if config.effort is not None and config.effort not in _EFFORTS:
            reader.drop("output_config.effort")
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
