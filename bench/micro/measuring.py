"""Starts the measuring process, under valgrind or without, and makes one figure of what each case left behind."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.micro.findings import Counted, Failed, Found, Said, Timed
from bench.micro.report import Figure

_COLLECTED: Final = re.compile(r"^==\d+== Collected : (\d+)$", re.MULTILINE)


def measure(names: Sequence[str], environment: Mapping[str, str], *, counts: bool) -> Iterator[tuple[str, Figure]]:
    """The cases of these names, measured one after the other in a build; each has a figure, be it a failure."""
    left = list(names)
    with tempfile.TemporaryDirectory() as home, (Path(home) / "stderr").open("w+") as errors:
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={home}/log.%p"]
        command = [sys.executable, "-P", "-m", "bench.micro.child", "count" if counts else "times", *names]
        command = [*valgrind, *command] if counts else command
        with subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=errors) as process:
            try:
                for line in process.stdout or ():
                    said = msgspec.json.decode(line, type=Said)
                    left.remove(said.name)
                    yield said.name, figure(said.found, Path(home))
            finally:
                process.terminate()
        last = (Path(home) / "stderr").read_text().strip().splitlines()[-1:]
        for name in left:
            yield name, Figure(failed=f"the measuring process ended before it: {' '.join(last) or 'it said nothing'}")


def figure(found: Found, logs: Path) -> Figure:
    """One figure of what was found; `logs` is where valgrind's are."""
    match found:
        case Failed():
            return Figure(failed=found.reason)
        case Timed():
            return Figure(value=found.ratio, reference_ns=found.reference_ns)
        case Counted():
            try:
                few, many = (collected(logs / f"log.{number}") for number in (found.few_process, found.many_process))
                return Figure(value=per_operation(few, found.few, many, found.many))
            except (OSError, ValueError) as error:
                return Figure(failed=str(error))


def per_operation(few_instructions: int, few: int, many_instructions: int, many: int) -> float:
    """What one operation takes: the difference of two counts, in which all that both have in common is gone."""
    if many <= few:
        raise ValueError(f"{many} operations are not more than {few}")
    if many_instructions <= few_instructions:
        raise ValueError(f"{many} operations took {many_instructions} instructions, {few} took {few_instructions}")
    return (many_instructions - few_instructions) / (many - few)


def collected(log: Path) -> int:
    """The instructions that callgrind says at a process's end. Raises OSError or ValueError."""
    found = _COLLECTED.search(log.read_text())
    if found is None:
        raise ValueError("callgrind has not said how many instructions there were")
    return int(found[1])
