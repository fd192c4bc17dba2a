"""Finds what a reload would change, in the texts of the configuration in force and of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kyma_proxy.config.reload_result import Change
from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.config.units import Secret
from kyma_proxy.loading.changes import find_changes
from kyma_proxy.loading.reading import read_document
from kyma_proxy.loading.reference.fields import key_at
from kyma_proxy.loading.reference.key import REPLACE, RESTART
from kyma_proxy.loading.written_form import Form, sealed_with, written_form


def changes_between(
    before: str, after: str, environment: Mapping[str, str], needs_restart: tuple[str, ...]
) -> tuple[Change, ...]:
    """The changes of one text that was loaded into another.

    Of the settings that need a restart only those are changes that a reload would not take: an option may hold another.
    """
    changes = find_changes(*(_form_in_force(text, environment) for text in (before, after)))
    found = {change.path: change for change in changes}
    return (
        *(change for change in changes if change.reload not in (REPLACE, RESTART)),
        *(found.get(name) or _kept_before(name) for name in needs_restart),
    )


def changes_to(form: Form, text: str, environment: Mapping[str, str], token: Secret) -> tuple[Change, ...]:
    """The changes if the configuration with this text had the form, whose secrets are sealed with the token.

    The form comes from outside, so it is compared as it is written: no variable in it is replaced, and no file is read, as the
    answers to many forms would otherwise tell what is in them.
    """
    return tuple(find_changes(_form_in_force(text, environment, sealed_with(token)), form))


def form_of(text: str, environment: Mapping[str, str], seal: Callable[[str], str] = lambda secret: secret) -> Form | None:
    """The form of a text, with each secret replaced by what `seal` makes of it; None if the text has a problem."""
    substitutions = Substitutions({}, {})
    document, _, problems, *_ = read_document(text, environment, substitutions)
    return None if document is None or problems else written_form(document, substitutions, seal)


def _form_in_force(text: str, environment: Mapping[str, str], seal: Callable[[str], str] = lambda secret: secret) -> Form:
    form = form_of(text, environment, seal)
    assert form is not None  # noqa: S101  (it was loaded)
    return form


def _kept_before(name: str) -> Change:
    """A setting that the file has had for longer, and that still waits for a restart."""
    return Change(path=name, kind="changed", name=None, before=None, after=None, reload=key_at(name).reload)
