"""Defines what the reference says of a key of the configuration, beside what its struct says."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

AT_ONCE: Final = "at once"
"""A request that begins after the reload has the new value; requests in flight end with the old one."""
NEW_CONNECTIONS: Final = "new connections"
"""Connections that are open go on as they are."""
REPLACE: Final = "replace"
"""The old value stays in force, and the reload names the key: `serve --replace` takes it without an outage, or a restart."""
RESTART: Final = "restart"
"""The old value stays in force, and the reload names the key: the process has to be stopped and started again."""
EACH_KEY: Final = "each key"
"""Each key of the section is taken as it says of itself."""
RELOADS: Final[Mapping[str, str]] = MappingProxyType({
    AT_ONCE: "A reload takes it at once: the requests that begin from then on have the new value.",
    NEW_CONNECTIONS: "A reload takes it for new connections.",
    REPLACE: "A reload leaves the old value in force: it needs `serve --replace`, or a restart.",
    RESTART: "A reload leaves the old value in force: it needs a restart.",
    EACH_KEY: "A reload takes each of its keys as that key says.",
})  # fmt: skip
"""What a reload does, in a sentence."""


class Key(NamedTuple):
    """A key: its meaning, an example of its value in YAML, what a reload does with it, and what it is if it is left out.

    `default` is only for a key whose default can't be written as a value. The value of a `private` key is never shown to
    anybody, as it may hold a secret; this is for those of which the type does not say so.
    """

    meaning: str
    example: str
    reload: str = AT_ONCE
    default: str | None = None
    private: bool = False
