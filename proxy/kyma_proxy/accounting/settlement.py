"""Settles a request that has ended: measures, charges, counts and logs it. Never waits, never fails. (Contract §8, §11.)"""

from __future__ import annotations

import logging
import time
from typing import Final

from kyma_proxy.accounting.meter import Meter
from kyma_proxy.core.accounts.charging import NOTHING, bill_of
from kyma_proxy.core.accounts.measured_bill import measured_bill
from kyma_proxy.core.accounts.reservation import Reservation
from kyma_proxy.core.exchange import Exchange, State
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.patterns import has_price
from kyma_proxy.net.downstream.upload import StreamedInbound
from kyma_proxy.net.relay.attempts import Attempt
from kyma_proxy.net.relay.pump import Pump
from kyma_proxy.telemetry.counters import Counters
from kyma_proxy.telemetry.record import Log
from kyma_proxy.telemetry.recording import Recording

_log: Final = logging.getLogger("kyma-proxy")
_wall: Final = time.time  # compiled, a name of this module is found faster than another module's
_COUNTS_FOR_THE_MODEL: Final = frozenset({State.COMPLETED, State.RELAYED_ERROR, State.FAILED, State.BROKEN})


class Settlement:
    """Settles requests. A failure in one of its steps is logged, and the others are still taken."""

    def __init__(self, counters: Counters, breakers: BreakerTable, log: Log | None, meter: Meter | None) -> None:
        self._counters = counters
        self._breakers = breakers
        self._log = log
        self._meter = meter
        self._recording = Recording()

    def settle(self, exchange: Exchange, answering: Attempt | None, now: float) -> None:
        """Settle a request that has ended; `answering` is the attempt whose answer has gone out, or would have."""
        pump = self._measured(exchange, answering)
        if exchange.reservation is not None:
            self._charge(exchange, exchange.reservation, pump)
        elif exchange.endpoint.measure:
            self._measure(exchange)
        try:
            self._counters.count(exchange, now)
            if exchange.route is not None and exchange.state in _COUNTS_FOR_THE_MODEL:
                succeeded = exchange.state not in (State.FAILED, State.BROKEN)
                self._breakers.of_model(exchange.route.model.counted_as).add(now, succeeded=succeeded)
            if self._log is not None:
                self._log.write(self._recording.record_of(exchange, _wall(), now))
        except Exception:
            _log.exception("request %s could not be logged", exchange.inbound.request_id)

    def _measured(self, exchange: Exchange, answering: Attempt | None) -> Pump[Attempt] | None:
        """Note the times, the size and the usage of the answer that has gone out. Returns its pump; None if there is none."""
        pump = None if answering is None else answering.pump
        if answering is None or pump is None or not pump.has_begun:
            return None
        exchange.first_byte = answering.first_byte
        exchange.overhead_s += answering.first_byte - pump.received_at
        exchange.bytes_out = pump.bytes_out
        try:
            exchange.usage = pump.reader.usage()
        except Exception:  # whatever a provider has sent, the request must be settled
            _log.exception("the usage of request %s could not be read", exchange.inbound.request_id)
        return pump

    def _measure(self, exchange: Exchange) -> None:
        """Note what a request came to that is measured by more than tokens, and is not charged."""
        written = None if exchange.routing is None else exchange.routing.written
        extras = None if written is None else written.extras
        if extras is None or extras.quantities is None or exchange.model is None or not _is_whole(exchange):
            return
        due = measured_bill(exchange, extras.quantities)
        if due is not NOTHING:
            exchange.usage = due.usage
            exchange.cost = due.amount if has_price(exchange.model.price) else None

    def _charge(self, exchange: Exchange, reservation: Reservation, pump: Pump[Attempt] | None) -> None:
        """Give back what the request has reserved, and charge what it came to."""
        answered, meter = exchange.model, self._meter
        assert meter is not None and answered is not None  # noqa: S101, PT018  (admitted)
        due = NOTHING
        try:
            extras = reservation.extras
            if not _is_whole(exchange):
                due = NOTHING
            elif extras is not None and extras.quantities is not None:
                due = measured_bill(exchange, extras.quantities)
            else:
                due = bill_of(exchange, reservation.prompt, lambda: 0 if pump is None else pump.reader.delivered(), extras)
        except Exception:  # the reservation must be given back, whatever a provider has sent
            _log.exception("request %s could not be billed", exchange.inbound.request_id)
        exchange.usage = due.usage
        exchange.cost = due.amount
        try:
            meter.settle(reservation, due, answered.id, exchange.inbound.request_id, _wall())
        except Exception:
            _log.exception("request %s could not be charged", exchange.inbound.request_id)


def _is_whole(exchange: Exchange) -> bool:
    """True unless no source can have had the whole request, as its caller did not send it."""
    return not isinstance(exchange.inbound, StreamedInbound) or exchange.inbound.upload.is_complete
