"""A process that is killed at any moment leaves a database that can be opened, with all that it acknowledged, and once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.processes import environment
from tests.store.factories import on_disk, opened, purchase
from tests.waiting import PATIENCE_S

ROUNDS = int(os.environ.get("KYMA_KILLS", "4"))
"""How often the process is killed."""

LIVES = """
import asyncio, contextlib, itertools, sys
from pathlib import Path
from kyma_proxy.store.contract import EmailTaken
from tests.store.factories import FAST, account, charge, key, opened, purchase

NAMES = [f"account-{number}" for number in range(20)]

async def pays(store, life, payer):
    for number in itertools.count():
        payment = f"{life}-{payer}-{number}"
        await store.add_entry(purchase(NAMES[payer], payment, 1_000 + number))
        print("paid", NAMES[payer], payment, 1_000 + number, flush=True)

async def uses(store, life):
    for number in itertools.count():
        for one in range(50):
            store.charge(charge(NAMES[(number + one) % 20], f"{life}-{number}-{one}", 7, key=f"key-{one % 3}"))
        if number % 3 == 0:
            await store.flush()
            print("used", f"{life}-{number}", flush=True)
        await asyncio.sleep(0.001)

async def main():
    life = sys.argv[2]
    with opened(Path(sys.argv[1]), FAST._replace(busy_timeout=1.0)) as store:
        for name in NAMES:
            with contextlib.suppress(EmailTaken):
                await store.create_account(account(name), key("key-" + name, name), [])
        print("lives", flush=True)
        await asyncio.gather(uses(store, life), *(pays(store, life, payer) for payer in range(5)))

asyncio.run(main())
"""


def live_and_die(path: Path, life: int, lines: int) -> list[list[str]]:
    """The lines with which a process acknowledged its writes until it was killed, after so many lines at least."""
    command = [sys.executable, "-c", LIVES, str(path), str(life)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        output = [process.stdout.readline() for _ in range(lines + 1)]
        process.kill()
        output += process.stdout.readlines()
        assert (process.wait(PATIENCE_S), process.stderr.read()) == (-signal.SIGKILL, "")
    assert output[0] == "lives\n"
    return [line.split() for line in output[1:] if line.endswith("\n")]


async def test_kill_9_loses_nothing_that_was_acknowledged_and_doubles_nothing(tmp_path: Path) -> None:
    path, random = tmp_path / "db", Random(7)
    paid: set[tuple[str, str, int]] = set()
    used: set[str] = set()
    for life in range(ROUNDS):
        for what, *words in live_and_die(path, life, random.choice((0, 1, 30, 300))):
            if what == "paid":
                paid.add((words[0], words[1], int(words[2])))
            else:
                used.add(words[0])
        with opened(path, check_integrity=True):  # so the lock is free, and each balance is its ledger's sum
            pass
        ledger = on_disk(path, "SELECT account, reference, amount FROM entries WHERE kind = 'purchase'")
        assert paid <= set(ledger)
        assert len(ledger) == len(set(ledger))
        charged = {reference for (reference,) in on_disk(path, "SELECT reference FROM entries WHERE kind = 'usage'")}
        assert {f"{group}-{one}" for group in used for one in range(50)} <= charged
        assert on_disk(path, "SELECT sum(requests), sum(cost) FROM usage") == [(len(charged) or None, 7 * len(charged) or None)]
    with opened(path) as store:
        for holder, payment, amount in sorted(paid)[-50:]:
            assert not (await store.add_entry(purchase(holder, payment, amount))).is_new
