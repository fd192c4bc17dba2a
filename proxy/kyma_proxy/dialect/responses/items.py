"""Translates the input items of a Responses request to chat messages. (Contract §2, §3.4.)

A chat message holds what Responses writes as several items: thoughts, text and calls of one turn become one message of the
assistant. The results of its calls follow it directly, wherever they stand in the input, as many servers accept nothing else;
a result without its call becomes a text of the user. System and developer messages are joined into one message at the head.
Calls of tools that OpenAI runs, which another source may have left in a conversation, are dropped and reported.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.content_parts import PARAGRAPH, content_of
from kyma_proxy.dialect.anthropic_to_openai.request_reader import Json, RequestReader, present_members
from kyma_proxy.dialect.earlier_thoughts import add_thoughts
from kyma_proxy.dialect.responses.functions import CUSTOM, CUSTOM_INPUT, FUNCTION, TOOL_SEARCH, Tools
from kyma_proxy.dialect.responses.reasoning import Thoughts, unpack
from kyma_proxy.dialect.source_state import source_tag, unpack_call, unpack_thought
from kyma_proxy.dialect.tool_ids import decode_tool_id
from kyma_proxy.dialect.translation import ThoughtRules
from kyma_proxy.errors import GatewayError, Kind

_DETAILS: Final = ("low", "high")
_ROLES: Final = ("user", "assistant", "system", "developer")
_FILE_ID: Final = "refers to a file that only OpenAI has; send the file itself"
_FILE_URL: Final = "is a URL, which this model's source does not fetch; send the file itself"
_text: Final = msgspec.json.Decoder(str).decode
_list: Final = msgspec.json.Decoder(list[Raw]).decode
_encode: Final = msgspec.json.encode
_NULL: Final = Raw(b"null")


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Raw] | None = None
    id: Raw = _NULL
    status: Raw = _NULL
    phase: Raw = _NULL
    type: str = "message"


class _Part(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    annotations: Raw = _NULL
    logprobs: Raw = _NULL


class _Call(msgspec.Struct, gc=False):
    """A call of any type. Its own members, beside those of `function_call`, become its arguments."""

    call_id: str
    name: str = ""
    namespace: str | None = None
    arguments: str | dict[str, Raw] | None = None
    input: str | None = None


class _Result(msgspec.Struct, gc=False):
    call_id: str | None = None
    output: Raw = _NULL
    tools: list[Raw] = []


class _TextPart(msgspec.Struct, gc=False):
    text: str = ""


class _Reasoning(msgspec.Struct, gc=False):
    summary: list[_TextPart] = []
    content: list[_TextPart] | None = None
    encrypted_content: str | None = None


class _Tools(msgspec.Struct, gc=False):
    tools: list[Raw] = []


_message: Final = msgspec.json.Decoder(_Message)
_part: Final = msgspec.json.Decoder(_Part)
_call: Final = msgspec.json.Decoder(_Call)
_result: Final = msgspec.json.Decoder(_Result)
_reasoning: Final = msgspec.json.Decoder(_Reasoning)
_tools: Final = msgspec.json.Decoder(_Tools)
_WITHOUT_MEANING: Final = frozenset({"type", "id", "call_id", "status", "caller", "created_by"})


class _Turn:
    """A message of the assistant that is being built, with the results of its calls."""

    __slots__ = ("blocks", "calls", "details", "path", "results", "rich", "texts", "thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.path = ""
        """The path of the first thought."""
        self.blocks: list[dict[str, Any]] = []
        self.details: list[dict[str, Any]] = []
        """What the source itself wants back of its thoughts."""
        self.calls: list[Json] = []
        self.results: list[Json] = []
        self.rich: list[Json] = []
        """Images and files among the results, for sources that take only texts there."""


class Conversation:
    """The translated input.

    `takes_rich_results` is True if a tool's result may hold images and files. `thoughts` says how the source takes earlier
    thoughts.
    """

    __slots__ = ("_calls", "_open", "_reader", "_tag", "_takes_rich", "_thoughts", "_tools", "_turns", "system")

    def __init__(self, reader: RequestReader, tools: Tools, thoughts: ThoughtRules, *, takes_rich_results: bool) -> None:
        self._reader = reader
        self._tools = tools
        self._thoughts = thoughts
        self._tag = source_tag(thoughts.source)
        self._takes_rich = takes_rich_results
        self._turns: list[_Turn | Json] = []
        self._open: _Turn | None = None
        self._calls: dict[str, _Turn] = {}
        self.system: list[str] = []

    def add(self, raw: Raw, path: str) -> None:
        """Add an item. Raises GatewayError for what can't be translated."""
        members = present_members(self._reader.members(raw, path))
        kind = _text(members["type"]) if bytes(members.get("type", b"")).startswith(b'"') else "message"
        if kind == "message":
            self._add_message(raw, members, path)
        elif kind == "reasoning":
            self._add_reasoning(
                self._reader.read(_reasoning, raw, path, [n for n in members if n not in ("id", "status")]), path
            )
        elif kind == "additional_tools":
            for index, tool in enumerate(self._reader.read(_tools, raw, path, ()).tools):
                self._tools.add(tool, f"{path}.tools[{index}]")
        elif kind == "item_reference":
            message = (
                f"`{path}` refers to an item that would be stored; the gateway stores none (`store: false`). Send the item."
            )
            raise GatewayError(Kind.INVALID_REQUEST, message, param=path)
        elif kind.endswith(("_call_output", "tool_search_output")):
            self._add_result(raw, members, kind, path)
        elif kind.endswith("_call") and bytes(members.get("call_id", b"")).startswith(b'"'):
            self._add_call(raw, members, kind, path)
        else:
            self._reader.drop(path)

    def messages(self) -> list[Json]:
        """Return the messages, beginning with that of the system."""
        out: list[Json] = []
        if self.system:
            out.append({"role": "system", "content": PARAGRAPH.join(self.system)})
        for turn in self._turns:
            if not isinstance(turn, _Turn):
                out.append(turn)
                continue
            message = self._message_of(turn)
            if message is not None:
                out.append(message)
            out += turn.results
            if turn.rich:
                out.append({"role": "user", "content": turn.rich})
        return out

    def _message_of(self, turn: _Turn) -> Json | None:
        text = PARAGRAPH.join(filter(None, turn.texts))
        has_blocks = bool(turn.blocks) and self._takes_rich
        if not (text or turn.calls or has_blocks):
            if turn.path:
                self._reader.drop(turn.path)
            return None  # many servers refuse a turn without content
        message: Json = {"role": "assistant", "content": text or None}
        if has_blocks:
            message["thinking_blocks"] = turn.blocks
        if turn.calls:
            message["tool_calls"] = turn.calls
        add_thoughts(message, PARAGRAPH.join(turn.thoughts), turn.details, self._thoughts)
        return message

    # ---- messages

    def _add_message(self, raw: Raw, members: dict[str, Raw], path: str) -> None:
        message = self._reader.read(_message, raw, path, members)
        content = message.content or ""
        if message.role not in _ROLES:
            why = f"`{path}.role` must be user, assistant, system or developer."
            raise GatewayError(Kind.INVALID_REQUEST, why, param=f"{path}.role")
        parts = [_text_part(content)] if isinstance(content, str) else self._parts(content, f"{path}.content")
        if message.role in ("system", "developer"):
            if any(part["type"] != "text" for part in parts):
                why = f"`{path}` may hold texts only for this model's source."
                raise GatewayError(Kind.INVALID_REQUEST, why, param=path)
            self.system += [text for part in parts if (text := str(part["text"]))]
        elif message.role == "assistant":
            self._turn().texts += ["".join([str(part["text"]) for part in parts if part["type"] == "text"])] if parts else []
        else:
            self._open = None
            self._turns.append({"role": "user", "content": content_of(parts)})

    def _parts(self, content: list[Raw], path: str) -> list[Json]:
        return [
            self._one_part(self._reader.read(_part, raw, f"{path}[{at}]"), f"{path}[{at}]") for at, raw in enumerate(content)
        ]

    def _one_part(self, part: _Part, path: str) -> Json:
        match part.type:
            case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
                return _text_part(part.text or "")
            case "refusal":
                return _text_part(part.refusal or "")
            case "input_image":
                if part.image_url is None:
                    raise _unsupported(path, _FILE_ID)
                image: Json = {"url": part.image_url}
                if part.detail in _DETAILS:
                    image["detail"] = part.detail
                return {"type": "image_url", "image_url": image}
            case "input_file":
                return self._file_part(part, path)
        raise _unsupported(path, f"has a type that can't be translated ({part.type[:64]}); leave it out")

    def _file_part(self, part: _Part, path: str) -> Json:
        data = part.file_data
        if data is None and part.file_url is not None and self._takes_rich:
            data = part.file_url
        if data is None:
            raise _unsupported(path, _FILE_ID if part.file_url is None else _FILE_URL)
        file: Json = {} if part.filename is None else {"filename": part.filename}
        return {"type": "file", "file": file | {"file_data": data}}

    # ---- turns of the assistant

    def _turn(self) -> _Turn:
        if self._open is None:
            self._open = _Turn()
            self._turns.append(self._open)
        return self._open

    def _add_reasoning(self, item: _Reasoning, path: str) -> None:
        token = item.encrypted_content
        thoughts = None if token is None else unpack(token)
        if thoughts is None:
            if token is not None:
                self._reader.drop(f"{path}.encrypted_content")  # only the source that wrote it can read it
            thoughts = Thoughts(PARAGRAPH.join([part.text for part in item.content or item.summary if part.text]))
        turn = self._turn()
        turn.blocks += thoughts.blocks
        turn.details += unpack_thought(thoughts.signature, thoughts.text, self._tag)
        if not thoughts.text:
            return
        if self._thoughts.field is None:
            if not (self._takes_rich and thoughts.blocks):
                self._reader.drop(path)
        else:
            turn.thoughts.append(thoughts.text)
            turn.path = turn.path or path

    def _add_call(self, raw: Raw, members: dict[str, Raw], kind: str, path: str) -> None:
        call = self._reader.read(_call, raw, path, ())
        if kind == "function_call":
            name = self._tools.name_of(FUNCTION, call.name, call.namespace)
            arguments = _arguments(call.arguments)
        elif kind == "custom_tool_call":
            name = self._tools.name_of(CUSTOM, call.name, call.namespace)
            arguments = _encode({CUSTOM_INPUT: call.input or ""}).decode()
        elif kind == "tool_search_call":
            name, arguments = self._tools.name_of(TOOL_SEARCH, TOOL_SEARCH), _arguments(call.arguments)
        else:  # a tool of the caller's own that OpenAI defines, such as `local_shell_call`
            name = kind.removesuffix("_call")
            arguments = _encode({key: value for key, value in members.items() if key not in _WITHOUT_MEANING}).decode()
        turn = self._turn()
        if turn.results:  # the next turn, of an assistant who said nothing
            self._open = None
            turn = self._turn()
        made: Json = {
            "id": decode_tool_id(call.call_id),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        state = unpack_call(call.call_id)
        if state is not None and state.source == self._tag:
            turn.details += state.details
            if bytes(state.extra) != b"null":
                made["extra_content"] = state.extra
        turn.calls.append(made)
        self._calls[call.call_id] = turn

    def _add_result(self, raw: Raw, members: dict[str, Raw], kind: str, path: str) -> None:
        result = self._reader.read(_result, raw, path, ())
        call_id = result.call_id or ""
        if kind == "tool_search_output":
            for index, tool in enumerate(result.tools):
                self._tools.add(tool, f"{path}.tools[{index}]")
            if result.call_id is None:
                return  # OpenAI has searched
            parts = [_text_part("The tools that were found: " + _encode([_named(one) for one in result.tools]).decode())]
        else:
            parts = self._output(result.output, f"{path}.output")
        turn = self._calls.get(call_id)
        call_id = decode_tool_id(call_id)
        if turn is None:
            self._open = None
            content = content_of([_text_part(f"From the result of the tool call {call_id}:"), *parts])
            self._turns.append({"role": "user", "content": content})
            return
        if turn is self._open:
            self._open = None  # what the assistant says now is another turn
        if not self._takes_rich and any(part["type"] != "text" for part in parts):
            turn.rich += [
                _text_part(f"From the result of the tool call {call_id}:"),
                *[p for p in parts if p["type"] != "text"],
            ]
            parts = [p for p in parts if p["type"] == "text"] or [
                _text_part("The result is in the user's message that follows.")
            ]
        turn.results.append({"role": "tool", "tool_call_id": call_id, "content": content_of(parts)})

    def _output(self, output: Raw, path: str) -> list[Json]:
        written = bytes(output)
        if written.startswith(b'"'):
            return [_text_part(_text(written))]
        if written.startswith(b"["):
            try:
                return self._parts(_list(written), path)
            except GatewayError:
                pass  # of a tool that OpenAI defines: the source reads it as it is
        return [_text_part("" if written == b"null" else written.decode())]


def _arguments(arguments: str | dict[str, Raw] | None) -> str:
    return arguments or "{}" if not isinstance(arguments, dict) else _encode(arguments).decode()


def _named(tool: Raw) -> str:
    try:
        return _call_name.decode(tool).name
    except msgspec.MsgspecError:
        return ""


class _Named(msgspec.Struct, gc=False):
    name: str = ""


_call_name: Final = msgspec.json.Decoder(_Named)


def _text_part(text: str) -> Json:
    return {"type": "text", "text": text}


def _unsupported(path: str, why: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"`{path}` {why}.", param=path)
