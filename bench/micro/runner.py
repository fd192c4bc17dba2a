"""Runs the measuring process, with valgrind or without, and makes one figure of the result of each case."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.micro.report import Figure
from bench.micro.results import CaseResult, Failure, InstructionCounts, RelativeTime, Result

_COLLECTED: Final = re.compile(r"^==\d+== Collected : (\d+)$", re.MULTILINE)


def measure_cases(names: Sequence[str], environment: Mapping[str, str], *, counts: bool) -> Iterator[tuple[str, Figure]]:
    """Measure the named cases of a build one after the other. Each gets a figure, which may be a failure."""
    missing = list(names)
    with tempfile.TemporaryDirectory() as home, (Path(home) / "stderr").open("w+") as errors:
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={home}/log.%p"]
        command = [sys.executable, "-P", "-m", "bench.micro.child", "count" if counts else "times", *names]
        command = [*valgrind, *command] if counts else command
        with subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=errors) as process:
            try:
                for line in process.stdout or ():
                    case = msgspec.json.decode(line, type=CaseResult)
                    missing.remove(case.name)
                    yield case.name, figure_of(case.result, Path(home))
            finally:
                process.terminate()
        last_line = "".join((Path(home) / "stderr").read_text().strip().splitlines()[-1:]) or "(no output)"
        for name in missing:
            yield name, Figure(failed=f"the measuring process ended before this case: {last_line}")


def figure_of(result: Result, logs: Path) -> Figure:
    """Makes the figure of a result. `logs` is the directory of valgrind's logs."""
    match result:
        case Failure():
            return Figure(failed=result.reason)
        case RelativeTime():
            return Figure(value=result.ratio, reference_ns=result.reference_ns)
        case InstructionCounts():
            try:
                few, many = (_read_count(logs / f"log.{number}") for number in (result.few_process, result.many_process))
                return Figure(value=per_operation(few, result.few, many, result.many))
            except (OSError, ValueError) as error:
                return Figure(failed=str(error))


def per_operation(few_instructions: int, few: int, many_instructions: int, many: int) -> float:
    """The instructions of one operation: in the difference of two counts, everything that both share cancels out."""
    if many <= few:
        raise ValueError(f"{many} operations are not more than {few}")
    if many_instructions <= few_instructions:
        raise ValueError(f"{many} operations took {many_instructions} instructions, {few} took {few_instructions}")
    return (many_instructions - few_instructions) / (many - few)


def _read_count(log: Path) -> int:
    """The instruction count that callgrind writes at a process's end. Raises OSError or ValueError."""
    match = _COLLECTED.search(log.read_text())
    if match is None:
        raise ValueError("callgrind wrote no instruction count")
    return int(match[1])
