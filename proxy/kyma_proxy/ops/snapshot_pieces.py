"""Takes a snapshot apart into pieces that are put together in slices: between two of them the loop serves streams.

A configuration of thousands of models is compiled in a process of its own. A snapshot that is unpickled at once would hold up
every stream for as long as that takes, and so would one that is freed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import pickle
import weakref
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kyma_proxy.config.snapshot import Model, Provider, Route, Snapshot, Timeouts
from kyma_proxy.net.small_slices import SLICE_S

_TEXTS_A_PIECE: Final = 1000
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
_SHARED: Final = (Provider, Timeouts)


class _Packer:
    """Packs pieces. Objects that many of them share are packed once, before; each piece is unpacked and forgotten alone."""

    def __init__(self) -> None:
        self.shared: list[object] = []
        self._numbers: dict[int, int] = {}

    def pack(self, piece: object) -> bytes:
        """The piece as bytes; numbers stand in it for what is shared."""
        return _packed(piece, dict.fromkeys(_SHARED, self._reference))

    def _reference(self, one: object) -> tuple[object, tuple[int]]:
        number = self._numbers.setdefault(id(one), len(self.shared))
        if number == len(self.shared):
            self.shared.append(one)
        return shared_object, (number,)


def _packed(piece: object, forms: Mapping[type, Callable[[Any], Any]]) -> bytes:
    """The piece as bytes, with forms of some types; of views of mappings, too, which pickle does not know."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {**forms, MappingProxyType: lambda view: (_view, (dict(view),))}
    pickler.dump(piece)
    return file.getvalue()


class _Unpickler(pickle.Unpickler):
    def __init__(self, piece: bytes, shared: list[object]) -> None:
        super().__init__(io.BytesIO(piece))
        self._shared = shared

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of this name; for `shared_object` one that knows the objects."""
        return self._shared.__getitem__ if name == shared_object.__name__ else super().find_class(module, name)


def shared_object(number: int) -> object:
    """The shared object with this number. Raises NotImplementedError: only a piece that is unpacked here knows it."""
    raise NotImplementedError


def _view(members: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(members)


def take_apart(snapshot: Snapshot) -> list[bytes]:
    """The pieces of a snapshot: what many of them share, one for each model with its routes, and the rest."""
    packer = _Packer()
    pieces = []
    for name, model in snapshot.models.items():
        routes = [(endpoint, members[name]) for endpoint, members in snapshot.routes.items() if name in members]
        pieces.append(packer.pack((name, model, routes)))
    written = list(snapshot.substitutions.written.items())
    pieces += [packer.pack(written[at : at + _TEXTS_A_PIECE]) for at in range(0, len(written), _TEXTS_A_PIECE)]
    listed = {id(model): name for name, model in snapshot.models.items()}
    rest = replace(
        snapshot, entries=(), models=_EMPTY, routes=_EMPTY,
        substitutions=msgspec.structs.replace(snapshot.substitutions, written={}),
    )  # fmt: skip
    entries = [listed.get(id(model), model) for model in snapshot.entries]
    pieces.append(packer.pack((entries, list(snapshot.routes), rest)))
    return [_packed(packer.shared, {}), *pieces]


def put_together(pieces: list[bytes]) -> Generator[None, None, Snapshot]:
    """The snapshot of these pieces; yields after each."""
    first, *others, last = pieces
    shared = _Unpickler(first, []).load()
    yield
    models: dict[str, Model] = {}
    routes: dict[str, dict[str, Route]] = {}
    written: dict[str, str] = {}
    for piece in others:
        unpacked = _Unpickler(piece, shared).load()
        if isinstance(unpacked, list):
            written.update(unpacked)
        else:
            name, model, found = unpacked
            models[name] = model
            for endpoint, route in found:
                routes.setdefault(endpoint, {})[name] = route
        yield
    entries, endpoints, rest = _Unpickler(last, shared).load()
    yield
    result: Snapshot = replace(
        rest,
        entries=tuple([models[one] if isinstance(one, str) else one for one in entries]),
        models=MappingProxyType(models),
        routes=MappingProxyType({endpoint: MappingProxyType(routes.get(endpoint, {})) for endpoint in endpoints}),
        substitutions=msgspec.structs.replace(rest.substitutions, written=written),
    )
    return result


def free_in_slices(snapshot: Snapshot, loop: asyncio.AbstractEventLoop) -> None:
    """When nobody uses this snapshot any more, free its parts a few in each turn of the loop."""
    steps = _free([snapshot.models, *snapshot.routes.values()])

    def turn() -> None:
        started = perf_counter()
        while perf_counter() - started < SLICE_S:
            if next(steps, None) is None:
                return
        loop.call_soon(turn)

    def begin() -> None:
        """The last who used it may be a thread, or the end of the program."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(turn)

    # A compiled object has no weak references; but its substitutions are its own.
    weakref.finalize(snapshot.substitutions, begin).atexit = False


def _free(tables: list[Mapping[str, Any]]) -> Generator[bool, None, None]:
    while tables:
        values = list(tables.pop().values())
        yield True
        while values:
            values.pop()
            yield True
