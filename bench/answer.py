"""Builds the bytes that a script sends, in the script's dialect.

Each event carries its sending time within its text, so that the time survives a translation between dialects.
"""

from __future__ import annotations

from typing import Final

from bench.script import Dialect, Script

STAMP: Final = b"sent_ns="
STAMP_DIGITS: Final = 19
ENDS: Final[dict[Dialect, bytes]] = {
    "openai": b"data: [DONE]\n\n", "anthropic": b'"message_stop"}\n\n', "responses": b'"output_tokens":200}}}\n\n',
}  # fmt: skip
"""The last bytes of a complete stream."""
_COMMON: Final = b'"created":1790000000,"model":"bench","service_tier":"default","system_fingerprint":"fp_44709d6fcb"'
_CHUNK: Final = b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk",%s,"choices":[%s],"usage":%s}\n\n'
_WORD: Final = b'{"index":0,"delta":{"content":" token%s%s"},"finish_reason":null}'
_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":" token%s%s"}}\n\n'
)
_TEXT_DELTA: Final = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_bench",'
    b'"output_index":0,"content_index":0,"delta":" token%s%s","logprobs":[]}\n\n'
)
_RESPONSE: Final = (
    b'{"id":"resp_bench","object":"response","created_at":1790000000,"model":"bench","status":"%s","output":[%s]%s}'
)
_USAGE: Final = b'{"prompt_tokens":27,"completion_tokens":200,"total_tokens":227}'
_SSE: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: req_bench\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_OUTPUT: Final = (
    b'{"id":"msg_bench","type":"message","status":"completed","role":"assistant",'
    b'"content":[{"type":"output_text","annotations":[],"text":"%s"}]}'
)
_TEXT: Final = b"All is well, and all will be well. " * 20


class Answer:
    """The parts of an answer. An event is `before`, the digits of the timestamp, and `after`.

    `usage` is sent only if the request asks for it.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        body, form = {
            "openai": (_completion(), _CHUNK % (_COMMON, _WORD, b"null")), "anthropic": (_message(), _DELTA),
            "responses": (_response(), _TEXT_DELTA),
        }[script.dialect]  # fmt: skip
        self.whole = _whole(body) if script.status == 200 else _error(script.status)
        event = _event(form, script.event_bytes)
        size = len(event) + STAMP_DIGITS
        at = event.index(STAMP) + len(STAMP)
        self.before, self.after = b"%x\r\n%s" % (size, event[:at]), event[at:] + b"\r\n"
        {"openai": self._openai, "anthropic": self._anthropic, "responses": self._responses}[script.dialect]()

    def _openai(self) -> None:
        self.head = _SSE
        stop = b'{"index":0,"delta":{},"finish_reason":"stop"}'
        self.finish = _chunk(_CHUNK % (_COMMON, stop, b"null"))
        self.usage = _chunk(_CHUNK % (_COMMON, b"", _USAGE))
        self.end = _chunk(ENDS["openai"]) + b"0\r\n\r\n"

    def _anthropic(self) -> None:
        usage = b'"usage":{"input_tokens":27,"output_tokens":1}'
        message = (
            b'{"id":"msg_bench","type":"message","role":"assistant","model":"bench","content":[],"stop_reason":null,%s}' % usage
        )
        start = _named(b"message_start", b',"message":%s' % message)
        self.head = _SSE + _chunk(
            start + _named(b"content_block_start", b',"index":0,"content_block":{"type":"text","text":""}')
        )
        last = _named(
            b"message_delta", b',"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":200}'
        )
        self.finish = _chunk(_named(b"content_block_stop", b',"index":0') + last)
        self.usage = b""
        self.end = _chunk(_named(b"message_stop", b"")) + b"0\r\n\r\n"

    def _responses(self) -> None:
        self.head = _SSE + _chunk(
            _named(b"response.created", b',"sequence_number":0,"response":%s' % (_RESPONSE % (b"in_progress", b"", b"")))
        )
        usage = b',"usage":{"input_tokens":27,"total_tokens":227,"output_tokens":200}'
        last = b',"sequence_number":5,"response":%s' % (_RESPONSE % (b"completed", _OUTPUT % b"All is well.", usage))
        self.finish = _chunk(_named(b"response.completed", last))
        self.usage = b""
        self.end = b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _named(name: bytes, members: bytes) -> bytes:
    return b'event: %s\ndata: {"type":"%s"%s}\n\n' % (name, name, members)


def _event(form: bytes, min_bytes: int) -> bytes:
    """Returns an event without the digits of its timestamp, padded to at least `min_bytes`."""
    missing = min_bytes - len(form % (b"", STAMP)) - STAMP_DIGITS
    return form % (b"." * missing, STAMP)


def _error(status: int) -> bytes:
    body = b'{"error":{"message":"as the script says","type":"server_error","param":null,"code":null}}'
    head = b"HTTP/1.1 %d As the script says\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _completion() -> bytes:
    choices = b'[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}]' % _TEXT
    return b'{"id":"chatcmpl-bench","object":"chat.completion",%s,"choices":%s,"usage":%s}' % (_COMMON, choices, _USAGE)


def _response() -> bytes:
    usage = b',"usage":{"input_tokens":27,"total_tokens":227,"output_tokens":200}'
    return _RESPONSE % (b"completed", _OUTPUT % _TEXT, usage)


def _message() -> bytes:
    content = b'[{"type":"text","text":"%s"}]' % _TEXT
    end = b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":27,"output_tokens":200}'
    return b'{"id":"msg_bench","type":"message","role":"assistant","model":"bench","content":%s,%s}' % (content, end)


def _whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body
