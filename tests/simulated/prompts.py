"""The prompts and the tool of these tests, and the check of a simulated text."""

from __future__ import annotations

PROMPT = "Tell me of Atlantis"  # 19 characters, 4 words
TOOL_PROMPT = "Use get_weather for Atlantis"
TOOL_RESULT = "get_weather says rain"
TOOL = "get_weather"
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["celsius", "kelvin"]},
        "note": {"type": "string"},
    },
    "required": ["city", "days", "unit"],
}
ARGUMENTS = {"city": "simulated", "days": 1, "unit": "celsius"}  # the smallest that SCHEMA accepts


def is_labelled(text: str | None) -> bool:
    """True if the text names the simulated provider and the length of PROMPT, and repeats none of it."""
    return text is not None and "simulated provider" in text and "19 characters" in text and "Atlantis" not in text
