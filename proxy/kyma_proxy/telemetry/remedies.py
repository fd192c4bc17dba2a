"""Says what an operator can do about a source that fails."""

from __future__ import annotations

from typing import Final

from kyma_proxy.config.snapshot import Provider, Snapshot, Source
from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind

REJECTED_KEY: Final = 401
_OF_STATUS: Final = {
    REJECTED_KEY: "its key is rejected",
    402: "its account is out of credit: add some at the provider",
    403: "its key may not use this: look at its permissions, its plan and its region at the provider",
    412: "its account is suspended: ask the provider",
    429: "its rate limit is reached: ask the provider for a higher one, or add another source to the model's pool",
    498: "it has no capacity left: add another source to the model's pool",
}
_UNREACHABLE: Final = "see if this machine reaches {address}: its DNS, firewall, proxy and TLS"
_OF_KIND: Final = {
    FailureKind.CONNECT: _UNREACHABLE,
    FailureKind.CONNECT_TIMEOUT: _UNREACHABLE,
    FailureKind.FIRST_BYTE_TIMEOUT: "it is slow; `timeouts.first_byte` says how long it may take",
    FailureKind.IDLE_TIMEOUT: "its answers stop in the middle; `timeouts.idle` says for how long they may be silent",
    FailureKind.TOTAL_TIMEOUT: "it is slow; `timeouts.total` says how long it may take",
    FailureKind.OVERTAKEN: "it is slower than `hedge_after` allows",
    FailureKind.NO_ANSWER: "see if its `base_url` and `dialect` are right",
}


def remedy(failure: AttemptFailure, source: Source) -> str:
    """The words for the failure that has opened a source's circuit breaker."""
    if failure.kind is FailureKind.STATUS:
        return _OF_STATUS.get(failure.status, "the fault is the provider's; its status page may say more")
    words = _OF_KIND.get(failure.kind, "the fault is the provider's; its status page may say more")
    return words.format(address=source.provider.origin.authority)


def key_remedy(provider: Provider, number: int, snapshot: Snapshot) -> str:
    """The words for a key that the provider rejects, the one with this number."""
    if not provider.secrets:
        return "the configuration has none for it, set its `api_key`"
    at = list(snapshot.providers).index(provider.name)
    for member in ("api_key", f"api_keys[{number - 1}]"):
        text = snapshot.substitutions.written.get(f"providers[{at}].{member}")
        if text is not None:
            return f"give {text} a valid one, and restart (`kyma-proxy serve --replace` does so without an outage)"
    return "put a valid one where the configuration has it; a reload takes it"
