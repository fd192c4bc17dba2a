"""Gives a source what it wants back of an earlier turn of the assistant: its thoughts, and the signatures of its calls.

A turn may come from another source, or its thoughts may be lost. Some sources refuse a call without them:

- Moonshot and DeepSeek want `reasoning_content` with every call while the model thinks; a space is enough
  (platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model, api-docs.deepseek.com/guides/thinking_mode).
- Gemini 3 wants a signature with the first call of a turn; for one that it has not made itself it takes a fixed text
  (ai.google.dev/gemini-api/docs/thought-signatures, "Migrating from other models").
"""

from __future__ import annotations

from typing import Any, Final

from kyma_proxy.dialect.think_tags import in_tags
from kyma_proxy.dialect.translation import NEEDS_REASONING, NEEDS_SIGNATURE, ThoughtRules

Json = dict[str, Any]
_USUAL_FIELD: Final = "reasoning_content"
_NO_THOUGHT: Final = " "
_NO_SIGNATURE: Final = "skip_thought_signature_validator"


def add_thoughts(message: Json, thoughts: str, details: list[Json], rules: ThoughtRules) -> bool:
    """Add to a turn, a chat message, what its source wants back. Return False if the source takes no thoughts.

    `details` are those that this source has given itself; they hold the thoughts, too.
    """
    taken = True
    if details:
        message["reasoning_details"] = details
    elif thoughts:
        taken = rules.field is not None
        if rules.field is not None and rules.parser is not None:
            message["content"] = in_tags(thoughts, rules.parser) + (message["content"] or "")
        elif rules.field is not None:
            message[rules.field] = thoughts
    calls = message.get("tool_calls")
    if calls and rules.calls_need == NEEDS_REASONING:
        message.setdefault(rules.field or _USUAL_FIELD, thoughts or _NO_THOUGHT)
    elif calls and rules.calls_need == NEEDS_SIGNATURE and not any("extra_content" in call for call in calls):
        calls[0]["extra_content"] = {"google": {"thought_signature": _NO_SIGNATURE}}
    return taken
