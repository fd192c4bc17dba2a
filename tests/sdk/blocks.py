"""Reads the content of Anthropic's messages, whose blocks have many types."""

from __future__ import annotations

from anthropic.types import Message, TextBlock, ToolUseBlock
from anthropic.types.beta import BetaMessage, BetaTextBlock


def text_of(message: Message | BetaMessage) -> str:
    """The text of a message that has one block of it."""
    (block,) = [one for one in message.content if isinstance(one, TextBlock | BetaTextBlock)]
    return block.text


def tool_uses(message: Message) -> list[ToolUseBlock]:
    """The calls of tools in a message."""
    return [one for one in message.content if isinstance(one, ToolUseBlock)]
