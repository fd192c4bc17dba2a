"""Has all workers take each configuration that the supervisor has read, or none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.errors import StartError
from kyma_proxy.ops.reload import Configuration
from kyma_proxy.ops.workers.channel import file_with
from kyma_proxy.ops.workers.messages import Apply, Message, Prepare
from kyma_proxy.ops.workers.received_configuration import packed

_PREPARE_S: Final = 60.0


class Preparing(Protocol):
    """A worker, as far as it takes snapshots."""

    prepared: int | None
    """The version of the snapshot for which it is ready."""

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message, and descriptors."""

    async def prepare(self, version: int, snapshot: bytes) -> str | None:
        """Get it ready for a snapshot; returns the reason why it can't be."""


class SharedConfiguration:
    """The snapshot in force, for workers that begin (`content`), and the next one for those that serve."""

    def __init__(
        self,
        configuration: Configuration,
        workers: Callable[[], Iterable[Preparing]],
    ) -> None:
        """Follow the configuration. `workers` returns those that have not ended."""
        self._configuration = configuration
        self._workers = workers
        self.content = packed(configuration.snapshot)
        self._version = 0
        self._prepare_here = configuration.prepare
        configuration.prepare = self._prepare
        configuration.on_change(self._apply)

    async def _prepare(self, snapshot: Snapshot) -> None:
        """Have all workers get ready for a snapshot. Raises StartError if one of them can't take it: then none does."""
        await self._prepare_here(snapshot)
        content = await asyncio.to_thread(packed, snapshot)
        self._version += 1
        version = self._version
        ready = [worker.prepare(version, content) for worker in self._workers()]
        try:
            async with asyncio.timeout(_PREPARE_S):
                whys = [why for why in await asyncio.gather(*ready) if why is not None]
        except TimeoutError:
            raise StartError(f"a worker was not ready for it within {_PREPARE_S:g} s") from None
        if whys:
            raise StartError(whys[0])

    def _apply(self) -> None:
        """The snapshot is in force; also in a worker that has begun since the others got ready for it."""
        version = self._version
        self.content = packed(self._configuration.snapshot)
        for worker in self._workers():
            if worker.prepared != version:
                worker.send(Prepare(version), [file_with(self.content)])
            worker.send(Apply(version))
