"""Defines what an admitted request has taken from its account until it ends, and sets the money aside. (Contract §7, §8.)"""

from __future__ import annotations

from kyma_proxy.core.accounts.accounts import Account, Key
from kyma_proxy.core.accounts.extras import Extras
from kyma_proxy.core.accounts.limits import Admission


class Reservation:
    """A place in the account's minute, and `held` nano-dollars; `prompt` is the estimate of the prompt's tokens.

    `unheld` is what the request may cost beyond `held`. `extras` are there if the request asks for more than tokens.
    """

    __slots__ = ("admission", "extras", "held", "key", "prompt", "unheld")

    def __init__(  # noqa: PLR0917  positional calls are the cheap ones
        self, key: Key, admission: Admission, prompt: int, held: int, unheld: int = 0, extras: Extras | None = None
    ) -> None:
        self.key = key
        self.admission = admission
        self.prompt = prompt
        self.held = held
        self.unheld = unheld
        self.extras = extras


class Holds:
    """Sets money aside for the requests that are being served, in this process's memory.

    If several processes serve an account, another implementation takes this one's place, which borrows parts of the balance.
    """

    __slots__ = ()

    def can_afford(self, account: Account, amount: int) -> bool:
        """True if this amount is there even if every request in flight costs the most that it may.

        No `await` may stand between this and `hold`.
        """
        return account.can_afford(amount)

    def hold(self, account: Account, amount: int) -> None:
        """Set aside what a request may cost, or is likely to."""
        account.hold(amount)

    def release(self, account: Account, amount: int) -> None:
        """Give back what was set aside for a request; once, however it ended."""
        account.release(amount)

    def expose(self, account: Account, amount: int) -> None:
        """Note what a request may cost beyond what is set aside for it; at its end, the same amount below zero."""
        account.expose(amount)
