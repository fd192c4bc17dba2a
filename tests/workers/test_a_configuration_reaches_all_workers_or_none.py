"""A snapshot is put in force in all workers, also in those that have begun meanwhile, or in none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from kyma_proxy.ops.reload import Configuration
from kyma_proxy.ops.workers.channel import content_of
from kyma_proxy.ops.workers.messages import Apply, Message, Prepare
from kyma_proxy.ops.workers.received_configuration import ReceivedConfiguration
from kyma_proxy.ops.workers.shared_configuration import SharedConfiguration
from tests.configurations import configuration


class Worker:
    """A worker that follows, or says why it can't."""

    def __init__(self, content: bytes, why: str | None = None) -> None:
        self.configuration = ReceivedConfiguration(content)
        self.prepared: int | None = None
        self.sent: list[tuple[Message, list[bytes]]] = []
        self._why = why

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self.sent.append((message, [content_of(one) for one in descriptors]))

    async def prepare(self, version: int, snapshot: bytes) -> str | None:
        if self._why is None:
            await self.configuration.take(version, snapshot)
            self.prepared = version
        return self._why

    async def follow(self) -> list[str]:
        """Do what was sent, and return the ids of the models that are served then."""
        for message, contents in self.sent:
            match message:
                case Prepare(version):
                    await self.configuration.take(version, contents[0])
                case Apply(version):
                    assert self.configuration.put_in_force(version)
        self.sent.clear()
        return list(self.configuration.snapshot.models)


@pytest.fixture
def held(tmp_path: Path) -> Configuration:
    file = tmp_path / "gateway.yaml"
    file.write_text(configuration(9))
    return Configuration(file, os.environ)


def change(held: Configuration, model: str) -> None:
    Path(str(held.path)).write_text(configuration(9).replace("id: m,", f"id: {model},"))


async def test_workers_that_serve_and_those_that_have_just_begun_take_it(held: Configuration) -> None:
    workers: list[Worker] = []
    shared = SharedConfiguration(held, lambda: workers)
    workers.append(Worker(shared.content))
    late = Worker(shared.content)
    prepare = workers[0].prepare

    async def prepare_slowly(version: int, snapshot: bytes) -> str | None:
        workers.append(late)
        return await prepare(version, snapshot)

    workers[0].prepare = prepare_slowly  # type: ignore[method-assign]
    change(held, "other")
    assert (await held.reload("a test")).result == "reloaded"
    assert [await worker.follow() for worker in workers] == [["other"], ["other"]]
    assert await Worker(shared.content).follow() == ["other"]


async def test_if_one_cannot_take_it_none_does(held: Configuration) -> None:
    workers: list[Worker] = []
    shared = SharedConfiguration(held, lambda: workers)
    workers += [Worker(shared.content), Worker(shared.content, "its certificate can't be read")]
    change(held, "other")
    result = await held.reload("a test")
    assert (result.result, result.message) == ("failed", "its certificate can't be read")
    assert [await worker.follow() for worker in workers] == [["m"], ["m"]]
    assert await Worker(shared.content).follow() == ["m"]
    assert list(held.snapshot.models) == ["m"]
