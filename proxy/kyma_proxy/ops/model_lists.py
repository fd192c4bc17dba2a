"""Keeps the lists of the models that providers have, where a pattern passes them on: for `/v1/models` alone. (Contract §6.)

Nothing waits for a list, and a model that is in none is passed on all the same. A list that can't be read leaves the last one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import Model, Provider, Snapshot, Timeouts
from kyma_proxy.core.routing.listing import listed_model
from kyma_proxy.dialect.model_list import ListedModel, list_request, read_list
from kyma_proxy.net.upstream.client import NoResponseError, UpstreamClient

_log: Final = logging.getLogger("kyma-proxy")
INTERVAL_S: Final = 3600.0
RETRY_S: Final = 60.0
MAX_BYTES: Final = 4 * 2**20
MAX_MODELS: Final = 2000
"""Of one provider, and of all together."""
_TIMEOUTS: Final = Timeouts(connect=5.0, first_byte=15.0, idle=15.0, total=30.0)
_MODELS_A_TURN: Final = 16


class _List(NamedTuple):
    """The last list of a provider, and when to ask again. `reached` says which provider it was."""

    reached: object
    due: float
    models: tuple[ListedModel, ...]
    trouble: str | None


class ModelLists:
    """The lists of all providers to which a pattern passes models on. `models` are theirs, by the ids that callers use."""

    def __init__(self, current: Callable[[], Snapshot], client: UpstreamClient) -> None:
        self._current = current
        self._client = client
        self._lists: dict[str, _List] = {}
        self._has_changed = asyncio.Event()
        self.models: tuple[Model, ...] = ()

    def listed(self) -> tuple[Model, ...]:
        """The models; the same tuple as long as nothing has changed."""
        return self.models

    def apply_snapshot(self) -> None:
        """Adapt to the snapshot in force: ask providers that are new, and name the models anew."""
        self._has_changed.set()

    async def run(self) -> None:
        """Ask each provider now, and again every hour, until cancelled."""
        while True:
            self._has_changed.clear()
            snapshot = self._current()
            providers = _listing_providers(snapshot)
            self._lists = {
                name: one for name, one in self._lists.items() if name in providers and one.reached == _reached(providers[name])
            }
            await self._name_models(snapshot)
            due = [one for name, one in providers.items() if name not in self._lists or self._lists[name].due <= monotonic()]
            for asked in asyncio.as_completed([self._ask(one) for one in due]):
                name, listed = await asked
                self._lists[name] = listed
                await self._name_models(snapshot)
            wait = min([one.due for one in self._lists.values()], default=monotonic() + INTERVAL_S) - monotonic()
            try:
                async with asyncio.timeout(max(wait, 0.0)):
                    await self._has_changed.wait()
            except TimeoutError:
                continue

    async def _ask(self, provider: Provider) -> tuple[str, _List]:
        before = self._lists.get(provider.name)
        try:
            answer = await self._client.send(provider, [list_request(provider)], _TIMEOUTS, is_fresh=True, max_bytes=MAX_BYTES)
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            models = await asyncio.to_thread(read_list, answer.body, MAX_MODELS)
        except (NoResponseError, ValueError) as error:
            trouble = str(error)
            if before is None or before.trouble != trouble:
                _log.info("the models of %s are passed on, but can't be listed: %s", provider.name, trouble)
            models = () if before is None else before.models
            return provider.name, _List(_reached(provider), monotonic() + RETRY_S, models, trouble)
        return provider.name, _List(_reached(provider), monotonic() + INTERVAL_S, models, None)

    async def _name_models(self, snapshot: Snapshot) -> None:
        """Find the ids of all listed models, a few in each turn of the loop."""
        found: dict[str, Model] = {}
        for provider in snapshot.providers:
            listed = self._lists.get(provider)
            for at, one in enumerate(() if listed is None else listed.models):
                if at % _MODELS_A_TURN == 0:
                    await asyncio.sleep(0)
                if len(found) >= MAX_MODELS:
                    break
                model = listed_model(snapshot, provider, one.name)
                if model is not None and model.id not in found:
                    found[model.id] = replace(
                        model, created=one.created, owned_by=one.owned_by or provider,
                        context_window=one.context_window or model.context_window,
                    )  # fmt: skip
        if list(found.values()) != list(self.models):
            self.models = tuple(found.values())


def _listing_providers(snapshot: Snapshot) -> dict[str, Provider]:
    """The providers that are on and that a pattern asks first."""
    sources = [source for pattern in snapshot.patterns for source in pattern.model.pool if source.model.endswith("*")]
    return {source.provider.name: source.provider for source in sources if source.provider.off is None}


def _reached(provider: Provider) -> object:
    return provider.origin, provider.base_path, provider.query, provider.header_lines
