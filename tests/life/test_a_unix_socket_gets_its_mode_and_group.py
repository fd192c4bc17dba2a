"""`unix:/path.sock?mode=0660&group=app`: the socket's file has both before anybody can connect."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import stat
from pathlib import Path

import pytest

from kyma_proxy.config.addresses import parse_address
from kyma_proxy.config.snapshot import UnixAddress
from kyma_proxy.errors import StartError
from kyma_proxy.ops.listening import open_sockets
from tests.processes import command
from tests.serving_place import ended, place


@pytest.mark.parametrize("mode", ["0600", "660", "0666", "0770"])
def test_the_file_has_the_mode(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "kyma.sock"
    (listening,) = open_sockets("listen", parse_address(f"unix:{path}?mode={mode}"))
    with listening:
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)


@pytest.mark.parametrize("by", ["name", "number"])
def test_the_file_has_the_group(tmp_path: Path, by: str) -> None:
    path, group = tmp_path / "kyma.sock", os.getgroups()[-1] if os.getgroups() else os.getgid()
    name = grp.getgrgid(group).gr_name if by == "name" else str(group)
    (listening,) = open_sockets("listen", parse_address(f"unix:{path}?group={name}&mode=0660"))
    with listening:
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (group, 0o660)


def test_a_group_that_is_not_there_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "kyma.sock"
    with pytest.raises(StartError, match="the group nobody-knows-it is not there"):
        open_sockets("listen", parse_address(f"unix:{path}?group=nobody-knows-it"))
    assert not path.exists()


def test_without_options_the_file_is_as_the_system_makes_it() -> None:
    assert parse_address("unix:/run/kyma.sock") == UnixAddress("/run/kyma.sock")
    assert str(parse_address("unix:/run/kyma.sock?mode=0660&group=app")) == "unix:/run/kyma.sock"


@pytest.mark.parametrize(
    "query", ["", "mode=", "mode=rw", "mode=0999", "mode=06600", "group=", "group=a b", "owner=root", "mode"]
)
def test_other_options_are_refused_with_an_example(query: str) -> None:
    with pytest.raises(ValueError, match="mode=0660&group=app"):
        parse_address(f"unix:/run/kyma.sock?{query}")


async def test_a_process_that_takes_the_place_of_another_gives_the_file_its_own_mode_and_group(tmp_path: Path) -> None:
    path = tmp_path / "kyma.sock"
    async with place(tmp_path, f"unix:{path}") as here, contextlib.AsyncExitStack() as stack:
        plain, before = here.text, await stack.enter_async_context(here.serving())
        usual = (path.stat().st_mode, path.stat().st_gid)
        group = os.getgroups()[-1] if os.getgroups() else os.getgid()
        for query, expected in (("?mode=0600", 0o600), (f"?mode=0660&group={group}", 0o660), ("", None)):
            here.text = plain.replace(f"'unix:{path}'", f"'unix:{path}{query}'")
            after = await stack.enter_async_context(here.serving("--replace"))
            assert await ended(before) == 0
            found = path.stat()
            assert (found.st_mode, found.st_gid) == usual if expected is None else stat.S_IMODE(found.st_mode) == expected
            assert await here.ask() == 200
            before = after
        path.unlink()  # whoever has done this has made the gateway unreachable
        here.text = plain
        await stack.enter_async_context(here.serving("--replace"))
        assert await here.ask() == 200
        here.text = plain.replace(f"'unix:{path}'", f"'unix:{path}?group=nobody-knows-it'")
        (tmp_path / "other.yaml").write_text(here.text)
        result = await asyncio.to_thread(command, "serve", "--config", tmp_path / "other.yaml", "--replace")
        assert (result.returncode, "the group nobody-knows-it is not there" in result.stderr) == (1, True)
        assert await here.ask() == 200
