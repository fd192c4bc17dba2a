"""Reads the profiles that callgrind writes: the instructions of each function, by itself and with all that it calls.

The format is described in the Callgrind Format Specification of valgrind's manual: names are written once and then referred to
by a number, and the line after `calls=` has the cost of these calls.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

_NAME: Final = re.compile(r"(c?(?:ob|fn|fi|fl|fe|cfi|cfl))=\((\d+)\)(?: (.+))?\n?")
_COST: Final = re.compile(r"(?:[+-]?\d+|\*) (\d+)\n?")
_TICK: Final = "CPyPy_sweeper___Sweeper____tick"
_OURS: Final = re.compile(r"CPyDef_|CPyPy_")


class Function(NamedTuple):
    """A function, and the shared object that it is in."""

    name: str
    shared_object: str

    @property
    def is_ours(self) -> bool:
        """True if it is a compiled one of the gateway."""
        return "kyma_proxy__mypyc" in self.shared_object or _OURS.match(self.name) is not None


class Profile(NamedTuple):
    """Instructions by function: `own` without and `inclusive` with all that it calls, but for calls of itself.

    `calls` is how often each was called.
    """

    own: Counter[Function]
    inclusive: Counter[Function]
    calls: Counter[Function]

    @property
    def total(self) -> int:
        """All instructions."""
        return self.own.total()

    @property
    def ticks(self) -> int:
        """The number of times the gateway's periodic work was done; 0 for another system."""
        return sum(count for function, count in self.calls.items() if function.name == _TICK)


def read(paths: Iterable[Path]) -> Profile:
    """Read one profile of several threads. Raises OSError, ValueError."""
    own: Counter[Function] = Counter()
    called: Counter[Function] = Counter()
    calls: Counter[Function] = Counter()
    for path in paths:
        with path.open() as lines:
            _read(lines, own, called, calls)
    return Profile(own, own + called, calls)


def _read(lines: Iterable[str], own: Counter[Function], with_calls: Counter[Function], calls: Counter[Function]) -> None:
    names: dict[tuple[str, str], str] = {}
    shared_object = called_object = ""
    function = called = Function("", "")
    is_call = False
    for line in lines:
        if match := _NAME.fullmatch(line):
            key, number, name = match.groups()
            kind = key.removeprefix("c")[:1]
            if name is not None:
                names[kind, number] = name
            name = names[kind, number]
            if key == "ob":
                shared_object = called_object = name
            elif key == "cob":
                called_object = name
            elif key == "fn":
                function, called_object = Function(name, shared_object), shared_object
            elif key == "cfn":
                called, called_object = Function(name, called_object), shared_object
        elif line.startswith("calls="):
            is_call = True
            calls[called] += int(line.removeprefix("calls=").partition(" ")[0])
        elif match := _COST.fullmatch(line):
            cost = int(match[1])
            if not is_call:
                own[function] += cost
            elif called != function:
                with_calls[function] += cost
            is_call = False


def per_unit(profile: Profile, idle: Profile, share: float, units: int) -> Profile:
    """The instructions of one unit of work: without `share` times what the system took while it was idle. Pure."""
    return Profile(
        *(
            Counter({function: round((count - share * nothing[function]) / units) for function, count in some.items()})
            for some, nothing in zip(profile, idle, strict=True)
        )
    )


_OBJECTS: Final = {
    "parser": "llhttp and httptools", "url_parser": "llhttp and httptools", "loop": "uvloop and libuv", "_core": "msgspec",
    "libsqlite3": "SQLite", "_sqlite3": "SQLite", "libc": "the C library",
}  # fmt: skip
"""The shared objects whose instructions are for one thing, by the start of their names."""
_INTERPRETER: Final = {
    "the interpreter: attribute access": re.compile(
        r"_?PyObject_(Generic)?(GetAttr|SetAttr|GetMethod|LookupAttr).*|_PyType_Lookup|_Py_dict_lookup.*|unicodekeys_lookup.*|"
        r"insertdict|slot_tp_getattr.*|member_get|PyMember_GetOne|PyDict_GetItem.*"
    ),
    "the interpreter: objects and memory": re.compile(
        r"_?PyObject_(Malloc|Free|Realloc|GC_.*)|_?PyMem_.*|PyType_GenericAlloc|gc_.*|.*dealloc|_Py_NewReference|"
        r"_?PyObject_GC_.*|subtract_refs|visit_.*|.*_traverse"
    ),
    "the interpreter: its loop and calls": re.compile(
        r"_PyEval_.*|_PyFunction_Vectorcall|.*[vV]ectorcall.*|_Py_CheckFunctionResult"
    ),
}
_OURS_TITLE, _OTHER_PYTHON, _OTHER = "compiled functions of ours", "the interpreter: the rest", "everything else"


def shares(profile: Profile) -> Counter[str]:
    """The instructions by what they are for. Pure."""
    found: Counter[str] = Counter()
    for function, count in profile.own.items():
        found[_purpose(function)] += count
    return found


def _purpose(function: Function) -> str:
    if function.is_ours:
        return _OURS_TITLE
    where = Path(function.shared_object).name
    title = _OBJECTS.get(where.partition(".")[0])
    if title is not None:
        return title
    if not where.startswith(("libpython", "python")):
        return _OTHER
    for title, pattern in _INTERPRETER.items():
        if pattern.fullmatch(function.name.partition("'")[0]):
            return title
    return _OTHER_PYTHON
