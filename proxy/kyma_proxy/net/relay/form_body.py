"""Passes a form on with its `model` replaced, and the answer as it comes. (Contract §3.3.)"""

from __future__ import annotations

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.source_request import form_bytes
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.net.relay.passthrough import PassthroughBody


class FormBody(PassthroughBody):
    """A form: every byte but the value of `model` is the caller's."""

    __slots__ = ()

    def __init__(self, exchange: Exchange, step: Step, dialect: Dialect) -> None:
        super().__init__(exchange, step, dialect, is_searched=True)

    def request(self) -> list[bytes | memoryview]:
        return form_bytes(self._exchange, self._source)
