"""Passes a form on with its `model` replaced, and the answer as it comes. (Contract §3.3.)

A large form is passed on while it comes. It can be sent to one source only, as nobody keeps what has been sent.
"""

from __future__ import annotations

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.source_request import form_bytes
from kyma_proxy.core.routing.plan import Step
from kyma_proxy.errors import GatewayError, Kind
from kyma_proxy.net.downstream.upload import StreamedInbound, Upload
from kyma_proxy.net.relay.passthrough import PassthroughBody
from kyma_proxy.net.upstream.outflow import LargeRequest


class FormBody(PassthroughBody):
    """A form: every byte but the value of `model` is the caller's."""

    __slots__ = ("_upload",)

    def __init__(self, exchange: Exchange, step: Step) -> None:
        """Raises GatewayError if the form has been passed on to another source."""
        super().__init__(exchange, step, is_searched=True)
        inbound = exchange.inbound
        self._upload: Upload | None = inbound.upload if isinstance(inbound, StreamedInbound) else None
        if self._upload is not None and self._upload.is_taken:
            raise GatewayError(
                Kind.PROVIDER_ERROR, "The form was passed on while it came, so no other source can be asked; send it again."
            )

    @property
    def is_once(self) -> bool:
        return self._upload is not None

    def request(self) -> list[bytes | memoryview]:
        total = None if self._upload is None else self._upload.total
        return form_bytes(self._exchange, self._source, total)

    def send_more(self, outgoing: LargeRequest) -> None:
        if self._upload is not None:
            self._exchange.bytes_in = self._upload.total
            self._exchange.inbound.body = b""  # it is part of the request now
            self._upload.attach(outgoing)
