"""`serve --replace` takes the place of a running gateway: nobody is refused or cut, and a failed start changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kyma_proxy.config.snapshot import TcpAddress
from kyma_proxy.errors import StartError
from kyma_proxy.ops import control_socket
from kyma_proxy.ops.control_socket import PROTOCOL
from kyma_proxy.ops.predecessor import Predecessor, find_predecessor
from kyma_proxy.ops.replacing import Replaceable, Successor
from tests.harness import DONE, LAST_CHUNK, chunk, event, head
from tests.processes import command
from tests.serving_place import ended, place
from tests.waiting import PATIENCE_S, until

CALLERS = 20


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_streams_end_whole_idle_callers_stay_connected_and_new_ones_are_never_refused(tmp_path: Path, kind: str) -> None:
    async with place(tmp_path, f"unix:{tmp_path}/kyma.sock" if kind == "unix" else "") as here, here.serving() as old:
        go_on = asyncio.Event()
        here.provider.plays(head() + chunk(event("one")), go_on, chunk(event("two")) + chunk(DONE) + LAST_CHUNK)
        streaming = await here.client()
        streaming.ask(stream=True)
        assert (await streaming.head()).status == 200
        assert await streaming.chunk() == event("one")
        idle = [await here.client() for _ in range(CALLERS)]
        for caller in idle:
            caller.ask()
            assert (await caller.answer()).status == 200
        idle += [await here.client() for _ in range(CALLERS)]  # these have said nothing yet
        statuses: list[int] = []

        async def keep_asking() -> None:
            while True:
                statuses.append(await here.ask())

        asking = [asyncio.ensure_future(keep_asking()) for _ in range(3)]
        async with here.serving("--replace") as new:
            await until(lambda: "another process serves" in old.stderr)
            for caller in idle:
                caller.ask()
                assert (await caller.answer()).status == 200
            assert not old.has_ended
            go_on.set()
            assert await streaming.rest() == event("two") + DONE
            streaming.ask()
            assert (await streaming.answer()).status == 200
            assert await ended(old) == 0
            served = len(statuses)
            await until(lambda: len(statuses) > served + 3)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            assert set(statuses) == {200}
            await until(lambda: "which was replaced, has ended" in new.stderr)
            assert await here.ask() == 200
            assert new.stderr.count("Traceback") == old.stderr.count("Traceback") == 0


async def test_one_that_starts_while_another_drains_keeps_its_socket(tmp_path: Path) -> None:
    async with place(tmp_path, f"unix:{tmp_path}/kyma.sock") as here, here.serving() as old:
        go_on = asyncio.Event()
        here.provider.plays(head() + chunk(event("one")), go_on, chunk(DONE) + LAST_CHUNK)
        streaming = await here.client()
        streaming.ask(stream=True)
        assert await streaming.head()
        old.signal(signal.SIGTERM)
        await until(lambda: not (tmp_path / "kyma.sock").exists())
        async with here.serving("--replace"):  # nobody can be replaced any more: it just starts
            go_on.set()
            await streaming.rest()
            assert await ended(old) == 0
            assert await here.ask() == 200


async def test_one_can_be_replaced_again_and_again(tmp_path: Path) -> None:
    async with place(tmp_path) as here, contextlib.AsyncExitStack() as stack:
        before = await stack.enter_async_context(here.serving("--replace"))  # nobody serves yet: it just starts
        for _ in range(3):
            after = await stack.enter_async_context(here.serving("--replace"))
            assert await ended(before) == 0
            assert await here.ask() == 200
            before = after


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ("models: [\n", 2, "nothing was started"),
        ("nothing: 1\n", 2, "nothing was started"),
        ("tls: {certificate: /nowhere.pem, key: /nowhere.pem}\n", 2, "can't be read"),
        ("access_log: /nowhere/access.log\n", 1, "no such file"),
    ],
)
async def test_a_new_process_that_fails_to_start_leaves_the_old_one_serving(
    tmp_path: Path, more: str, code: int, words: str
) -> None:
    async with place(tmp_path) as here, here.serving() as old:
        broken = tmp_path / "broken.yaml"
        text = here.text
        if more.startswith("access_log"):
            text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("access_log"))
        broken.write_text(text + more)
        result = await asyncio.to_thread(command, "serve", "--config", broken, "--replace")
        assert result.returncode == code, result.stderr
        assert words in result.stderr.lower()
        assert await here.ask() == 200
        assert not old.has_ended
        async with here.serving("--replace"):
            assert await ended(old) == 0


async def test_without_replace_an_address_in_use_stays_an_error(tmp_path: Path) -> None:
    async with place(tmp_path) as here, here.serving():
        config = tmp_path / "same.yaml"
        config.write_text(here.text)
        result = await asyncio.to_thread(command, "serve", "--config", config)
        assert result.returncode == 1
        assert "the address is in use" in result.stderr
        assert await here.ask() == 200


# ---- the protocol, message by message


class Serving:
    """A gateway that can be replaced, as far as the control socket is concerned."""

    def __init__(self, path: Path) -> None:
        self.events: list[str] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = TcpAddress(*self.listening.getsockname())
        self.replaceable = Replaceable(
            path, {("listen", str(self.address)): [self.listening]}, leave=self._leave, end=lambda: None, be_alone=lambda: None
        )

    def _leave(self, successor: Successor) -> None:
        assert successor.pid == os.getpid()
        self.events.append("leave")

    def close(self) -> None:
        """Wait for nobody any more."""
        self.replaceable.close()
        self.listening.close()


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[tuple[Path, Serving]]:
    """A process that can be replaced, and the path of its control socket."""
    path = tmp_path / "control.sock"
    made = Serving(path)
    yield path, made
    made.close()


def connected(path: Path) -> socket.socket:
    """A connection to a control socket."""
    found = control_socket.connect(path, PATIENCE_S)
    assert found is not None
    return found


@pytest.mark.parametrize("last", ["connect", "replace"])
async def test_a_new_process_that_dies_before_it_serves_changes_nothing(control: tuple[Path, Serving], last: str) -> None:
    path, made = control
    for _ in range(2):
        with connected(path) as new:
            if last != "connect":
                control_socket.send(new, {"replace": "1"})
                answer, descriptors = await asyncio.to_thread(control_socket.receive, new)
                listeners = [["listen", str(made.address)]]
                assert answer == {"pid": os.getpid(), "protocol": PROTOCOL, "accounts": False, "listeners": listeners}
                for descriptor in descriptors:
                    os.close(descriptor)
        await until(lambda: made.replaceable.is_free)
        assert not made.replaceable.was_replaced
        assert made.events == []


async def test_the_process_that_serves_leaves_once_the_other_does(control: tuple[Path, Serving]) -> None:
    path, made = control
    with connected(path) as new:
        control_socket.send(new, {"serving": True})
        assert await asyncio.to_thread(control_socket.receive, new) == ({"left": True}, [])
        await until(lambda: made.events == ["leave"])
        assert made.replaceable.was_replaced


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"[]",
        b"{",
        b"{}",
        b'{"ready": true}',
        b'{"serving": true, "accounts": true}',
        b'{"connections": 1}',
        b"\xff" * 1000,
    ],
)
async def test_a_message_that_is_none_changes_nothing(control: tuple[Path, Serving], data: bytes) -> None:
    path, made = control
    with connected(path) as new:
        socket.send_fds(new, [data], [made.listening.fileno()])
    await until(lambda: made.replaceable.is_free)
    assert made.events == []
    assert not made.replaceable.was_replaced


async def test_another_users_process_is_not_answered(control: tuple[Path, Serving], monkeypatch: pytest.MonkeyPatch) -> None:
    path, made = control
    monkeypatch.setattr(control_socket, "peer_of", lambda connection: None)
    with connected(path) as new:
        with contextlib.suppress(OSError):
            control_socket.send(new, {"replace": "1"})
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(control_socket.receive, new)
    assert made.events == []


def test_the_control_socket_is_its_users_alone(tmp_path: Path) -> None:
    address = TcpAddress("127.0.0.1", 8080)
    path = control_socket.path_of(address, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert path is not None
    with control_socket.listen(path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o755)
    assert control_socket.path_of(address, {"XDG_RUNTIME_DIR": str(tmp_path)}) is None
    with pytest.raises(StartError, match="alone"):
        find_predecessor(address, {"XDG_RUNTIME_DIR": str(tmp_path)})
    path.parent.chmod(0o700)
    assert find_predecessor(address, {"XDG_RUNTIME_DIR": str(tmp_path)}) is None


async def test_a_predecessor_that_answers_nonsense_is_a_clear_error() -> None:
    old, new = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with old, new:
        control_socket.send(old, {"pid": "x", "listeners": [["listen", "a:1"]]})
        with pytest.raises(StartError, match="it goes on serving"):
            Predecessor(new)


async def test_a_predecessor_that_speaks_otherwise_is_a_clear_error() -> None:
    old, new = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with old, new:
        control_socket.send(old, {"pid": 7, "accounts": False, "listeners": []})
        with pytest.raises(
            StartError, match="process 7 is of a version that this one can't replace, and goes on serving; stop it"
        ):
            Predecessor(new)


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_where_no_directory_can_be_written_a_gateway_serves_and_has_no_control_socket(tmp_path: Path, variable: str) -> None:
    """A container's root is often read-only, and then /tmp is as well."""
    assert control_socket.path_of(TcpAddress("127.0.0.1", 8080), {variable: str(tmp_path)}) is not None
    for unusable in (tmp_path / "absent", "/proc/self"):
        assert control_socket.path_of(TcpAddress("127.0.0.1", 8080), {variable: str(unusable)}) is None


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_directory_that_others_may_enter_holds_no_control_socket(tmp_path: Path, variable: str) -> None:
    """Whoever may enter it could be handed the gateway's listening sockets."""
    path = control_socket.path_of(TcpAddress("127.0.0.1", 8080), {variable: str(tmp_path)})
    assert path is not None
    path.parent.chmod(0o711)
    assert control_socket.path_of(TcpAddress("127.0.0.1", 8080), {variable: str(tmp_path)}) is None
