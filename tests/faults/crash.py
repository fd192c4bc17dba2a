"""Kills the gateway at random moments under load, again and again, and checks the ledger each time.

After every `kill -9` the database opens, with a check of all its laws; every purchase that was acknowledged is there; no
request is charged twice; and of the requests that ended, only those of the last moments may be missing.

    python -m tests.faults.crash [--rounds 50] [--callers 16] [--seed 1]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from aiohttp import ClientError, ClientSession

from tests.configurations import listeners, simulated_configuration
from tests.processes import free_port, serving, simulated_provider

_TOKEN = "an-admin-token-of-some-length"
_LOST_S = 0.1
_MARGIN_S = 0.05  # between the answer's end, as its caller sees it, and its settlement
_LIMITS = "rpm: 1000000, per_model_rpm: 1000000, tpm: 1000000000, max_request_tokens: 1000000"


class Judge:
    """Keeps the answers that callers and the operator got, and compares them with the ledger."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        """When each request's answer had come whole, by its id."""
        self.paid: set[str] = set()
        self.lost = self.charged = 0
        self.names = itertools.count()

    def compare(self, database: Path, killed: float) -> list[str]:
        """The faults of the ledger after a kill at this moment."""
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as ledger:
            charged = Counter(row[0] for row in ledger.execute("SELECT request_id FROM entries WHERE kind = 'usage'"))
            payments = Counter(row[0] for row in ledger.execute("SELECT reference FROM entries WHERE kind = 'purchase'"))
        wrong = [f"request {name} is charged {count} times" for name, count in charged.items() if count > 1]
        wrong += [f"payment {name} counts {count} times" for name, count in payments.items() if count > 1]
        wrong += [f"payment {name} was acknowledged and is not there" for name in self.paid if name not in payments]
        for name, at in list(self.ended.items()):
            if name in charged:
                self.charged += 1
            elif at < killed - _LOST_S - _MARGIN_S:
                wrong.append(f"request {name} ended {killed - at:.3f} s before the kill and is not charged")
            else:
                self.lost += 1
        self.ended.clear()
        return wrong


async def call(session: ClientSession, base: str, key: str, judge: Judge) -> None:
    """Send requests until the gateway is gone."""
    headers = {"Authorization": f"Bearer {key}"}
    document = {"model": "sim", "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
    with contextlib.suppress(ClientError, OSError):
        while True:
            name = f"r{next(judge.names)}"
            async with session.post(
                f"{base}/v1/chat/completions", json=document, headers={**headers, "x-request-id": name}
            ) as answer:
                body = await answer.read()
                if answer.status == 200 and body.rstrip().endswith(b"[DONE]"):
                    judge.ended[name] = time.monotonic()


async def pay(session: ClientSession, admin: str, account: str, judge: Judge) -> None:
    """Take in payments, as the operator, until the gateway is gone."""
    with contextlib.suppress(ClientError, OSError):
        while True:
            name = f"pay-{next(judge.names)}"
            async with session.post(
                f"{admin}/admin/accounts/{account}/purchases", json={"amount": 5, "payment_id": name},
                headers={"Authorization": f"Bearer {_TOKEN}"},
            ) as answer:  # fmt: skip
                if answer.status == 201:
                    judge.paid.add(name)
            await asyncio.sleep(0.01)


async def under_load(base: str, admin: str, judge: Judge, callers: int, *, seconds: float, kill: Callable[[], None]) -> float:
    """Load the gateway, and kill it after a while; returns when that was."""
    async with ClientSession() as session:
        async with session.post(
            f"{admin}/admin/accounts", json={"email": f"{next(judge.names)}@example.com", "grant": 1000},
            headers={"Authorization": f"Bearer {_TOKEN}"},
        ) as answer:  # fmt: skip
            made = await answer.json()
        load = [asyncio.create_task(call(session, base, made["api_key"], judge)) for _ in range(callers)]
        load.append(asyncio.create_task(pay(session, admin, made["id"], judge)))
        await asyncio.sleep(seconds)
        kill()
        killed = time.monotonic()
        await asyncio.gather(*load)
    return killed


def main() -> int:
    """Run all rounds; returns 0 if the ledger was right every time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    options = parser.parse_args()
    chance, judge = random.Random(options.seed), Judge()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as home, simulated_provider() as provider:
        directory = Path(home)
        listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        more = (
            f"accounts: {{required: true, database: 'sqlite:{directory}/kyma.db'}}\n"
            f"tiers: [{{tier: 0, min_purchased: 0, {_LIMITS}}}]\n"
        )
        sections = listeners(listen, access_log=directory / "access.log", admin=f"{{listen: '{admin}', token: {_TOKEN}}}")
        text = simulated_configuration(provider, more=f"{sections}{more}")
        for at in range(1, options.rounds + 1):
            with serving(text, directory, f"http://{listen}", "--check-accounts") as running:
                seconds = chance.uniform(0.05, 0.6)
                load = under_load(
                    f"http://{listen}", f"http://{admin}", judge, options.callers,
                    seconds=seconds, kill=running.process.kill,
                )  # fmt: skip
                killed = asyncio.run(load)
                running.process.wait()
            wrong += judge.compare(directory / "kyma.db", killed)
            print(
                f"{at} of {options.rounds}: {judge.charged} charged, {judge.lost} lost in the last moments, "
                f"{len(judge.paid)} payments acknowledged, {len(wrong)} wrong",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        with serving(text, directory, f"http://{listen}", "--check-accounts"):
            pass  # it opens, and its laws hold
    print(json.dumps({"charged": judge.charged, "lost": judge.lost, "payments": len(judge.paid), "wrong": wrong[:20]}))
    return 1 if wrong or not judge.charged or not judge.paid else 0


if __name__ == "__main__":
    sys.exit(main())
