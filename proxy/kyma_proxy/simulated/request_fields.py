"""Reads and checks the members of a request that several endpoints have in common. Pure."""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = dict[str, object]


class BadRequest(Exception):
    """The provider refuses a request. `param` names the member at fault, `kind` the fault if the dialect has a name for it."""

    def __init__(self, message: str, param: str | None = None, kind: str = "value_error") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.kind = kind


def required_model(body: Json) -> str:
    """Returns the requested model; raises BadRequest."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("You must provide a model parameter: a string that is not empty.", "model")
    return model


def required_messages(body: Json) -> list[Json]:
    """Returns the conversation, in which each message is an object with a role; raises BadRequest."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list that is not empty.", "messages")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest("A message must be an object with a role.", f"messages.[{at}]")
    return messages


def positive_int(body: Json, name: str) -> int | None:
    """Returns a whole number of at least 1, or None if the member is missing; raises BadRequest."""
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise BadRequest(f"'{name}' must be a whole number of at least 1.", name)
    return value


def boolean(body: Json, name: str) -> bool:
    """Returns a boolean, False if the member is missing; raises BadRequest."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", name)
    return bool(value)
