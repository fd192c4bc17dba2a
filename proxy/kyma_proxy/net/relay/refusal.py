"""Asks a source again without what it has refused, where a translation had put that into the request. (Contract §3.)"""

from __future__ import annotations

from kyma_proxy.core.routing.failures import AttemptFailure, FailureKind, Retry
from kyma_proxy.core.routing.refused_params import RefusedParams
from kyma_proxy.dialect.refusals import refused_params
from kyma_proxy.net.relay.attempts import Attempt
from kyma_proxy.net.relay.translated import TranslatedBody


def note_refusal(attempt: Attempt, status: int, body: bytes, now: float) -> AttemptFailure | None:
    """Remember the members that an error says the source does not support.

    Returns the failure that leads to the source again, without them; None if there are none, or it was asked again already.
    """
    pump = attempt.pump
    asked = pump.body if pump is not None else None
    if not isinstance(asked, TranslatedBody) or asked.translation is None:
        return None
    names = refused_params(status, body, asked.translation.request.optional)
    if not names:
        return None
    breaker = attempt.step.breaker
    if breaker.refused is None:
        breaker.refused = RefusedParams()
    breaker.refused.note(names, now)
    if any(one.step is attempt.step and one is not attempt for one in attempt.group.exchange.attempts):
        return None
    detail = f"does not support {', '.join(names)}"
    return AttemptFailure(FailureKind.STATUS, attempt.provider, detail, status, retry=Retry.SAME_SOURCE_OTHER_REQUEST)
