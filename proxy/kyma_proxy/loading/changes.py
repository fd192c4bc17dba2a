"""Compares the written forms of two configurations, and says what differs, key by key.

Entries are found by their names, so an entry that has moved is not another one. No secret is in what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from kyma_proxy.config.reload_result import Change
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.kinds import Kind, element_of, is_section
from kyma_proxy.loading.reference.fields import NOT_SHOWN, fields_of
from kyma_proxy.loading.reference.key import AT_ONCE, Key
from kyma_proxy.loading.written_form import Form, has_names, has_secret, is_open

_MOVED: Final = "(in another order)"


class _Place(NamedTuple):
    """The place of a value: its path, its type, the innermost key, its default, and the name of the entry around it."""

    path: str
    kind: Kind
    key: Key
    default: str | None
    name: str | None


def find_changes(before: Form, after: Form) -> list[Change]:
    """Everything that differs, in the order of the file."""
    return [*_compare_sections(before, after, "", doc.Document, None)]


def _compare_sections(before: Form, after: Form, path: str, struct: Any, name: str | None) -> Iterator[Change]:
    for field in fields_of(struct):
        at = f"{path}.{field.name}" if path else field.name
        place = _Place(at, field.kind, field.key, field.default, name)
        yield from _compare(before.get(field.name), after.get(field.name), place)


def _compare(before: Any, after: Any, place: _Place) -> Iterator[Change]:
    """The differences of two values; None is one that has its default."""
    if before == after:
        return
    element = element_of(place.kind)
    empty: Any = [] if has_names(place.kind) else {}
    was, will = (empty if one is None and place.default in (None, "[]", "{}") else one for one in (before, after))
    if is_section(place.kind) and isinstance(was, dict) and isinstance(will, dict):
        yield from _compare_sections(was, will, place.path, place.kind.type, place.name)
    elif element is not None and has_names(place.kind) and _is_list(was) and _is_list(will):
        yield from _compare_lists(was, will, place, element)
    elif element is not None and isinstance(was, dict) and isinstance(will, dict) and not place.key.private:
        yield from _compare_entries(was, will, place, element)
    else:
        yield _changed(place, _shown(before, place), _shown(after, place))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in value)


def _compare_lists(before: list[Any], after: list[Any], place: _Place, element: Kind) -> Iterator[Change]:
    was, will = dict(before), dict(after)
    if len(was) < len(before) or len(will) < len(after):  # two of the same name: which is which is not known
        yield _changed(place, None, None)
        return
    yield from _compare_entries(was, will, place, element)
    if [name for name in was if name in will] != [name for name in will if name in was]:
        yield _changed(place, None, _MOVED)


def _compare_entries(was: Mapping[str, Any], will: Mapping[str, Any], place: _Place, element: Kind) -> Iterator[Change]:
    for name in {**was, **will}:
        inner = _Place(f"{place.path}[{name}]", element, place.key, None, place.name or name)
        if name in was and name in will:
            yield from _compare(was[name], will[name], inner)
            continue
        is_new = name in will
        text = None if is_section(element) else _shown(will[name] if is_new else was[name], inner)
        yield Change(
            path=inner.path, kind="added" if is_new else "removed", name=inner.name,
            before=None if is_new else text, after=text if is_new else None, reload=AT_ONCE,
        )  # fmt: skip


def _changed(place: _Place, before: str | None, after: str | None) -> Change:
    return Change(path=place.path, kind="changed", name=place.name, before=before, after=after, reload=place.key.reload)


def _shown(form: Any, place: _Place) -> str | None:
    """The value as people may see it; None if it is left out and has no default that could be written."""
    if form is None:
        return place.default
    if not isinstance(form, str):
        return _section_shown(form, place.kind) if isinstance(form, dict) and is_section(place.kind) else NOT_SHOWN
    return NOT_SHOWN if (place.key.private or has_secret(place.kind)) and not is_open(form) else form


def _section_shown(form: Form, kind: Kind) -> str:
    """A section that stands where there was none."""
    keys = {field.name: field for field in fields_of(kind.type)}
    shown = [
        f"{name}: {_shown(one, _Place('', keys[name].kind, keys[name].key, None, None))}"
        for name, one in form.items()
        if name in keys
    ]
    return f"{{{', '.join(shown)}}}"
