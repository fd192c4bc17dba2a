"""A system is started until it answers, ended with all that it has started, and an absent one says how to be got."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from bench import peers, provider
from bench.client import request_bytes
from bench.load import Order, play
from bench.processes import answers, tree
from bench.scenario import Load
from bench.script import Dialect, Script
from bench.systems.contract import Place, System, Unsupported
from bench.systems.field import FIELD
from bench.systems.target import Target, start
from tests.waiting import wait_until

ORDER = ["gateway", "gateway-interpreted", "nginx", "haproxy", "envoy", "smg", "portkey", "litellm"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The provider's port; it serves from a thread, as starting a system waits."""
    loop, begun = asyncio.new_event_loop(), threading.Event()
    servers: list[asyncio.Server] = []

    async def listen() -> None:
        servers.append(await provider.listen(0))
        begun.set()

    def serve() -> None:
        loop.create_task(listen())
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    assert begun.wait(10.0)
    yield servers[0].sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(servers[0].close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10.0)
    loop.close()


@pytest.fixture
def place(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose temporary directories can be counted."""
    rooms = tmp_path / "rooms"
    rooms.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(rooms))
    return Place(provider_port=port, core=None, models=("short", "stream-3-10ms"), bytecode=tmp_path / "bytecode")


def left() -> list[Path]:
    return list(Path(tempfile.gettempdir()).iterdir())


class Lines(System, frozen=True, kw_only=True):
    """A system that is a command, which gets its port; by default it is not installed."""

    name: str = "lines"
    title: str = "A script"
    how_to_get: str = "write it"
    line: tuple[str, ...] | None = None
    refused: str | None = None

    def command(self) -> tuple[str, ...] | None:
        return self.line

    def version(self) -> str:
        return "1"

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        if self.refused is not None:
            raise Unsupported(self.refused)
        return [str(port)]


def python(text: str, pid: Path) -> tuple[str, ...]:
    """A command that writes down its process's number, and does as the text says."""
    note = f"import os, pathlib, subprocess, sys, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))"
    return (sys.executable, "-c", f"{note}; {text}")


def test_one_that_dies_at_its_start_says_why_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="it ended with 3: no such luck"):
        start(Lines(line=python("print('no such luck', flush=True); os._exit(3)", tmp_path / "pid")), place)
    assert left() == []
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_one_that_never_answers_is_ended_with_its_children(place: Place, tmp_path: Path) -> None:
    child = python("time.sleep(60)", tmp_path / "child")
    parent = python(f"print('waiting', flush=True); subprocess.run({child!r})", tmp_path / "parent")
    with pytest.raises(RuntimeError, match="did not answer within 1 s: waiting"):
        start(Lines(line=parent, patience_s=1.0), place)
    assert left() == []
    for name in ("parent", "child"):
        wait_until(functools.partial(gone, int((tmp_path / name).read_text())))


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody waits for stays as a zombie."""
    with contextlib.suppress(FileNotFoundError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def test_one_that_cannot_do_what_the_place_asks_leaves_nothing(place: Place) -> None:
    with pytest.raises(Unsupported, match="no TLS"):
        start(Lines(line=("true",), refused="it speaks no TLS to a provider"), place)
    assert left() == []


def test_an_absent_one_says_how_to_get_it(place: Place) -> None:
    with pytest.raises(RuntimeError, match="A script is not installed: write it"):
        start(Lines(), place)


def test_a_program_that_is_not_there_leaves_nothing(place: Place) -> None:
    with pytest.raises(OSError, match="/no/such/program"):
        start(Lines(line=("/no/such/program",)), place)
    assert left() == []


def test_direct_is_the_provider_itself(place: Place) -> None:
    target = Target.direct(place)
    assert (target.name, target.port, target.pid, target.home) == ("direct", place.provider_port, None, None)
    assert target.is_alive()
    target.stop()


@pytest.mark.parametrize("name", ["gateway", "gateway-interpreted", "nginx", "haproxy", "envoy"])
def test_it_starts_answers_and_leaves_nothing(name: str, place: Place) -> None:
    system = FIELD[name]
    if system.command() is None:
        pytest.skip(f"{system.title} is not installed: {system.how_to_get}")
    target = start(system, place)
    try:
        assert target.process is not None
        pids = tree(target.process.pid)
        assert answers(target.port, request_bytes(target.port, "short", stream=False, headers=target.headers))
        assert (target.start_s or 0.0) > 0.0
        assert (target.log is not None) == name.startswith("gateway")
    finally:
        target.stop()
    assert left() == []
    for pid in pids:
        wait_until(functools.partial(gone, pid))


@pytest.mark.parametrize(("dialect", "endpoint"), [("openai", "messages"), ("anthropic", "chat/completions")])
def test_what_is_translated_is_measured_to_the_last_event(
    place: Place, dialect: Dialect, endpoint: Literal["messages", "chat/completions"]
) -> None:
    script = Script(events=30, gap_ms=10, tick_ms=10, dialect=dialect)
    target = start(FIELD["gateway-interpreted"], msgspec.structs.replace(place, models=("short", script.model)))
    try:
        load = Load(shape="streams", connections=3, timeout_s=10.0, endpoint=endpoint)
        seen = asyncio.run(play(Order(load=load, port=target.port, model=script.model, pid=target.pid)))
        assert seen.failed is None
        assert seen.event_delay is not None
        assert (seen.requests, seen.event_delay.count > 3) == (3, True)
    finally:
        target.stop()


def test_every_system_has_a_name_a_title_and_a_way_to_get_it() -> None:
    assert list(FIELD) == ORDER
    assert len({system.title for system in FIELD.values()}) == len(FIELD)
    assert all(system.how_to_get for system in FIELD.values())


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("authority", [None, Path("/ca.pem")])
def test_its_configuration_names_the_provider_and_its_authority(name: str, authority: Path | None, tmp_path: Path) -> None:
    place = Place(provider_port=4321, core=None, models=("short",), bytecode=tmp_path, tls=authority, more_models=2)
    system = FIELD[name]
    told = [*system.prepare(tmp_path, 8765, place), *(f"{key}={value}" for key, value in system.environment(place).items())]
    told += [f"{key}: {value}" for key, value in system.headers(place)]
    told += [path.read_text() for path in tmp_path.iterdir()]
    assert any("4321" in text for text in told)
    assert any("8765" in text for text in told)
    assert any("/ca.pem" in text for text in told) == (authority is not None)
    if name in ("gateway", "gateway-interpreted", "litellm"):
        assert all(any(model in text for text in told) for model in ("another-0", "another-1", "short"))


def test_what_the_place_says_of_the_gateway_is_laid_over_its_configuration(tmp_path: Path) -> None:
    place = Place(provider_port=1, core=None, models=("short",), bytecode=tmp_path, gateway={"access_log": None})
    path = Path(FIELD["gateway"].prepare(tmp_path, 2, place)[0])
    assert msgspec.json.decode(path.read_bytes())["access_log"] is None


def settle(command: tuple[str, ...] | None, error: Exception | None, *, install: bool = True) -> tuple[bool, str]:
    def attempt() -> None:
        if error is not None:
            raise error

    return peers.settle(peers.Peer(system=Lines(line=command), install=attempt), install=install)


def test_what_became_of_a_peer_is_told() -> None:
    failure = subprocess.CalledProcessError(1, ["npm", "ci"], "", "first\nlast")
    assert settle(("it",), None) == (True, "present (1)")
    assert settle(None, None, install=False) == (False, "absent: write it")
    assert settle(None, failure) == (False, "failed: npm ci: last")
    assert settle(None, OSError("no way")) == (False, "failed: no way")
    assert settle(None, None) == (False, "failed: it was installed, and is not found")
