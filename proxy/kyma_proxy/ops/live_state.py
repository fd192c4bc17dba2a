"""Reads the present state of the running program for a scrape of its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from time import monotonic
from typing import Final

from kyma_proxy import __version__, gateway
from kyma_proxy.accounting.service import AccountService
from kyma_proxy.config.snapshot import Snapshot, Source
from kyma_proxy.core.routing.breaker import CLOSED, OPEN
from kyma_proxy.core.routing.breaker_table import BreakerTable
from kyma_proxy.core.routing.plan import each_key
from kyma_proxy.jobs.service import JobService
from kyma_proxy.net.downstream.listener import Listener
from kyma_proxy.net.upstream.pool import UpstreamPool
from kyma_proxy.ops.in_force import InForce
from kyma_proxy.telemetry.access_log import LogLines
from kyma_proxy.telemetry.metrics import BREAKER_STATES, Build


def _sum(own: Callable[[], float] | None, others: float) -> float:
    return others if own is None else own() + others


BUILD: Final = Build(__version__, gateway.__file__.endswith(".so"))


class LiveState:
    """The objects of the running program, as a scrape sees them."""

    def __init__(
        self, configuration: InForce, *, serving: gateway.Gateway, listener: Listener, upstreams: UpstreamPool,
        breakers: BreakerTable, jobs: JobService, access_log: LogLines | None, account_service: AccountService | None,
    ) -> None:  # fmt: skip
        self._configuration = configuration
        self._gateway = serving
        self._listener = listener
        self._upstreams = upstreams
        self._breakers = breakers
        self._jobs = jobs
        self._access_log = access_log
        self._account_service = account_service
        self._snapshot: Snapshot | None = None
        self._by_name: dict[tuple[str, str], list[Source]] = {}  # of that snapshot
        self.others: Callable[[], Mapping[str, float]] | None = None
        """Returns gauges of other processes that serve with this one: their sums, for those that this one has too."""

    def gauges(self) -> dict[str, Callable[[], float]]:
        """The gauges that this program has, by name."""
        scheduler, log, configuration = self._jobs.scheduler, self._access_log, self._configuration
        gauges: dict[str, Callable[[], float]] = {
            "kyma_in_flight": lambda: self._gateway.in_flight,
            "kyma_connections": lambda: len(self._listener.connections) + self._listener.waiting,
            "kyma_provider_connections": lambda: self._upstreams.statistics()["open"],
            "kyma_provider_connections_idle": lambda: self._upstreams.statistics()["idle"],
            "kyma_jobs_active": lambda: len(scheduler),
            "kyma_jobs_unwritten": lambda: scheduler.awaiting_write,
            "kyma_jobs_running": lambda: scheduler.running,
            "kyma_access_log_lost_lines": lambda: log.lost_lines if log is not None else 0,
            "kyma_config_last_reload_success": lambda: int(configuration.last_reload_succeeded),
            "kyma_config_last_reload_success_timestamp_seconds": lambda: configuration.read_at,
        }
        if self._account_service is not None:
            accounts, store = self._account_service.accounts, self._account_service.store
            gauges |= {
                "kyma_accounts": lambda: len(accounts),
                "kyma_charges_waiting": lambda: store.waiting,
                "kyma_charges_lost": lambda: store.statistics().lost,
                "kyma_accounts_failing": lambda: int(store.is_failing),
            }
        if self.others is None:
            return gauges
        more = self.others()
        return gauges | {name: partial(_sum, gauges.get(name), value) for name, value in more.items()}

    def providers(self) -> dict[str, bool]:
        """Each provider, and True if it is on."""
        return {name: one.off is None for name, one in self._configuration.current().providers.items()}

    def breakers(self) -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
        """Each source that is on, by provider and provider's model id, and for each endpoint the state of its breaker.

        They are read one by one, as there may be thousands.
        """
        now = monotonic()
        for name, sources in self._sources_by_name().items():
            states: dict[str, str] = {}
            for source in sources:  # one key that works is enough
                for endpoint, state in self._worst_of_models(source, now).items():
                    states[endpoint] = min(states.get(endpoint, OPEN), state, key=BREAKER_STATES.index)
            yield name, states

    def _sources_by_name(self) -> dict[tuple[str, str], list[Source]]:
        snapshot = self._configuration.current()
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._by_name = {}
            for source in each_key(one for model in snapshot.entries for one in (*model.pool, *model.reserve)):
                if source.provider.off is None:
                    self._by_name.setdefault((source.provider.name, source.model), []).append(source)
        return self._by_name

    def _worst_of_models(self, source: Source, now: float) -> dict[str, str]:
        """The worst state at each endpoint: the source of a pattern has breakers for each of the pattern's models."""
        worst: dict[str, str] = {}
        for breakers in self._breakers.of_all(source):
            for endpoint, breaker in breakers.items():
                worst[endpoint] = max(worst.get(endpoint, CLOSED), breaker.state(now), key=BREAKER_STATES.index)
        return worst
