"""Tells by the names of its members what a body is that was sent to another endpoint than its own. (Contract §2, §3.)

Some clients send one API's body to another's path: Cursor sends that of Responses to chat completions. A body is taken for
another's only if the endpoint could not serve it: it lacks a member that is required there, and has one that is not known.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

CHAT: Final = "chat"
MESSAGES: Final = "messages"
RESPONSES: Final = "responses"
RESPONSES_OF_CHAT: Final = "responses of chat"
"""The shape of a body of Responses from a client that reads chat completions: it asks for the usage of a stream as they do.

Cursor is one. (https://forum.cursor.com/t/159298, https://docs.litellm.ai/docs/proxy/cursor)
"""
CONVERSATIONS: Final = frozenset({CHAT, MESSAGES, RESPONSES})
"""The keys of the endpoints for conversations: their bodies are told apart, and no others."""
_OF_CHAT_ALONE: Final = frozenset({
    "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens", "n",
    "parallel_tool_calls", "presence_penalty", "response_format", "stream_options", "top_logprobs",
})  # fmt: skip
"""Members that Messages does not know; it refuses those: https://docs.claude.com/en/api/messages"""


def shape_of(names: Collection[str]) -> str:
    """Return the key of the endpoint whose body has these members and no other has; "" if several could have them."""
    if "messages" not in names:
        if "input" not in names:
            return ""
        return RESPONSES_OF_CHAT if "stream_options" in names else RESPONSES
    if "input" in names:
        return ""
    is_limited = "max_tokens" in names  # which Messages requires
    if _OF_CHAT_ALONE.isdisjoint(names):
        return MESSAGES if is_limited and "system" in names else ""  # which chat does not know
    return "" if is_limited else CHAT
