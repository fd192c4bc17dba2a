"""Reads the thoughts in an answer of OpenAI's dialect, and packs what their source wants back with the next turn.

Thoughts stand in a member of their own, in details, or in the text between tags (`think_tags.py`). What the source wants back
is packed into the signature of the thought that is open when it comes, or else into the id of the next call
(`source_state.py`).
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from kyma_proxy.dialect.reasoning_details import ReasoningDetails
from kyma_proxy.dialect.source_state import CallState, pack_call, pack_thought, source_tag
from kyma_proxy.dialect.think_tags import ANSWER, THOUGHT, ThinkTags
from kyma_proxy.dialect.thinking_signature import UNSIGNED
from kyma_proxy.dialect.translation import ThoughtRules


class ThoughtReader:
    """The state of one answer."""

    __slots__ = ("_details", "_shown", "_source", "_tags", "has_tags")

    def __init__(self, rules: ThoughtRules) -> None:
        self._source = rules.source
        self._tags = None if rules.parser is None else ThinkTags(rules.parser)
        self._details: ReasoningDetails | None = None
        self._shown: list[str] = []
        self.has_tags = self._tags is not None
        """True if the text must be read for thoughts."""

    def read(self, thinking: str, text: str, details: Any) -> list[tuple[str, str]]:
        """Return the parts of a delta, each with its kind, THOUGHT or ANSWER. Raises ValueError if its details are too long."""
        if details:
            if self._details is None:
                self._details = ReasoningDetails()
            new = self._details.add(details)
            thinking = thinking or new
            if thinking:
                self._shown.append(thinking)
        parts = [(THOUGHT, thinking)] if thinking else []
        if text:
            parts += [(ANSWER, text)] if self._tags is None else self._tags.feed(text)
        return parts

    def flush(self) -> list[tuple[str, str]]:
        """Return what is held of the text, as something else follows it."""
        return [] if self._tags is None else self._tags.flush()

    def signature(self, shown_length: int) -> str:
        """Return the signature of a thought that ends now, of which the caller has seen so many characters."""
        if self._details is None:
            return UNSIGNED
        shown = "".join(self._shown)
        self._shown.clear()
        return pack_thought(self._details.take(), shown if len(shown) == shown_length else "", source_tag(self._source))

    def packed_call(self, call_id: str, extra: Raw) -> str | None:
        """Return an id for a call with what the source wants back; None if that is nothing, or too much."""
        details = [] if self._details is None else self._details.take()
        self._shown.clear()
        return pack_call(CallState(call_id, source_tag(self._source), extra, details))
