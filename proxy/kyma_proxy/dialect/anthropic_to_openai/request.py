"""This file asks a source that speaks OpenAI what a caller asks in Anthropic's dialect. (Contract §3.4, §4.)

What the request's members become is decided here; its messages are said by `Conversation`, and the way back is `answered`,
`refused` and `MessageStream`.

- `top_k` is dropped: OpenAI refuses a request that holds it, though some servers that speak its dialect would take it.
- A tool that Anthropic runs itself, or whose schema only its models know, is refused: a model that is not told of it answers
  as if it had never been offered. So are `mcp_servers`, and an `inference_geo`, which is a promise that nobody here can keep.
- `thinking` becomes an effort: up to LOW_BUDGET_TOKENS low, up to MEDIUM_BUDGET_TOKENS medium, above that high. An effort that
  the caller names itself goes before; xhigh and max are high, which is as far as most sources go.
- An output schema is `strict` where OpenAI's strict mode can take it; else it is asked for without the guarantee.
- `metadata.user_id` is OpenAI's `user`, but for one that is longer than OpenAI takes, which is dropped.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.aggregate import message_of
from kyma_proxy.dialect.anthropic_to_openai.answer import answered, refused, streamed
from kyma_proxy.dialect.anthropic_to_openai.messages import PARAGRAPH, Conversation, Json, Reading, present
from kyma_proxy.dialect.anthropic_to_openai.stream import MessageStream
from kyma_proxy.dialect.openai import CHAT
from kyma_proxy.dialect.translation import TranslatedAnswer, TranslatedRequest
from kyma_proxy.errors import GatewayError, Kind

LOW_BUDGET_TOKENS: Final = 4_096
MEDIUM_BUDGET_TOKENS: Final = 16_384
_MAX_USER_CHARACTERS: Final = 64
_AS_IT_IS: Final = frozenset({
    "temperature", "top_p", "stream",
    # Not Anthropic's, but OpenAI's own, and they change nothing in the form of the answer.
    "frequency_penalty", "logit_bias", "presence_penalty", "prompt_cache_key", "safety_identifier", "seed", "verbosity",
})  # fmt: skip
_REFUSED: Final = MappingProxyType(
    {
        "mcp_servers": "this model's source can't reach them; leave it out, and offer their tools as custom ones.",
        "inference_geo": "the gateway can't promise where this model's source computes; leave it out.",
    }
)
_CHOICES: Final = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})
_EFFORTS: Final = MappingProxyType({"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"})


_OBJECT: Final = b'"object"'


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
_anything: Final = msgspec.json.Decoder().decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.encode


class AnthropicToOpenAI:
    """The way of one request from a caller who speaks Anthropic to a source that speaks OpenAI, and back.

    `model` is the source's own id, `shown_model` the one that the caller sees. `max_tokens_field` names the member for the most
    tokens of an answer (None: `max_tokens`); `default_max_tokens` stands in it where the caller gives none. `asks_for_usage`
    says that a stream is asked for its usage; `reasoning_field` names the member in which the source takes the thoughts of
    earlier turns back (None: nowhere); errors bear the `request_id`, where there is one. Raises GatewayError where the request
    can't be said in OpenAI's dialect.
    """

    __slots__ = ("_asked", "_request_id", "_shown_model", "_stops")

    def __init__(
        self, body: bytes, model: str, *, shown_model: str, max_tokens_field: str | None = None,
        default_max_tokens: int | None = None, asks_for_usage: bool = False,
        reasoning_field: str | None = "reasoning_content", request_id: str = "",
    ) -> None:  # fmt: skip
        reading = Reading()
        try:
            members = present(reading.members(body, ""))
            request = reading.take(_request, body, "", [name for name in members if name not in _AS_IT_IS])
            asked = _said(request, members, Conversation(reading, reasoning_field), reading)
        except RecursionError:
            raise GatewayError(Kind.INVALID_JSON, "The body is nested too deeply.") from None
        except UnicodeDecodeError:
            raise GatewayError(Kind.INVALID_JSON, "The body is not valid JSON: it is not UTF-8.") from None
        field = max_tokens_field or "max_tokens"
        if "max_tokens" in members:
            asked[field] = request.max_tokens
        elif default_max_tokens is not None:
            asked[field] = default_max_tokens
        if request.stream and asks_for_usage:
            asked["stream_options"] = {"include_usage": True}
        self._shown_model = shown_model
        self._request_id = request_id
        self._stops = frozenset(request.stop_sequences or ())
        self._asked = TranslatedRequest(CHAT, _encode({"model": model} | asked), reading.dropped)

    @property
    def asked(self) -> TranslatedRequest:
        """What the source is asked."""
        return self._asked

    def whole(self, status: int, body: bytes) -> TranslatedAnswer:
        """A whole answer of the source's, or its error. Raises ValueError where it is neither."""
        if status >= 400:
            return refused(status, body, self._request_id)
        return answered(status, body, self._shown_model, self._stops)

    def stream(self) -> MessageStream:
        """For a 2xx answer that streams."""
        return MessageStream(self._shown_model, self._stops, self._request_id)

    def streamed(self, body: bytes) -> bytes:
        """The events that a whole answer amounts to. Raises ValueError where it is none."""
        return streamed(body)

    def folded(self, body: bytes) -> TranslatedAnswer:
        """The whole answer that a source's whole stream amounts to. Raises ValueError where it is none."""
        stream = self.stream()
        told = stream.feed(body) + stream.flush()
        if not stream.is_finished:
            raise ValueError("the stream is not whole")
        return TranslatedAnswer(200, message_of(told), stream.usage)


def _said(request: _Request, members: dict[str, Raw], conversation: Conversation, reading: Reading) -> Json:
    """The request's members but for the model and the most tokens."""
    for name, why in _REFUSED.items():
        if name in members and bytes(members[name]) not in (b"[]", b'"global"'):
            raise GatewayError(Kind.INVALID_REQUEST, f"`{name}` can't be kept to: {why}", param=name)
    asked: Json = {}
    turns = conversation.said(request.messages)
    system = request.system or ""
    first = system if isinstance(system, str) else conversation.texts(system, "system")
    instructions = [text for text in (first, *conversation.system) if text]
    if instructions:
        turns.insert(0, {"role": "system", "content": PARAGRAPH.join(instructions)})
    asked["messages"] = turns
    asked |= {name: value for name, value in members.items() if name in _AS_IT_IS}
    if request.stop_sequences:
        asked["stop"] = request.stop_sequences
    if request.tools:
        asked["tools"] = [_function(raw, f"tools[{at}]", reading) for at, raw in enumerate(request.tools)]
        if "tool_choice" in members:
            asked |= _choice(request.tool_choice, reading)
    if "metadata" in members:
        asked |= _user(request.metadata, reading)
    asked |= _service_tier(request.service_tier, reading)
    return asked | _effort_and_format(request, members, reading)


def _function(raw: Raw, path: str, reading: Reading) -> Json:
    members = present(reading.members(raw, path))
    kind = members.get("type")
    if kind is not None and bytes(kind) != b'"custom"':
        message = f"`{path}` is one of Anthropic's own tools, which this model's source does not have; "
        advice = "leave it out, or define a custom tool with an `input_schema`."
        raise GatewayError(Kind.INVALID_REQUEST, message + advice, param=path)
    tool = reading.take(_tool, raw, path, members)
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = _parameters(tool.input_schema)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _parameters(schema: Raw) -> object:
    """A schema as it is written, but for an object's that names no properties: OpenAI wants to be told that it has none."""
    if bytes(schema) == b"true":
        return {"type": "object", "properties": {}}
    try:
        members = _members(schema)
    except msgspec.MsgspecError:
        return schema
    if "properties" in members or bytes(members.get("type", _OBJECT)) != _OBJECT:
        return schema
    return {"type": Raw(_OBJECT)} | members | {"properties": {}}


def _choice(raw: Raw, reading: Reading) -> Json:
    choice = reading.take(_tool_choice, raw, "tool_choice")
    if choice.type == "tool" and choice.name is not None:
        chosen: Json = {"tool_choice": {"type": "function", "function": {"name": choice.name}}}
    elif choice.type in _CHOICES:
        chosen = {"tool_choice": _CHOICES[choice.type]}
    else:
        message = "`tool_choice` must be auto, any, none, or tool with a `name`."
        raise GatewayError(Kind.INVALID_REQUEST, message, param="tool_choice")
    if choice.disable_parallel_tool_use:
        chosen["parallel_tool_calls"] = False
    return chosen


def _user(raw: Raw, reading: Reading) -> Json:
    metadata = reading.take(_metadata, raw, "metadata")
    if metadata.user_id is None:
        return {}
    if len(metadata.user_id) > _MAX_USER_CHARACTERS:
        reading.drop("metadata.user_id")
        return {}
    return {"user": metadata.user_id}


def _service_tier(tier: str | None, reading: Reading) -> Json:
    """`auto` is what both sides do where nothing is said."""
    if tier == "standard_only":
        return {"service_tier": "default"}
    if tier not in (None, "auto"):
        reading.drop("service_tier")
    return {}


def _effort_and_format(request: _Request, members: dict[str, Raw], reading: Reading) -> Json:
    effort: str | None = None
    if "thinking" in members:
        thinking = reading.take(_thinking, request.thinking, "thinking")
        budget = thinking.budget_tokens
        if thinking.type == "enabled" and budget is not None:
            effort = "low" if budget <= LOW_BUDGET_TOKENS else "medium" if budget <= MEDIUM_BUDGET_TOKENS else "high"
        elif thinking.type != "adaptive":
            reading.drop("thinking")  # who is not asked for an effort may think all the same
    form, path = members.get("output_format"), "output_format"
    if "output_config" in members:
        given = present(reading.members(request.output_config, "output_config"))
        config = reading.take(_output_config, request.output_config, "output_config", given)
        effort = _EFFORTS.get(config.effort or "", effort)
        if config.effort is not None and config.effort not in _EFFORTS:
            reading.drop("output_config.effort")
        if "format" in given:
            form, path = given["format"], "output_config.format"
    said: Json = {} if effort is None else {"reasoning_effort": effort}
    if form is not None:
        said["response_format"] = _format(form, path, reading)
    return said


def _format(raw: Raw, path: str, reading: Reading) -> Json:
    form = reading.take(_output_format, raw, path)
    if form.type != "json_schema":
        raise GatewayError(Kind.INVALID_REQUEST, f"`{path}.type` must be json_schema.", param=f"{path}.type")
    schema: Json = {"name": "answer", "schema": form.schema}
    try:
        is_strict = _is_strict(_anything(form.schema))
    except (msgspec.MsgspecError, RecursionError):  # a number that is out of range, or depth that is out of reach
        is_strict = False
    if is_strict:
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}


def _is_strict(schema: Any) -> bool:
    """Whether every object of a schema requires all its properties and has no others, as OpenAI's strict mode wants it."""
    if isinstance(schema, list):
        return all(_is_strict(one) for one in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        if schema.get("additionalProperties") is not False:
            return False
        required = schema.get("required")
        if properties and not (isinstance(required, list) and all(name in required for name in properties)):
            return False
    return all(_is_strict(one) for one in schema.values())
