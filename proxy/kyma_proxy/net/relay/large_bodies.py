"""Makes the body of an attempt where that could take long: in slices, or in another process.

To translate or clean a request takes up to 3 µs for each of its values, and some 10 ns for each byte. So a body of few values
and bytes is changed on the loop, but no sooner than its turn among the slices comes; and any other in the worker's process.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from typing import Any, Final

from kyma_proxy.core.exchange import Exchange
from kyma_proxy.core.http.body import RoutingFields, reading_routing_fields
from kyma_proxy.core.http.measured_fields import fields_of, reading_form, reading_measured
from kyma_proxy.core.http.structure import ValueCounter
from kyma_proxy.core.routing.plan import SUBSTITUTE, Step
from kyma_proxy.dialect.contract import Cleaning, Dialect
from kyma_proxy.dialect.large_requests import TranslationWork, cleaned, translated, with_body
from kyma_proxy.dialect.registry import TRANSLATORS
from kyma_proxy.dialect.vision import can_see, refuse_images, sees_images
from kyma_proxy.errors import GatewayError, internal_error
from kyma_proxy.net.downstream.upload import StreamedInbound
from kyma_proxy.net.inline_coroutine import InlineCoroutine
from kyma_proxy.net.relay.attempts import Attempts, total_due
from kyma_proxy.net.relay.body import Body
from kyma_proxy.net.relay.passthrough import CleanRequest, PassthroughBody, clean_request
from kyma_proxy.net.relay.translated import TranslatedBody, order_of
from kyma_proxy.net.slices import Slices
from kyma_proxy.net.worker import Worker

SMALL_BYTES: Final = 64 * 1024
"""A body of no more can't take long, however dense it is."""
_FEW_BYTES: Final = 2 * 2**20
_FEW_VALUES: Final = 6_000
_PIECE_BYTES: Final = 2**20
_OVERLAP_BYTES: Final = 256
"""More than what is searched for may have."""


class _Preparation:
    """The making of a body, which goes on until it `is_over`: then there is the `body` or an `error`."""

    __slots__ = ("_on_over", "_running", "body", "error", "is_over")

    def __init__(self, making: Coroutine[Any, Any, Body], loop: asyncio.AbstractEventLoop, on_over: Callable[[], None]) -> None:
        self.body: Body | None = None
        self.error: GatewayError | None = None
        self.is_over = False
        self._on_over = on_over
        self._running: InlineCoroutine | None = InlineCoroutine(self._run(making), loop, self._crashed)

    async def _run(self, making: Coroutine[Any, Any, Body]) -> None:
        try:
            self.body = await making
        except GatewayError as error:
            self.error = error.fresh()
        except asyncio.CancelledError:
            return
        self._end()

    def _crashed(self) -> None:
        self.error = internal_error()
        self._end()

    def _end(self) -> None:
        self.is_over = True
        self._on_over()

    def cancel(self) -> None:
        """Stop it, if it goes on. Nobody is called back. It lets go of the coroutine, which holds it and the body."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()


def takes_long(exchange: Exchange, step: Step) -> bool:
    """True if the body for an attempt must be prepared, given that it is not small."""
    if step.source.endpoint != exchange.endpoint.key:
        return True
    if exchange.endpoint.takes_form:
        return False
    return exchange.endpoint.cleaning is not None or (step.layer == SUBSTITUTE and not sees_images(step.model))


class LargeBodies:
    """Makes the bodies of large requests, without holding the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slices: Slices, worker: Worker) -> None:
        self._loop = loop
        self._slices = slices
        self._worker = worker

    async def read(
        self, attempts: Attempts, answer_error: Callable[[Attempts, GatewayError], None], *, is_metered: bool
    ) -> RoutingFields:
        """The routing fields of a large or measured body. Raises GatewayError as `read_routing_fields` does.

        `answer_error` is called if a form that is served while it comes turns out to be bad.
        """
        exchange = attempts.exchange
        inbound = exchange.inbound
        body = inbound.body
        if isinstance(inbound, StreamedInbound):
            inbound.upload.on_error = functools.partial(answer_error, attempts)
            return fields_of(inbound.upload.form, inbound.upload.total)
        if exchange.endpoint.takes_form:
            return await self._slices.run(reading_form(exchange.inbound.headers, body))
        if exchange.endpoint.measure:
            return await self._slices.run(reading_measured(exchange.endpoint, body))
        asks_usage = exchange.snapshot.asks_usage
        return await self._slices.run(reading_routing_fields(body, is_metered=is_metered, asks_usage=asks_usage))

    async def prepared(self, attempts: Attempts, step: Step, dialect: Dialect) -> Body | None:
        """Make the body for an attempt. `dialect` is the caller's.

        Returns None if the attempt is not to be made: the request has its answer, or ends; there is no time left; the source's
        circuit breaker has opened; or the body can't be made. The last is noted among the request's candidates.
        """
        exchange, candidates = attempts.exchange, attempts.candidates
        is_passed = step.source.endpoint == exchange.endpoint.key
        making = self._passthrough(exchange, step) if is_passed else self._translated(exchange, step, dialect)
        preparation = _Preparation(making, self._loop, attempts.wake)
        due = total_due(exchange, step)
        try:
            while not (preparation.is_over or attempts.is_done or exchange.is_committed):
                now = monotonic()
                if attempts.is_too_late(step, now):
                    return None
                await attempts.wait_woken(None if due is None else due - now)  # a timer may ring too early
        finally:
            preparation.cancel()
        if preparation.error is not None:
            candidates.unsupported = preparation.error
        now = monotonic()
        if preparation.body is None or attempts.is_done or exchange.is_committed or attempts.is_too_late(step, now):
            return None
        if not (step.bypass_breaker or step.breaker.allows(now, candidates.account)):
            candidates.tried.discard(step.source.key)  # it is as if it had not been chosen
            return None
        return preparation.body

    async def _translated(self, exchange: Exchange, step: Step, dialect: Dialect) -> Body:
        body = exchange.inbound.body
        made: Body | None = await self._slices.run(_if_few(body, lambda: TranslatedBody(exchange, step, dialect)))
        if made is not None:
            return made
        translate = TRANSLATORS[exchange.endpoint.key, step.source.endpoint]
        blind_model = None if sees_images(step.model) and can_see(step.source) else step.model.id
        work = TranslationWork(translate, order_of(exchange, step, b""), blind_model)
        translation, translated_body = await self._worker.call(translated, work, body)
        return TranslatedBody(exchange, step, dialect, with_body(translation, translated_body))

    async def _passthrough(self, exchange: Exchange, step: Step) -> Body:
        body: bytes = exchange.inbound.body
        cleaning: Cleaning | None = exchange.endpoint.cleaning
        if step.layer == SUBSTITUTE and not sees_images(step.model):
            await self._slices.run(_searching_images(body, step))
        if cleaning is None or not await self._slices.run(_searching(body, cleaning)):
            return PassthroughBody(exchange, step, is_searched=True)
        clean: CleanRequest | None = await self._slices.run(_if_few(body, lambda: clean_request(body, cleaning)))
        if clean is None:
            (dropped, routing), clean_body = await self._worker.call(cleaned, cleaning.cleaned, body)
            clean = CleanRequest(clean_body, dropped, routing)
        return PassthroughBody(exchange, step, clean, is_searched=True)


def _if_few(body: bytes, make: Callable[[], Any]) -> Generator[None, None, Any]:
    """Return the result of `make` if the body has few values, in slices; else None."""
    if len(body) > _FEW_BYTES:
        return None
    counter = ValueCounter(body, _FEW_VALUES)
    while not counter.is_done:
        counter.step()
        yield
    return make() if counter.values <= _FEW_VALUES else None


def _searching(body: bytes, cleaning: Cleaning) -> Generator[None, None, bool]:
    """True if the body must be cleaned, in slices."""
    for start in range(0, len(body), _PIECE_BYTES):
        if cleaning.may_be_needed(body[start : start + _PIECE_BYTES + _OVERLAP_BYTES]):
            return True
        yield
    return False


def _searching_images(body: bytes, step: Step) -> Generator[None, None, None]:
    """Refuse an image in the body, in slices. Raises GatewayError."""
    for start in range(0, len(body), _PIECE_BYTES):
        refuse_images(body[start : start + _PIECE_BYTES + _OVERLAP_BYTES], step.model)
        yield
