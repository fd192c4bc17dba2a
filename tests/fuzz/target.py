"""Declares what a target of the fuzzer is: a law about one input, and the means to make inputs that get deep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

Law = Callable[[bytes], None]
"""Holds for every input, or raises: AssertionError, or the exception that the code under test should not have raised."""
Mutator = Callable[[bytes, Random], bytes]
"""Changes an input and keeps its structure."""


class Target(NamedTuple):
    """A law, inputs to begin with, a mutator that knows their structure (None: bytes are changed), and words that matter."""

    name: str
    law: Law
    seeds: Callable[[], Iterable[bytes]]
    mutator: Mutator | None = None
    words: tuple[bytes, ...] = ()
    max_bytes: int = 4096
    is_runnable: bool = True
    """False if the compiled modules can't be driven so."""
