"""The systems: each starts, answers, ends with all its processes, and says how it is installed if it is missing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import msgspec
import pytest

from bench import peers, provider
from bench.client import request_bytes
from bench.load import Workload, run_load
from bench.processes import is_answering, process_tree
from bench.scenario import Load
from bench.script import Dialect, Script
from bench.systems.contract import Deployment, System
from bench.systems.registry import SYSTEMS
from bench.systems.target import Target, start
from tests.waiting import wait_until

ORDER = ["gateway", "gateway-metered", "gateway-interpreted", "nginx", "haproxy", "envoy", "smg", "portkey", "litellm"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the scripted provider. It serves from a thread, because the start of a system blocks."""
    loop, listening = asyncio.new_event_loop(), threading.Event()
    servers: list[asyncio.Server] = []

    async def listen() -> None:
        servers.append(await provider.listen(0))
        listening.set()

    def serve() -> None:
        loop.create_task(listen())
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    assert listening.wait(10.0)
    yield servers[0].sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(servers[0].close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10.0)
    loop.close()


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bytecode cache of the gateways: only the first one that starts has to compile its modules."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def deployment(port: int, bytecode: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment with a temporary directory of its own, in which leftovers can be seen."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return Deployment(provider_port=port, core=None, models=("short", "stream-3-10ms"), bytecode=bytecode)


def leftovers() -> list[Path]:
    """The temporary directories that a system has left behind."""
    return list(Path(tempfile.gettempdir()).iterdir())


class Command(System, frozen=True, kw_only=True):
    """A system that is a command, which gets its port; by default it is not installed."""

    name: str = "command"
    title: str = "A command"
    install_hint: str = "write it"
    line: tuple[str, ...] | None = None

    def command(self) -> tuple[str, ...] | None:
        return self.line

    def version(self) -> str:
        return "1"

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        return [str(port)]


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def test_a_system_that_dies_at_its_start_fails_with_its_output_and_leaves_nothing(
    deployment: Deployment, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="the process ended with 3: no such luck"):
        start(Command(line=shell(f"echo $$ > {tmp_path}/pid; echo no such luck; exit 3")), deployment)
    assert leftovers() == []
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_system_that_never_answers_is_ended_with_its_children(deployment: Deployment, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/parent; sleep 60 & echo $! > {tmp_path}/child; echo waiting; wait"
    with pytest.raises(RuntimeError, match=r"did not answer within 0\.3 s: waiting"):
        start(Command(line=shell(script), start_timeout_s=0.3), deployment)
    assert leftovers() == []
    for name in ("parent", "child"):
        wait_until(functools.partial(has_ended, int((tmp_path / name).read_text())))


def has_ended(pid: int) -> bool:
    """True if the process has ended. A process that nobody waits for stays as a zombie."""
    with contextlib.suppress(FileNotFoundError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def test_a_system_that_is_not_installed_says_how_to_install_it(deployment: Deployment) -> None:
    with pytest.raises(RuntimeError, match="A command is not installed: write it"):
        start(Command(), deployment)


def test_a_missing_program_leaves_nothing(deployment: Deployment) -> None:
    with pytest.raises(OSError, match="/no/such/program"):
        start(Command(line=("/no/such/program",)), deployment)
    assert leftovers() == []


def test_direct_is_the_provider_itself(deployment: Deployment) -> None:
    target = Target.direct(deployment)
    assert (target.name, target.port, target.pid, target.home) == ("direct", deployment.provider_port, None, None)
    assert target.is_alive()
    target.stop()


@pytest.mark.parametrize("name", ["gateway", "gateway-metered", "gateway-interpreted", "nginx", "haproxy", "envoy"])
def test_each_installed_system_starts_answers_and_leaves_nothing(name: str, deployment: Deployment) -> None:
    system = SYSTEMS[name]
    if system.command() is None:
        pytest.skip(f"{system.title} is not installed: {system.install_hint}")
    target = start(system, deployment)
    try:
        assert target.process is not None
        pids = process_tree(target.process.pid)
        assert is_answering(target.port, request_bytes(target.port, "short", stream=False, headers=target.headers))
        assert (target.start_s or 0.0) > 0.0
        assert (target.log is not None) == name.startswith("gateway")
    finally:
        target.stop()
    assert leftovers() == []
    for pid in pids:
        wait_until(functools.partial(has_ended, pid))


TRANSLATED = {dialect: Script(events=30, gap_ms=10, tick_ms=10, dialect=dialect) for dialect in get_args(Dialect)}


@pytest.fixture(scope="module")
def gateway(port: int, bytecode: Path) -> Iterator[Target]:
    """The interpreted gateway with the translated models."""
    models = ("short", *(script.model for script in TRANSLATED.values()))
    target = start(SYSTEMS["gateway-interpreted"], Deployment(provider_port=port, core=None, models=models, bytecode=bytecode))
    yield target
    target.stop()


@pytest.mark.parametrize(("dialect", "endpoint"), [("openai", "messages"), ("anthropic", "chat/completions")])
def test_translated_streams_are_measured_to_the_last_event(
    gateway: Target, dialect: Dialect, endpoint: Literal["messages", "chat/completions"]
) -> None:
    load = Load(shape="streams", connections=3, timeout_s=10.0, endpoint=endpoint)
    workload = Workload(load=load, port=gateway.port, model=TRANSLATED[dialect].model, pid=gateway.pid)
    result = asyncio.run(run_load(workload))
    assert result.failed is None
    assert result.event_delay is not None
    assert (result.requests, result.event_delay.count > 3) == (3, True)


def test_every_system_has_a_unique_name_and_title_and_an_install_hint() -> None:
    assert list(SYSTEMS) == ORDER
    assert len({system.title for system in SYSTEMS.values()}) == len(SYSTEMS)
    assert all(system.install_hint for system in SYSTEMS.values())


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("authority", [None, Path("/ca.pem")])
def test_each_configuration_contains_the_provider_and_its_certificate_authority(
    name: str, authority: Path | None, tmp_path: Path
) -> None:
    deployment = Deployment(provider_port=4321, core=None, models=("short",), bytecode=tmp_path, tls=authority, more_models=2)
    system = SYSTEMS[name]
    texts = [
        *system.prepare(tmp_path, 8765, deployment),
        *(f"{key}={value}" for key, value in system.environment(deployment).items()),
    ]
    texts += [f"{key}: {value}" for key, value in system.headers(deployment)]
    texts += [path.read_text(errors="replace") for path in tmp_path.iterdir()]
    assert any("4321" in text for text in texts)
    assert any("8765" in text for text in texts)
    assert any("/ca.pem" in text for text in texts) == (authority is not None)
    if name.startswith("gateway") or name == "litellm":
        assert all(any(model in text for text in texts) for model in ("another-0", "another-1", "short"))


def test_a_deployment_can_override_members_of_the_gateways_configuration(tmp_path: Path) -> None:
    deployment = Deployment(provider_port=1, core=None, models=("short",), bytecode=tmp_path, gateway={"access_log": None})
    path = Path(SYSTEMS["gateway"].prepare(tmp_path, 2, deployment)[0])
    assert msgspec.json.decode(path.read_bytes())["access_log"] is None


def ensure_installed(command: tuple[str, ...] | None, error: Exception | None, *, install: bool = True) -> tuple[bool, str]:
    def attempt() -> None:
        if error is not None:
            raise error

    return peers.ensure_installed(peers.Peer(system=Command(line=command), install=attempt), install=install)


def test_the_installation_of_a_peer_returns_its_result_and_the_reason_of_a_failure() -> None:
    failure = subprocess.CalledProcessError(1, ["npm", "ci"], "", "first\nlast")
    assert ensure_installed(("it",), None) == (True, "already installed (1)")
    assert ensure_installed(None, None, install=False) == (False, "not installed: write it")
    assert ensure_installed(None, failure) == (False, "failed: npm ci: last")
    assert ensure_installed(None, OSError("no way")) == (False, "failed: no way")
    assert ensure_installed(None, None) == (False, "failed: the installation succeeded, but the program is not found")
