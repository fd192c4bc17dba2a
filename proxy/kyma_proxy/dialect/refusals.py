"""Finds in a source's error the members of a request that it does not support. (Contract §3.)

Sources say it in many words, and some name the member in `param`:

- OpenAI: "Unsupported parameter: 'temperature' is not supported with this model.", `param: temperature`
- OpenAI: "Function tools with reasoning_effort are not supported for gpt-5.4 in …", `param: reasoning_effort`
- OpenAI, before: "Unrecognized request argument supplied: reasoning_effort"
- Groq: "`reasoning_effort` is not supported with this model"; "property 'seed' is unsupported";
  "`reasoning_effort` must be one of `none` or `default`"
- Fireworks, Mistral: "Extra inputs are not permitted, field: 'seed'", `{"type": "extra_forbidden", "loc": ["body", "seed"]}`
- Anthropic: "temperature: Extra inputs are not permitted", "`temperature` and `top_p` cannot both be specified for this model."
- vLLM: "parallel_tool_calls is not supported"
- Google: "Invalid JSON payload received. Unknown name \"seed\": Cannot find field."
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from kyma_proxy.dialect.answers.usage import lenient_json
from kyma_proxy.dialect.error_message import error_message_in, first_line

_STATUSES: Final = frozenset({400, 422})
_UNSUPPORTED: Final = re.compile(
    r"unsupported|must be one of|unrecognized|unknown|unexpected|deprecated|extra_forbidden|no longer|cannot both|"
    r"(?:not|n't|cannot|can't)(?: be)? (?:currently )?"
    r"(?:support|permit|allow|accept|available|implement|used|specified|recogni[sz]ed)",
    re.IGNORECASE,
)
_OF_A_SCHEMA: Final = re.compile(r"invalid schema|invalid_json_schema|in context=|schema:", re.IGNORECASE)
"""It is the caller's schema that is refused, and not every one."""
_NAME: Final = r"(?<![\w.]){}(?![\w]|\.\w)"
_WORD: Final = r"(?:^|['\"`]|supplied: (?:[\w.]+, )*|parameter:? ){}(?:['\"`:,]|$|\s+(?:is|are|does|has)\b)"
"""A name that is also a word of English must stand like a name."""


def refused_params(status: int, body: bytes, optional: Collection[str]) -> tuple[str, ...]:
    """The members among `optional`, those that a translation has put into a request, that an error says are not supported."""
    if status not in _STATUSES or not optional:
        return ()
    value: Any = lenient_json(body)
    if isinstance(value, list) and value:
        value = value[0]
    message = (error_message_in(value) or first_line(body)).replace("response format", "response_format")
    if not _UNSUPPORTED.search(message) or _OF_A_SCHEMA.search(message):
        return ()
    error = value.get("error") if isinstance(value, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if isinstance(param, str) and param:
        # Who names a member means no other, whatever the message quotes.
        return tuple([name for name in optional if param == name or param.startswith((f"{name}.", f"{name}["))])
    found = [name for name in optional if _is_named(name, message)]
    if len(found) > 1 and "cannot both" in message:
        return tuple(found[-1:])
    return tuple(found)


def _is_named(name: str, message: str) -> bool:
    """True if a message names a member, or the object that it stands in."""
    for one in dict.fromkeys((name, name.partition(".")[0])):
        if re.search((_NAME if "_" in one else _WORD).format(re.escape(one)), message) is not None:
            return True
    return False
