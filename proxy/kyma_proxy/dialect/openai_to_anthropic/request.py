"""This file asks Anthropic what a caller asked OpenAI: the members of a request beside its messages. (Contract §3.4.)

What both can say is said. What only Anthropic can say (`thinking`, `top_k`, `cache_control`, `output_config`, …) is carried
where a caller sends it. What Anthropic can't say is dropped by name, or refused where the answer would be another one.

- `temperature` ends at 1 for Anthropic. Claude 4.7 and later take no sampling members at all, Claude 4.1 and later not both
  `temperature` and `top_p`, and no Claude takes them while it thinks; they are dropped then.
- `reasoning_effort` becomes `thinking`. Claude 4.6 and later decide how much (`adaptive`, with the effort beside it); others
  get a budget, at most half of `max_tokens` so that as much is left for the answer. Where there is no room for the least
  budget, where a tool is forced, and in a tool's turn that began without thinking, it is dropped; there `thinking` with a
  budget is, too, as Anthropic wants such a turn to begin with a thought.
- `response_format` with a schema becomes `output_config.format`. JSON without a schema can't be promised, so it is refused.
- Tools that were called before must be told to Anthropic: a caller who offers none any more forbids them by that.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kyma_proxy.dialect.openai_to_anthropic.messages import Block, Conversation, conversation
from kyma_proxy.dialect.openai_to_anthropic.reading import (
    MAX_NAMED,
    NULL,
    Choice,
    Function,
    Named,
    Request,
    given,
    refused,
    unplaced,
)

_DEFAULT_MAX_TOKENS: Final = 4096
_MIN_BUDGET: Final = 1024
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_ADAPTIVE: Final = (4, 6)
_NO_SAMPLING: Final = (4, 7)
_THINKS_THOUGH_FORCED: Final = (4, 8)
_ONE_SAMPLER: Final = (4, 1)
_CLAUDE: Final = re.compile(r"claude-(?:[a-z]+-)*(\d{1,2})(?:[.-](\d{1,2}))?(?!\d)")
_ALWAYS_THINKS: Final = re.compile(r"claude-(?:fable|mythos)")
_TIERS: Final = {"auto": "auto", "default": "standard_only"}
_CARRIED: Final = ("cache_control", "inference_geo", "speed", "thinking")
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def asked(body: bytes, request: Request, model: str, default_max_tokens: int | None) -> tuple[bytes, tuple[str, ...]]:
    """The body for Anthropic, and the members that were dropped. Raises GatewayError for what can't be said."""
    _refuse(request)
    told = conversation(request.messages)
    max_tokens = _max_tokens(request, default_max_tokens)
    out: Block = {"model": model, "max_tokens": max_tokens, "messages": told.messages}
    if told.system:
        out["system"] = told.system
    dropped = told.dropped
    out |= _tools(request, told, dropped)
    thinks = _think(request, out, told, model, dropped)
    out |= _sampling(request, _version(model), thinks, dropped)
    out |= _settings(request, dropped)
    _formats(request, out)
    if given(request.thinking) and _has_budget(request.thinking) and _goes_on_without_thought(told.messages):
        del out["thinking"]
        dropped.append("thinking")
    if request.stream:
        out["stream"] = True
    dropped += unplaced(body)
    return msgspec.json.encode(out), tuple(dropped[:MAX_NAMED])


def _refuse(request: Request) -> None:
    """Refuse what would make the answer another one than was asked for."""
    if request.n is not None and request.n != 1:
        raise refused("`n` must be 1: this model's source gives one answer at a time.", "n")
    if request.logprobs:
        raise refused("`logprobs` can't be had from this model's source; leave it out.", "logprobs")
    if given(request.audio) or any(one != "text" for one in request.modalities or ()):
        raise refused("This model's source answers in text only; leave `audio` and other `modalities` out.", "modalities")
    if given(request.web_search_options):
        raise refused("`web_search_options` can't be translated for this model's source; leave it out.", "web_search_options")
    if given(request.moderation):
        raise refused("`moderation` can't be had from this model's source; leave it out.", "moderation")


def _max_tokens(request: Request, default: int | None) -> msgspec.Raw | int:
    """What the caller wrote, exactly as it is written."""
    for written in (request.max_completion_tokens, request.max_tokens):
        if given(written):
            return written
    return _DEFAULT_MAX_TOKENS if default is None else default


# ---- tools


def _tools(request: Request, told: Conversation, dropped: list[str]) -> Block:
    if request.functions and not request.is_legacy:
        dropped.append("functions")
    functions = [(one, NULL) for one in request.functions or ()] if request.is_legacy else []
    for at, tool in enumerate(request.tools or ()):
        if tool.function is None:
            place = f"tools[{at}]"
            raise refused(f"`{place}` is no function, the only tool that can be told to this model's source.", place)
        functions.append((tool.function, tool.cache_control))
    if not functions:
        if not told.called:
            return {}
        known = [{"name": name, "input_schema": _schema(NULL)} for name in told.called]
        return {"tools": known, "tool_choice": {"type": "none"}}
    choice, allowed = _choice(request)
    tools = [_tool(one, mark) for one, mark in functions if allowed is None or one.name in allowed]
    return {"tools": tools, "tool_choice": choice} if choice else {"tools": tools}


def _tool(function: Function, mark: msgspec.Raw) -> Block:
    tool: Block = {"name": function.name}
    if function.description:
        tool["description"] = function.description
    tool["input_schema"] = _schema(function.parameters)
    if function.strict:
        tool["strict"] = True
    mark = mark if given(mark) else function.cache_control
    if given(mark):
        tool["cache_control"] = mark
    return tool


def _schema(parameters: msgspec.Raw) -> object:
    """A function's parameters as they are written; Anthropic wants to be told that they are an object."""
    if not given(parameters):
        return {"type": "object", "properties": {}}
    members = _members(parameters, "tools")
    return parameters if "type" in members else {"type": "object", **members}


def _members(value: msgspec.Raw, where: str) -> dict[str, msgspec.Raw]:
    try:
        return _object(value)
    except (ValueError, RecursionError):
        raise refused(f"A schema or setting in `{where}` is no JSON object.", where) from None


def _choice(request: Request) -> tuple[Block, frozenset[str] | None]:
    """Which tools must be called, and the names of those that may be, if not all."""
    wish: str | Choice | Named | None = request.function_call if request.is_legacy else request.tool_choice
    one_at_a_time = request.is_legacy or request.parallel_tool_calls is False
    choice, allowed = _wish(wish)
    if one_at_a_time and choice != {"type": "none"}:
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    return choice, allowed


def _wish(wish: str | Choice | Named | None) -> tuple[Block, frozenset[str] | None]:
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    if wish is None:
        return {}, None
    if isinstance(wish, str) and wish in kinds:
        return {"type": kinds[wish]}, None
    if isinstance(wish, Choice) and wish.allowed_tools is not None and wish.allowed_tools.mode in kinds:
        names = [one.function.name for one in wish.allowed_tools.tools if one.function is not None]
        return {"type": kinds[wish.allowed_tools.mode]}, frozenset(names)
    function = wish if isinstance(wish, Named) else wish.function if isinstance(wish, Choice) else None
    if function is None:
        raise refused("`tool_choice` must be auto, none, required, or name a function.", "tool_choice")
    return {"type": "tool", "name": function.name}, None


# ---- how the model goes about it


def _version(model: str) -> tuple[int, int]:
    """The version of a Claude, from its id; 0.0 is no Claude, and one whose id has none is newer than any rule here."""
    name = model.lower()
    found = _CLAUDE.search(name)
    if found is None:
        return (99, 0) if "claude" in name else (0, 0)
    return int(found[1]), int(found[2] or 0)


def _think(request: Request, out: Block, told: Conversation, model: str, dropped: list[str]) -> bool:
    """Say how much to think, where the caller said so; whether that makes the model think."""
    effort = request.reasoning_effort
    if effort is None:
        return False
    if effort != "none" and effort not in _BUDGETS:
        raise refused(f"`reasoning_effort` must be none, {', '.join(_BUDGETS)}.", "reasoning_effort")
    choice = out.get("tool_choice")
    is_forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
    version = _version(model)
    if given(request.thinking) or (is_forced and effort != "none" and version < _THINKS_THOUGH_FORCED):
        dropped.append("reasoning_effort")
        return False
    if effort == "none":
        if _ALWAYS_THINKS.search(model.lower()) is None:
            out["thinking"] = {"type": "disabled"}
            return False
        dropped.append("reasoning_effort")  # it can't be kept from thinking, only from thinking long
    if version >= _ADAPTIVE:
        out["thinking"] = {"type": "adaptive"}
        out["output_config"] = {"effort": "low" if effort in ("none", "minimal") else effort}
        return True
    budget = min(_BUDGETS[effort], _number(out["max_tokens"]) // 2)
    if budget < _MIN_BUDGET or not _may_begin_to_think(told.messages):
        dropped.append("reasoning_effort")
        return False
    out["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return version > (0, 0)


def _number(max_tokens: object) -> int:
    """The number that a caller wrote; whatever else was written is for the source to refuse."""
    try:
        return int(bytes(max_tokens)) if isinstance(max_tokens, msgspec.Raw) else int(str(max_tokens))
    except ValueError:
        return 0


def _may_begin_to_think(messages: list[Block]) -> bool:
    """Whether the model has the turn, and did not begin it without thinking: with the call whose result comes last."""
    if messages[-1]["role"] == "assistant":
        return False
    return not _goes_on_without_thought(messages)


def _goes_on_without_thought(messages: list[Block]) -> bool:
    """Whether the last turn of the model's, whose calls are answered now, began with something else than thinking."""
    if len(messages) < 2 or _first_type(messages[-1]) != "tool_result":
        return False
    return _first_type(messages[-2]) not in ("thinking", "redacted_thinking")


def _has_budget(thinking: msgspec.Raw) -> bool:
    try:
        return bytes(_object(thinking).get("type", NULL)) == b'"enabled"'
    except (ValueError, RecursionError):
        return False  # which is for the source to refuse


def _first_type(turn: Block) -> object:
    content = turn["content"]
    return content[0]["type"] if isinstance(content, list) else None


def _sampling(request: Request, version: tuple[int, int], thinks: bool, dropped: list[str]) -> Block:
    out: Block = {}
    temperature, top_p = request.temperature, request.top_p
    is_closed = version >= _NO_SAMPLING or thinks
    if temperature is not None:
        if temperature > 1 or (is_closed and temperature != 1):
            dropped.append("temperature")
        if not is_closed:
            out["temperature"] = min(temperature, 1)
    if top_p is not None:
        if not is_closed and not (version >= _ONE_SAMPLER and out):
            out["top_p"] = top_p
        elif top_p != 1:
            dropped.append("top_p")
    if given(request.top_k):
        if is_closed:
            dropped.append("top_k")
        else:
            out["top_k"] = request.top_k
    return out


def _settings(request: Request, dropped: list[str]) -> Block:
    out: Block = {name: value for name in _CARRIED if given(value := getattr(request, name))}
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if any(not one or one.isspace() for one in stop):
        raise refused("`stop` must hold more than white space for this model's source; stop there yourself.", "stop")
    if stop:
        out["stop_sequences"] = stop
    user = request.safety_identifier or request.user
    if user:
        out["metadata"] = {"user_id": user}
    if request.safety_identifier and request.user and request.user != user:
        dropped.append("user")
    if request.service_tier in _TIERS:
        out["service_tier"] = _TIERS[request.service_tier]
    elif request.service_tier is not None:
        dropped.append("service_tier")
    if given(request.max_tokens) and given(request.max_completion_tokens):
        dropped.append("max_tokens")
    return out


def _formats(request: Request, out: Block) -> None:
    """Say what form the answer must have, beside what `output_config` says already."""
    config: Block = {}
    if given(request.output_config):
        config |= _members(request.output_config, "output_config")
    effort = out.pop("output_config", None)
    if isinstance(effort, dict):
        config = {**effort, **config}
    form = request.response_format
    if form is not None and form.type != "text":
        schema = NULL if form.json_schema is None else form.json_schema.schema
        if form.type != "json_schema" or not given(schema):
            why = "this model's source promises JSON only by a schema; send `json_schema`, or ask for JSON in the prompt"
            raise refused(f"`response_format` can't be kept: {why}.", "response_format")
        config["format"] = {"type": "json_schema", "schema": schema}
    if config:
        out["output_config"] = config
