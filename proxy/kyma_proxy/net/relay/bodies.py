"""Chooses the body for an attempt: passed through, or translated. (Contract §3.3.)"""

from __future__ import annotations

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.routing.plan import SUBSTITUTE, Step
from kyma_proxy.dialect.contract import Dialect
from kyma_proxy.dialect.vision import refuse_images
from kyma_proxy.net.relay.body import Body
from kyma_proxy.net.relay.form_body import FormBody
from kyma_proxy.net.relay.passthrough import PassthroughBody
from kyma_proxy.net.relay.translated import TranslatedBody


def body_for(exchange: Exchange, step: Step, dialect: Dialect) -> Body:
    """The body for an attempt at a source; `dialect` is the caller's.

    Raises GatewayError if the source's dialect has no way to say what the caller asks for, or its model can't see an image.
    """
    if step.source.endpoint != exchange.endpoint.key:
        return TranslatedBody(exchange, step, dialect)
    if exchange.endpoint.takes_form:
        return FormBody(exchange, step)
    if step.layer == SUBSTITUTE:
        refuse_images(exchange.inbound.body, step.model)
    return PassthroughBody(exchange, step)
