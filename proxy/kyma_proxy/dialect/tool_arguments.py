"""Converts the arguments of a tool call from OpenAI's text to Anthropic's object, and back. (Contract §3.4.)

If the model wrote no JSON object, its text becomes the one member RAW_ARGUMENTS of the input, and so finds its way back in the
next request.
"""

from __future__ import annotations

from typing import Final

import msgspec
import orjson
from msgspec import Raw

from kyma_proxy.core.http.body import is_json

RAW_ARGUMENTS: Final = "_raw_arguments"
"""The one member of a tool's input that holds arguments which are no JSON object."""
_NULL: Final = b"null"
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_string: Final = msgspec.json.Decoder(str).decode


def input_of(arguments: str) -> object:
    """Return a tool's input for these arguments, to be encoded by orjson; an empty object for blank ones."""
    if not arguments or arguments.isspace():
        return {}
    if not arguments.lstrip().startswith("{") or not is_json(arguments.encode(errors="surrogatepass")):
        return {RAW_ARGUMENTS: arguments}
    return orjson.Fragment(arguments)


def arguments_of(tool_input: Raw) -> str:
    """Return the arguments for a tool's input, on one line. Raises MsgspecError if the input is no JSON."""
    encoded = b"{}" if bytes(tool_input) == _NULL else msgspec.json.format(bytes(tool_input), indent=-1)
    arguments = encoded.decode()
    if RAW_ARGUMENTS in arguments and encoded.startswith(b"{"):
        members = _members(encoded)
        raw = bytes(members.get(RAW_ARGUMENTS, b""))
        if len(members) == 1 and raw.startswith(b'"'):
            return _string(raw)
    return arguments
