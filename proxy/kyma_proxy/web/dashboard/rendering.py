"""Renders the dashboard's pages from the templates beside this file.

Jinja2 is imported, and the templates are compiled, when the first page is asked for, in a thread: a start takes no longer, and
nobody's stream waits.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kyma_proxy.core.accounts.money import usd
from kyma_proxy.web.documents import day_text

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE: Final = Path(__file__).parent


class Rendering:
    """The templates, with what is the same on all pages."""

    def __init__(self, shared: Mapping[str, object]) -> None:
        """`shared` is known to every template."""
        self.files = {name: (_HERE / name).read_bytes() for name in ("dashboard.css", "dashboard.js")}
        # The version changes with the files, and is in their addresses: so a browser may keep them.
        self._shared = {**shared, "version": hashlib.sha256(b"".join(self.files.values())).hexdigest()[:12]}

    async def render(self, template: str, values: Mapping[str, object]) -> bytes:
        """The page of a template with these values."""
        environment = _environments[0] if _environments else None
        if environment is None:
            environment = await asyncio.to_thread(_load)
        return environment.get_template(template).render(self._shared, **values).encode("utf-8", "replace")


_environments: Final[list[Environment]] = []


def _load() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  a gateway without pages has no need of it

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, auto_reload=False, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(usd=usd, rounded_usd=rounded_usd, count=_count, day=day_text, moment=_moment)
    for path in _HERE.glob("*.html"):
        environment.get_template(path.name)
    _environments.append(environment)
    return environment


def rounded_usd(nano: int) -> str:
    """An amount for a glance: to the cent; one below a cent as it is."""
    cents = round(nano / 10**7)
    return usd(cents * 10**7) if cents or not nano else usd(nano)


def _count(number: int) -> str:
    return f"{number:,}"


def _moment(at: int) -> str:
    """A moment as people write it, in UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")
