"""Translates an OpenAI chat request for Anthropic, except its messages. (Contract §3.4.)

Members that both dialects have are translated. Members that only Anthropic has (`thinking`, `top_k`, `cache_control`,
`output_config`, …) are passed through if a caller sends them. What Anthropic's dialect can't express is dropped and reported,
or refused if the answer would be a different one.

- Anthropic's `temperature` is at most 1. Claude 4.7 and later accept no sampling members at all, Claude 4.1 and later not both
  `temperature` and `top_p`, and no Claude accepts them while it thinks; then they are dropped.
- `reasoning_effort` becomes `thinking`. Claude 4.6 and later choose the amount (`adaptive`, with the effort beside it); others
  get a budget of at most half of `max_tokens`, so that as much is left for the answer. The effort is dropped if the smallest
  budget does not fit, if a tool is forced, and if an assistant turn whose tool calls are being answered began without
  thinking. In such a turn `thinking` with a budget is dropped too, as Anthropic then requires the turn to begin with thinking.
- `response_format` with a schema becomes `output_config.format`; JSON without a schema is asked for in the prompt (`fitting`).
- Anthropic needs the definition of every tool that was called before. A caller who defines none any more forbids their use.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kyma_proxy.config.supports import Supports
from kyma_proxy.dialect.effort import nearest_effort
from kyma_proxy.dialect.openai_to_anthropic.chat_request import (
    MAX_DROPPED,
    NULL,
    ChatRequest,
    Function,
    FunctionName,
    ToolChoice,
    is_present,
    unsupported,
    untranslated_members,
)
from kyma_proxy.dialect.openai_to_anthropic.fitting import MessagesFitting
from kyma_proxy.dialect.openai_to_anthropic.messages import Block, Conversation, translate_messages

_DEFAULT_MAX_TOKENS: Final = 4096
_MIN_BUDGET: Final = 1024
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_ADAPTIVE: Final = (4, 6)
_XHIGH: Final = (4, 7)
_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")  # https://platform.claude.com/docs/en/build-with-claude/effort
_EFFORTS_BEFORE_XHIGH: Final = ("low", "medium", "high", "max")
_NO_SAMPLING: Final = (4, 7)
_THINKS_WITH_FORCED_TOOL: Final = (4, 8)
_ONE_SAMPLING_MEMBER: Final = (4, 1)
_CLAUDE: Final = re.compile(r"claude-(?:[a-z]+-)*([0-9]{1,2})(?:[.-]([0-9]{1,2}))?(?![0-9])")
_ALWAYS_THINKS: Final = re.compile(r"claude-(?:fable|mythos)")
_SERVICE_TIERS: Final = {"auto": "auto", "default": "standard_only"}
_PASSED_THROUGH: Final = ("cache_control", "inference_geo", "speed", "thinking")
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def translate_request(
    body: bytes, request: ChatRequest, model: str, default_max_tokens: int | None, supports: Supports
) -> tuple[bytes, tuple[str, ...], MessagesFitting]:
    """Return the body for Anthropic, the paths of the dropped members, and how the request was fitted to its source.

    Raises GatewayError for what can't be translated.
    """
    _refuse_unsupported(request)
    conversation = translate_messages(request.messages)
    max_tokens = _max_tokens(request, default_max_tokens)
    out: Block = {"model": model, "max_tokens": max_tokens, "messages": conversation.messages}
    if conversation.system:
        out["system"] = conversation.system
    dropped = conversation.dropped
    out |= _tools(request, conversation, dropped)
    version = _version(model)
    thinks = _set_thinking(request, out, conversation, model=model, efforts=_efforts(supports, version), dropped=dropped)
    out |= _sampling(request, version, thinks, dropped)
    out |= _settings(request, dropped)
    _set_output_config(request, out)
    if is_present(request.thinking) and _has_budget(request.thinking) and _continues_without_thinking(conversation.messages):
        del out["thinking"]
        dropped.append("thinking")
    if request.stream:
        out["stream"] = True
    fitting = MessagesFitting(supports, version)
    fitting.fit(out, wants_json=request.response_format is not None and request.response_format.type == "json_object")
    dropped += fitting.dropped
    dropped += untranslated_members(body)
    return msgspec.json.encode(out), tuple(dropped[:MAX_DROPPED]), fitting


def _refuse_unsupported(request: ChatRequest) -> None:
    """Refuse members without which the answer would not be the requested one."""
    if request.n is not None and request.n != 1:
        raise unsupported("`n` must be 1: this model's source gives one answer at a time.", "n")
    if request.logprobs:
        raise unsupported("`logprobs` can't be had from this model's source; leave it out.", "logprobs")
    if is_present(request.audio) or any(one != "text" for one in request.modalities or ()):
        raise unsupported("This model's source answers in text only; leave `audio` and other `modalities` out.", "modalities")
    if is_present(request.web_search_options):
        raise unsupported(
            "`web_search_options` can't be translated for this model's source; leave it out.", "web_search_options"
        )
    if is_present(request.moderation):
        raise unsupported("`moderation` can't be had from this model's source; leave it out.", "moderation")


def _max_tokens(request: ChatRequest, default: int | None) -> msgspec.Raw | int:
    """Return the caller's limit exactly as written, or the default."""
    for limit in (request.max_completion_tokens, request.max_tokens):
        if is_present(limit):
            return limit
    return _DEFAULT_MAX_TOKENS if default is None else default


# ---- tools


def _tools(request: ChatRequest, conversation: Conversation, dropped: list[str]) -> Block:
    if request.functions and not request.is_legacy:
        dropped.append("functions")
    functions = [(one, NULL) for one in request.functions or ()] if request.is_legacy else []
    for index, tool in enumerate(request.tools or ()):
        if tool.function is None:
            path = f"tools[{index}]"
            raise unsupported(f"`{path}` is no function, the only kind of tool that this model's source supports.", path)
        functions.append((tool.function, tool.cache_control))
    if not functions:
        if not conversation.called_tools:
            return {}
        called_tools = [{"name": name, "input_schema": _schema(NULL)} for name in conversation.called_tools]
        return {"tools": called_tools, "tool_choice": {"type": "none"}}
    choice, allowed = _choice_and_allowed_tools(request)
    tools = [_tool_definition(one, cache_control) for one, cache_control in functions if allowed is None or one.name in allowed]
    return {"tools": tools, "tool_choice": choice} if choice else {"tools": tools}


def _tool_definition(function: Function, cache_control: msgspec.Raw) -> Block:
    tool: Block = {"name": function.name}
    if function.description:
        tool["description"] = function.description
    tool["input_schema"] = _schema(function.parameters)
    if function.strict:
        tool["strict"] = True
    cache_control = cache_control if is_present(cache_control) else function.cache_control
    if is_present(cache_control):
        tool["cache_control"] = cache_control
    return tool


def _schema(parameters: msgspec.Raw) -> object:
    """Return a function's parameters as written; Anthropic requires their `type` to be an object."""
    if not is_present(parameters):
        return {"type": "object", "properties": {}}
    members = _members(parameters, "tools")
    return parameters if "type" in members else {"type": "object", **members}


def _members(value: msgspec.Raw, path: str) -> dict[str, msgspec.Raw]:
    try:
        return _object(value)
    except (ValueError, RecursionError):
        raise unsupported(f"A schema or setting in `{path}` is no JSON object.", path) from None


def _choice_and_allowed_tools(request: ChatRequest) -> tuple[Block, frozenset[str] | None]:
    """Return Anthropic's `tool_choice`, and the names of the allowed tools if not all are."""
    tool_choice: str | ToolChoice | FunctionName | None = request.function_call if request.is_legacy else request.tool_choice
    one_at_a_time = request.is_legacy or request.parallel_tool_calls is False
    choice, allowed = _tool_choice(tool_choice)
    if one_at_a_time and choice != {"type": "none"}:
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    return choice, allowed


def _tool_choice(tool_choice: str | ToolChoice | FunctionName | None) -> tuple[Block, frozenset[str] | None]:
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    if tool_choice is None:
        return {}, None
    if isinstance(tool_choice, str) and tool_choice in kinds:
        return {"type": kinds[tool_choice]}, None
    if (
        isinstance(tool_choice, ToolChoice)
        and tool_choice.allowed_tools is not None
        and tool_choice.allowed_tools.mode in kinds
    ):
        names = [one.function.name for one in tool_choice.allowed_tools.tools if one.function is not None]
        return {"type": kinds[tool_choice.allowed_tools.mode]}, frozenset(names)
    function = (
        tool_choice
        if isinstance(tool_choice, FunctionName)
        else tool_choice.function
        if isinstance(tool_choice, ToolChoice)
        else None
    )
    if function is None:
        raise unsupported("`tool_choice` must be auto, none, required, or name a function.", "tool_choice")
    return {"type": "tool", "name": function.name}, None


# ---- thinking and sampling


def _version(model: str) -> tuple[int, int]:
    """Return the version in a Claude's id: (0, 0) for other models; (99, 0), newer than any rule here, if the id has none."""
    name = model.lower()
    found = _CLAUDE.search(name)
    if found is None:
        return (99, 0) if "claude" in name else (0, 0)
    return int(found[1]), int(found[2] or 0)


def _efforts(supports: Supports, version: tuple[int, int]) -> tuple[str, ...]:
    """Return the values of `output_config.effort` that the source takes."""
    if supports.reasoning_effort is not None:
        return supports.reasoning_effort
    return _EFFORTS if version >= _XHIGH else _EFFORTS_BEFORE_XHIGH


def _set_thinking(
    request: ChatRequest, out: Block, conversation: Conversation, *, model: str, efforts: tuple[str, ...], dropped: list[str]
) -> bool:  # fmt: skip
    """Set `thinking` as `reasoning_effort` demands. Return True if the model thinks because of that."""
    effort = request.reasoning_effort
    if effort is None:
        return False
    if not efforts:
        dropped.append("reasoning_effort")
        return False
    if effort != "none" and effort not in _BUDGETS:
        raise unsupported(f"`reasoning_effort` must be none, {', '.join(_BUDGETS)}.", "reasoning_effort")
    choice = out.get("tool_choice")
    is_forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
    version = _version(model)
    if is_present(request.thinking) or (is_forced and effort != "none" and version < _THINKS_WITH_FORCED_TOOL):
        dropped.append("reasoning_effort")
        return False
    if effort == "none":
        if _ALWAYS_THINKS.search(model.lower()) is None:
            out["thinking"] = {"type": "disabled"}
            return False
        dropped.append("reasoning_effort")  # this model can't be stopped from thinking, only from thinking long
    if version >= _ADAPTIVE:
        out["thinking"] = {"type": "adaptive"}
        taken = nearest_effort(effort, efforts)
        if taken is not None:
            out["output_config"] = {"effort": taken}
        return True
    budget = min(_BUDGETS[effort], _max_tokens_number(out["max_tokens"]) // 2)
    if budget < _MIN_BUDGET or not _may_start_thinking(conversation.messages):
        dropped.append("reasoning_effort")
        return False
    out["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return version > (0, 0)


def _max_tokens_number(max_tokens: object) -> int:
    """Return the limit as a number; 0 for any other value, which the source will refuse."""
    try:
        return int(bytes(max_tokens)) if isinstance(max_tokens, msgspec.Raw) else int(str(max_tokens))
    except ValueError:
        return 0


def _may_start_thinking(messages: list[Block]) -> bool:
    """True if the model comes next, and does not continue a turn that it began without thinking."""
    if messages[-1]["role"] == "assistant":
        return False
    return not _continues_without_thinking(messages)


def _continues_without_thinking(messages: list[Block]) -> bool:
    """True if the last messages answer tool calls of an assistant message that did not begin with thinking."""
    if len(messages) < 2 or _first_type(messages[-1]) != "tool_result":
        return False
    return _first_type(messages[-2]) not in ("thinking", "redacted_thinking")


def _has_budget(thinking: msgspec.Raw) -> bool:
    try:
        return bytes(_object(thinking).get("type", NULL)) == b'"enabled"'
    except (ValueError, RecursionError):
        return False  # the source will refuse it


def _first_type(message: Block) -> object:
    content = message["content"]
    return content[0]["type"] if isinstance(content, list) else None


def _sampling(request: ChatRequest, version: tuple[int, int], thinks: bool, dropped: list[str]) -> Block:
    out: Block = {}
    temperature, top_p = request.temperature, request.top_p
    refuses_sampling = version >= _NO_SAMPLING or thinks
    if temperature is not None:
        if temperature > 1 or (refuses_sampling and temperature != 1):
            dropped.append("temperature")
        if not refuses_sampling:
            out["temperature"] = min(temperature, 1)
    if top_p is not None:
        if not refuses_sampling and not (version >= _ONE_SAMPLING_MEMBER and out):
            out["top_p"] = top_p
        elif top_p != 1:
            dropped.append("top_p")
    if is_present(request.top_k):
        if refuses_sampling:
            dropped.append("top_k")
        else:
            out["top_k"] = request.top_k
    return out


def _settings(request: ChatRequest, dropped: list[str]) -> Block:
    out: Block = {name: value for name in _PASSED_THROUGH if is_present(value := getattr(request, name))}
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if any(not one or one.isspace() for one in stop):
        raise unsupported("`stop` must hold more than white space for this model's source; stop there yourself.", "stop")
    if stop:
        out["stop_sequences"] = stop
    user = request.safety_identifier or request.user
    if user:
        out["metadata"] = {"user_id": user}
    if request.safety_identifier and request.user and request.user != user:
        dropped.append("user")
    if request.service_tier in _SERVICE_TIERS:
        out["service_tier"] = _SERVICE_TIERS[request.service_tier]
    elif request.service_tier is not None:
        dropped.append("service_tier")
    if is_present(request.max_tokens) and is_present(request.max_completion_tokens):
        dropped.append("max_tokens")
    return out


def _set_output_config(request: ChatRequest, out: Block) -> None:
    """Set `output_config` from the caller's own, the effort, and `response_format`."""
    config: Block = {}
    if is_present(request.output_config):
        config |= _members(request.output_config, "output_config")
    effort = out.pop("output_config", None)
    if isinstance(effort, dict):
        config = {**effort, **config}
    response_format = request.response_format
    if response_format is not None and response_format.type != "text":
        schema = NULL if response_format.json_schema is None else response_format.json_schema.schema
        if response_format.type != "json_object" and (response_format.type != "json_schema" or not is_present(schema)):
            why = "it must be of the type text, json_object, or json_schema with a schema"
            raise unsupported(f"`response_format` can't be kept: {why}.", "response_format")
        if response_format.type == "json_schema":
            config["format"] = {"type": "json_schema", "schema": schema}
    if config:
        out["output_config"] = config
