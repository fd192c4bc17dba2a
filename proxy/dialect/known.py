"""This file lists the dialects that callers may speak."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.dialect.anthropic import ANTHROPIC
from proxy.dialect.contract import Dialect
from proxy.dialect.openai import OPENAI

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({dialect.name: dialect for dialect in (OPENAI, ANTHROPIC)})
