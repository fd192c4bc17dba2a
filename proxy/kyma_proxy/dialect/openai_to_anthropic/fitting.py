"""Fits a translated request to what the source takes of Anthropic's dialect. (Contract §3.)

- Structured output and strict tools have schemas that are enforced (`schema_limits`). A strict tool whose schema can't be is
  offered without the guarantee, and that is named. A format whose schema can't be, or that the model is too old for, is asked
  for in the prompt.
- JSON without a schema is asked for in the prompt, and taken out of a fence in the answer.
- Claude 4.6 and later refuse a conversation that ends with the assistant: "This model does not support assistant message
  prefill. The conversation must end with a user message." To callers of OpenAI's dialect that end is a turn like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kyma_proxy.config.supports import Supports
from kyma_proxy.dialect.json_mode import instruction
from kyma_proxy.dialect.openai_to_anthropic.messages import Block
from kyma_proxy.dialect.schema_limits import Unfit, fit_schema
from kyma_proxy.dialect.tool_names import ToolNames

Json = dict[str, Any]
MAX_NAME: Final = 64
"""Of a tool. (https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use: `^[a-zA-Z0-9_-]{1,64}$`)"""
NO_PREFILL: Final = (4, 6)
STRUCTURED: Final = ((4, 1), (4, 5))
"""Claude Opus 4.1, and all models from 4.5 on, have structured output."""
EFFORT: Final = "output_config.effort"
FORMAT: Final = "output_config.format"
OPTIONAL: Final[Mapping[str, str]] = MappingProxyType({
    "thinking": "reasoning_effort", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "metadata": "user",
    "service_tier": "service_tier", "stop_sequences": "stop",
})  # fmt: skip
"""Members that could be left out, with the caller's names for them; beside them `EFFORT` and `FORMAT`."""
_CONTINUE: Final = "Continue."
_decode: Final = msgspec.json.Decoder().decode


class MessagesFitting:
    """Fits one request for Messages."""

    __slots__ = ("_supports", "_version", "asks_in_prompt", "dropped", "optional", "tool_names")

    def __init__(self, supports: Supports, version: tuple[int, int]) -> None:
        """`version` is that of the Claude that is asked; (0, 0) for other models."""
        self._supports = supports
        self._version = version
        self.dropped: list[str] = []
        """The caller's paths of what was left out."""
        self.tool_names: Mapping[str, str] = {}
        """The caller's names of tools by those that the source gets, where they differ."""
        self.optional: tuple[str, ...] = ()
        """The members of the request that could be left out."""
        self.asks_in_prompt = False
        """True if JSON is asked for in the prompt, so that a fence may stand around it."""

    def fit(self, request: Block, *, wants_json: bool) -> None:
        """Fit a request; `wants_json` is True if the caller wants JSON without a schema."""
        if "tools" in request:
            self._fit_tools(request)
        self._drop(request)
        self._fit_stop(request)
        self._fit_format(request, wants_json=wants_json)
        self._fit_roles(request)
        config = request.get("output_config")
        parts = [f"output_config.{name}" for name in config] if isinstance(config, dict) else []
        self.optional = (*[name for name in OPTIONAL if name in request], *parts)

    def _refuses(self, *names: str) -> bool:
        return not frozenset(self._supports.drop_params or ()).isdisjoint(names)

    def _drop(self, request: Block) -> None:
        """Leave out what the source refuses, which may be said in either dialect's names."""
        for name, caller_name in OPTIONAL.items():
            if name in request and self._refuses(name, caller_name):
                del request[name]
                self._note(caller_name)
        config = request.get("output_config")
        if isinstance(config, dict) and "effort" in config and self._refuses(EFFORT, "output_config", "reasoning_effort"):
            del config["effort"]
            self._note("reasoning_effort")
            if not config:
                del request["output_config"]

    def _note(self, caller_name: str) -> None:
        if caller_name not in self.dropped:
            self.dropped.append(caller_name)

    def _fit_stop(self, request: Block) -> None:
        most, stop = self._supports.stop, request.get("stop_sequences")
        if most is None or not isinstance(stop, list) or len(stop) <= most:
            return
        self.dropped += [f"stop[{at}]" for at in range(most, len(stop))]
        if most:
            request["stop_sequences"] = stop[:most]
        else:
            del request["stop_sequences"]

    # ---- tools

    def _fit_tools(self, request: Block) -> None:
        names = ToolNames(self._supports.tool_name or MAX_NAME)
        tools: Any = request["tools"]
        for index, tool in enumerate(tools):
            tool["name"] = names.fit(tool["name"])
            if tool.get("strict"):
                self._fit_strict_tool(tool, index)
        choice: Any = request.get("tool_choice", {})
        if "name" in choice:
            choice["name"] = names.fit(choice["name"])
        messages: Any = request["messages"]
        for message in messages:
            for block in message["content"]:
                if block["type"] == "tool_use":
                    block["name"] = names.fit(block["name"])
        self.tool_names = names.original

    def _fit_strict_tool(self, tool: Json, index: int) -> None:
        schema = None if self._refuses("strict") else _fit(tool["input_schema"])
        if schema is None:
            del tool["strict"]
            self.dropped.append(f"tools[{index}].function.strict")
        else:
            tool["input_schema"] = schema

    # ---- the format of the answer

    def _fit_format(self, request: Block, *, wants_json: bool) -> None:
        config: Any = request.get("output_config")
        written = config.get("format") if isinstance(config, dict) else None
        if not isinstance(written, dict):
            if wants_json:
                self._ask_in_prompt(request, None)
            return
        schema = _fit(written["schema"]) if self._has_structured_output else None
        if schema is not None:
            config["format"] = {**written, "schema": schema}
            return
        self._ask_in_prompt(request, msgspec.json.encode(written["schema"]))
        del config["format"]
        if not config:
            del request["output_config"]

    @property
    def _has_structured_output(self) -> bool:
        if self._refuses(FORMAT, "output_config", "response_format"):
            return False
        if self._supports.response_format is not None:
            return "json_schema" in self._supports.response_format
        exact, first = STRUCTURED
        return self._version in ((0, 0), exact) or self._version >= first

    def _ask_in_prompt(self, request: Block, schema: bytes | None) -> None:
        self.asks_in_prompt = True
        system: Any = request.get("system", [])
        request["system"] = [*system, {"type": "text", "text": instruction(schema)}]

    # ---- the ends of the conversation

    def _fit_roles(self, request: Block) -> None:
        supports = self._supports
        messages: Any = request["messages"]
        if supports.assistant_first is False and messages[0]["role"] == "assistant":
            messages.insert(0, _user_message())
        last = supports.assistant_last
        takes_last = self._version < NO_PREFILL if last is None else last
        if not takes_last and messages[-1]["role"] == "assistant":
            messages.append(_user_message())


def _user_message() -> Json:
    return {"role": "user", "content": [{"type": "text", "text": _CONTINUE}]}


def _fit(schema: object) -> Json | None:
    """Return a schema that can be enforced; None if there is none."""
    try:
        return fit_schema(_decode(schema) if isinstance(schema, msgspec.Raw) else _decode(msgspec.json.encode(schema)))
    except (Unfit, ValueError, RecursionError):
        return None
