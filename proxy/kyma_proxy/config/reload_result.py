"""Defines the result of a reload, as the admin API and the log report it. (Contract §12.)"""

from __future__ import annotations

import msgspec

from kyma_proxy.config.problems import Problem


class ReloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one reload. `result` is `reloaded`, `unchanged` or `failed`; `version` is the one in force.

    `renewed` names the files (keys, certificates) and programs (`api_key_command`) that gave another value than before.
    """

    result: str
    version: str
    message: str | None = None
    problems: tuple[Problem, ...] = ()
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()
    renewed: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A difference between two configurations. `kind` is `added`, `removed` or `changed`.

    `path` has entries by their names, as in `models[fast].price.input`; `name` is that of the entry, if it is in one. `before`
    and `after` are values as they are written, or None. `reload` is what becomes of it at a reload.
    """

    path: str
    kind: str
    name: str | None
    before: str | None
    after: str | None
    reload: str


class ReloadPreview(ReloadResult, frozen=True, kw_only=True):
    """The result that a reload would have, and what it would change. `new_version` would then be in force."""

    new_version: str | None = None
    changes: tuple[Change, ...] = ()
