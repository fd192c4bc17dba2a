"""Fuzzes the targets one after the other with atheris: `python -m tests.fuzz [--minutes 10] [--only TARGET] [--replay FILE]`.

Coverage guides it, in the plain files of the package. What it finds is left under build/fuzz, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.catalogue import CORPUS, HERE, TARGETS
from tests.fuzz.target import Target

ROOT = HERE.parent.parent
WORK = ROOT / "build" / "fuzz"
_SLOWEST_S = 10
_MAX_MIB = 2048
_GRACE_S = 60.0
_EXECUTED = re.compile(rb"stat::number_of_executed_units:\s*(\d+)|^#(\d+)\s", re.MULTILINE)


def main() -> int:
    """Run what the arguments ask for; 1 if a law was broken."""
    options = _options()
    chosen = [TARGETS[name] for name in options.only or TARGETS]
    if options.replay:
        for target in chosen:
            target.law(options.replay.read_bytes())
        print("kept")
        return 0
    total, broken = 0, []
    for target in chosen:
        started = time.monotonic()
        executed, found = fuzz(target, options.minutes * 60 / len(chosen))
        total += executed
        print(f"{target.name:32} {executed:>12,} executions {time.monotonic() - started:7.0f} s", flush=True)
        for path in found:
            broken.append(path)
            print(f"  broken by {path}\n  PYTHONPATH=proxy {sys.executable} -m tests.fuzz --only {target.name} --replay {path}")
    print(f"{'all':32} {total:>12,} executions")
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--only", action="append", choices=[*TARGETS], metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="hold this input against the laws, without atheris")
    return parser.parse_args()


def fuzz(target: Target, seconds: float) -> tuple[int, list[Path]]:
    """Fuzz a target for so long. Returns the number of executions, and the inputs that have broken its law."""
    own, seeds, found = (WORK / part / target.name for part in ("corpus", "seeds", "found"))
    for directory in (own, seeds, found):
        directory.mkdir(parents=True, exist_ok=True)
    for at, data in enumerate(target.seeds()):
        (seeds / f"{at:03}").write_bytes(data)
    inputs = [str(directory) for directory in (own, CORPUS / target.name, seeds) if directory.exists()]
    words = WORK / f"{target.name}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words or (b"null",)))
    before = {*found.iterdir()}
    log = WORK / f"{target.name}.log"
    with log.open("wb") as output:
        subprocess.run(
            [
                sys.executable, "-m", "tests.fuzz.child", target.name, f"-max_total_time={max(1, round(seconds))}",
                f"-max_len={target.max_bytes}", f"-timeout={_SLOWEST_S}", f"-rss_limit_mb={_MAX_MIB}", f"-dict={words}",
                f"-artifact_prefix={found}/", "-print_final_stats=1", *inputs,
            ],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'proxy'}:{ROOT}"}, stdout=output, stderr=subprocess.STDOUT,
            timeout=seconds + _GRACE_S, check=False,
        )  # fmt: skip
    counts = [int(match[1] or match[2]) for match in _EXECUTED.finditer(log.read_bytes())]
    if not counts:
        raise SystemExit(f"{target.name} did not run; {log} says why")
    return max(counts), sorted({*found.iterdir()} - before)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
