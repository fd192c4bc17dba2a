"""Defines what an admitted request has taken from its account until it ends, and sets the money aside. (Contract §7, §8.)"""

from __future__ import annotations

from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.core.accounts.limits import Admission


class Reservation:
    """A place in the account's minute, and `held` nano-dollars; `prompt` is the estimate of the prompt's tokens."""

    __slots__ = ("admission", "held", "key", "prompt")

    def __init__(self, key: Key, admission: Admission, prompt: int, held: int) -> None:
        self.key = key
        self.admission = admission
        self.prompt = prompt
        self.held = held


class Holds:
    """Sets money aside for the requests that are being served, in this process's memory.

    If several processes serve an account, another implementation takes this one's place, which borrows parts of the balance.
    """

    __slots__ = ()

    def can_afford(self, account: Account, amount: int) -> bool:
        """True if `hold` may be called with this amount in the same turn of the event loop."""
        return account.can_afford(amount)

    def hold(self, account: Account, amount: int) -> None:
        """Set aside what a request may cost."""
        account.hold(amount)

    def release(self, account: Account, amount: int) -> None:
        """Give back what was set aside for a request; once, however it ended."""
        account.release(amount)
