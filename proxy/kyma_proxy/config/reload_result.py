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
