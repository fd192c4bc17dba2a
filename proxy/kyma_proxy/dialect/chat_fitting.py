"""Fits a translated chat request to its source: what that refuses is mapped, put otherwise, or left out and named.

- An effort becomes the nearest that is taken. OpenAI's models from gpt-5.4 on refuse an effort beside tools, and from gpt-5.6
  on tools without the effort `none`: so where beside tools only `none` is taken, it is sent with all tools.
- Stop sequences beyond the number that is taken are left out: an answer that runs on past one costs tokens; no answer at all
  would cost the caller its turn. The first ones stay, as written.
- A format that can't be asked for is asked for in the prompt, with its schema; `json_object` in its place, where that is taken.
- A conversation must begin with the user at some sources, and end with the user or a tool's result: a short text of the
  user's is put there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kyma_proxy.config.supports import UNSPECIFIED, Supports
from kyma_proxy.dialect.effort import NONE, nearest_effort
from kyma_proxy.dialect.json_mode import instruction
from kyma_proxy.dialect.tool_names import MAX_NAME, ToolNames

Json = dict[str, Any]
EFFORT: Final = "reasoning_effort"
FORMAT: Final = "response_format"
OPTIONAL: Final = (
    EFFORT, FORMAT, "temperature", "top_p", "stop", "parallel_tool_calls", "user", "service_tier", "frequency_penalty",
    "logit_bias", "presence_penalty", "prompt_cache_key", "safety_identifier", "seed", "verbosity", "stream_options",
)  # fmt: skip
"""Members without which a request still asks for what its caller wants; what else is refused is the caller's to change."""
_OTHER_LIMIT: Final = MappingProxyType({
    "max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens",
})  # fmt: skip
"""OpenAI's reasoning models refuse the first, and older servers the second."""
_THOUGHTS: Final = ("reasoning_content", "reasoning")
"""Members of the assistant's messages for earlier thoughts, which some sources refuse."""
_USUAL_EFFORTS: Final = ("low", "medium", "high")
"""Sent to sources of which nothing is known; of one that refuses all, the first refusal is remembered."""
_USUAL_FORMATS: Final = ("json_object", "json_schema")
_CONTINUE: Final = "Continue."
_PARAGRAPH: Final = "\n\n"


class ChatFitting:
    """Fits one chat request. `caller_names` has the caller's names for members that are called otherwise in its dialect."""

    __slots__ = ("_caller_names", "_supports", "optional", "tool_names")

    def __init__(self, supports: Supports, caller_names: Mapping[str, str]) -> None:
        self._supports = supports
        self._caller_names = caller_names
        self.tool_names: Mapping[str, str] = {}
        """The caller's names of tools by those that the source gets, where they differ."""
        self.optional: tuple[str, ...] = ()
        """The members of the request that could be left out."""

    @property
    def can_stop_thinking(self) -> bool:
        """True if the source is known to take the effort `none`."""
        supports = self._supports
        return NONE in (supports.reasoning_effort or ()) and EFFORT not in (supports.drop_params or ())

    def fit(self, request: Json, drop: Callable[[str], None]) -> None:
        """Fit a request. `drop` is told the caller's paths of what is left out."""
        supports = self._supports
        if "tools" in request or any("tool_calls" in message for message in request["messages"]):
            self._fit_tool_names(request)
        if supports is not UNSPECIFIED:
            self._drop(request, drop)
            self._fit_stop(request, drop)
            self._fit_roles(request["messages"])
        self._fit_effort(request, drop)
        if FORMAT in request:
            self._fit_format(request)
        thoughts = [name for name in _THOUGHTS if any(name in message for message in request["messages"])]
        self.optional = (*[name for name in (*OPTIONAL, *_OTHER_LIMIT) if name in request], *thoughts)

    def _drop(self, request: Json, drop: Callable[[str], None]) -> None:
        """Leave out what the source refuses; a limit of tokens that it refuses is sent under its other name."""
        for name in self._supports.drop_params or ():
            if name in _OTHER_LIMIT and name in request:
                request[_OTHER_LIMIT[name]] = request.pop(name)
            elif name in _THOUGHTS:
                for message in request["messages"]:
                    if message.pop(name, None) is not None:
                        drop(self._path(name))
            elif name in request and name != FORMAT:
                del request[name]
                if name != "stream_options":
                    drop(self._path(name))

    def _path(self, name: str) -> str:
        return self._caller_names.get(name, name)

    def _fit_effort(self, request: Json, drop: Callable[[str], None]) -> None:
        supports = self._supports
        taken = _USUAL_EFFORTS if supports.reasoning_effort is None else supports.reasoning_effort
        beside_tools = supports.reasoning_effort_with_tools
        if EFFORT in (supports.drop_params or ()):
            return
        if beside_tools is not None and "tools" in request:
            taken = beside_tools
            if taken == (NONE,):
                if request.get(EFFORT, NONE) != NONE:
                    drop(self._path(EFFORT))
                request[EFFORT] = NONE
                return
        wanted = request.get(EFFORT)
        if wanted is None:
            return
        effort = nearest_effort(wanted, taken)
        if effort is None:
            del request[EFFORT]
            drop(self._path(EFFORT))
        else:
            request[EFFORT] = effort

    def _fit_stop(self, request: Json, drop: Callable[[str], None]) -> None:
        most, stop = self._supports.stop, request.get("stop")
        if most is None or not isinstance(stop, list) or len(stop) <= most:
            return
        for at in range(most, len(stop)):
            drop(f"{self._path('stop')}[{at}]")
        if most:
            request["stop"] = stop[:most]
        else:
            del request["stop"]

    def _fit_roles(self, messages: list[Json]) -> None:
        first = next((at for at, message in enumerate(messages) if message["role"] != "system"), None)
        if self._supports.assistant_first is False and first is not None and messages[first]["role"] == "assistant":
            messages.insert(first, {"role": "user", "content": _CONTINUE})
        if self._supports.assistant_last is False and messages and messages[-1]["role"] == "assistant":
            messages.append({"role": "user", "content": _CONTINUE})

    def _fit_tool_names(self, request: Json) -> None:
        names = ToolNames(self._supports.tool_name or MAX_NAME)
        for tool in request.get("tools", ()):
            _rename(tool.get("function"), names)
        choice = request.get("tool_choice")
        if isinstance(choice, dict):
            _rename(choice.get("function"), names)
        for message in request["messages"]:
            for call in message.get("tool_calls") or ():
                _rename(call.get("function"), names)
        self.tool_names = names.original

    def _fit_format(self, request: Json) -> None:
        wanted = request[FORMAT]
        kind = wanted.get("type")
        taken = _USUAL_FORMATS if self._supports.response_format is None else self._supports.response_format
        if FORMAT in (self._supports.drop_params or ()):
            taken = ()
        if kind in taken or kind == "text":
            return
        schema = wanted.get("json_schema", {}).get("schema")
        _instruct(request["messages"], instruction(None if schema is None else msgspec.json.encode(schema)))
        if "json_object" in taken:
            request[FORMAT] = {"type": "json_object"}
        else:
            del request[FORMAT]


def _rename(function: object, names: ToolNames) -> None:
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        function["name"] = names.fit(function["name"])


def _instruct(messages: list[Json], text: str) -> None:
    """Add a text at the end of the system message, the first of the conversation."""
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        messages[0] = {**messages[0], "content": f"{messages[0]['content']}{_PARAGRAPH}{text}"}
    else:
        messages.insert(0, {"role": "system", "content": text})
