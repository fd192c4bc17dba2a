"""Tells by the names of its members what a body is that was sent to another endpoint than its own. (Contract §2, §3.)

Some clients send one API's body to another's path: Cursor sends that of Responses to chat completions. A body is taken for
another's only if its own endpoint could not serve it: it lacks a member that is required there, and has one that is not known.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

CHAT: Final = "chat"
MESSAGES: Final = "messages"
RESPONSES: Final = "responses"
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
        return RESPONSES if "input" in names else ""
    if "input" in names:
        return ""
    is_limited = "max_tokens" in names  # which Messages requires
    if _OF_CHAT_ALONE.isdisjoint(names):
        return MESSAGES if is_limited and "system" in names else ""  # which chat does not know
    return "" if is_limited else CHAT
