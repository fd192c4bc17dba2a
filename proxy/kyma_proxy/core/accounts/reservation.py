"""This file holds what an admitted request has taken from its account, until its end gives it back. (Contract §7, §8.)"""

from __future__ import annotations

from kyma_proxy.core.accounts.accounts import Key
from kyma_proxy.core.accounts.limits import Admission


class Reservation:
    """A place in the account's minute, and `held` nano-dollars; `prompt` is the estimate of the prompt's tokens."""

    __slots__ = ("admission", "held", "key", "prompt")

    def __init__(self, key: Key, admission: Admission, prompt: int, held: int) -> None:
        self.key = key
        self.admission = admission
        self.prompt = prompt
        self.held = held
