"""Prints where nginx's verdict on the corpus differs from the gateway's: `make hostile-nginx`.

nginx stands as a proxy before the recording provider, with its defaults. The gateway's verdicts are the corpus's, to which the
tests hold it. A verdict is the statuses of the answers, and the number of requests that arrived at the provider.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from asyncio.subprocess import Process
from collections import defaultdict
from pathlib import Path

from tests.hostile.corpus import CASES, RELAYED, Case
from tests.hostile.recorder import Recorder, recorder
from tests.processes import free_port

SILENCE_S = 0.5
"""nginx waits longer than this for nothing, so that a silence means that it waits for the rest of a request."""
START_S = 10.0
AT_ONCE = 64
CONFIGURATION = """\
daemon off; pid {directory}/pid; error_log {directory}/errors; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {directory}/bodies; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s; client_max_body_size 32m; large_client_header_buffers 4 64k;
  server {{
    listen 127.0.0.1:{port};
    location = {path} {{ proxy_pass http://127.0.0.1:{provider}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5][0-9][0-9]) ")


def verdict(statuses: list[int], arrived: int) -> str:
    """A verdict in a few characters."""
    answers = " ".join(map(str, statuses)) or "no answer"
    return f"{answers}, {arrived} arrived" if arrived else answers


async def ask(port: int, wire: bytes, *, half_close: bool) -> list[int]:
    """The statuses of what comes back until the connection ends or is silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        writer.write(wire)
        if half_close:
            writer.write_eof()
        while piece := await asyncio.wait_for(reader.read(65536), SILENCE_S):
            got += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return [int(status) for status in _STATUS.findall(got)]


async def judged(port: int, provider: Recorder) -> list[tuple[Case, str]]:
    """What nginx says of each case."""
    free = asyncio.Semaphore(AT_ONCE)

    async def judge(at: int, case: Case) -> list[int]:
        async with free:
            return await ask(port, case.wire(str(at)), half_close=case.entry.half_close)

    statuses = await asyncio.gather(*(judge(at, case) for at, case in enumerate(CASES)))
    arrived = defaultdict[str, int](int)
    for one in provider.arrivals:
        arrived[one.tag] += 1
    if arrived[""]:
        print(f"{arrived['']} requests behind a framing that the gateway refuses have arrived through nginx.\n")
    return [(case, verdict(statuses[at], arrived[str(at)])) for at, case in enumerate(CASES)]


async def wait_until_it_listens(process: Process, port: int) -> None:
    """Return when nginx takes connections."""
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise SystemExit("nginx does not start; see what it says above")


async def main() -> None:
    """Ask nginx, and print the table."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise SystemExit("nginx is not installed; on Debian: apt-get install nginx-light")
    async with recorder() as provider:
        with tempfile.TemporaryDirectory() as directory:
            port = free_port()
            text = CONFIGURATION.format(directory=directory, port=port, provider=provider.port, path=RELAYED)
            file = Path(directory) / "nginx.conf"
            file.write_text(text)
            process = await asyncio.create_subprocess_exec(program, "-c", str(file))
            try:
                await asyncio.wait_for(wait_until_it_listens(process, port), START_S)
                verdicts = await judged(port, provider)
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()
    ours = {case.name: verdict(case.answers(), len(case.received(case.answers()))) for case in CASES}
    others = [(case, theirs) for case, theirs in verdicts if theirs != ours[case.name]]
    width = max(len(case.name) for case, _ in others)
    print(f"{'request':{width}}  {'gateway':24}  nginx")
    for case, theirs in others:
        print(f"{case.name:{width}}  {ours[case.name]:24}  {theirs}")
    print(f"\n{len(others)} of {len(CASES)} verdicts differ.")


if __name__ == "__main__":
    asyncio.run(main())
