"""Does what takes long with a large request: translates it, or cleans it. Another process runs these functions.

Each takes a body and plain values, which can be pickled, and returns the new body and what else there is to know. All raise
GatewayError for what the caller must change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from kyma_proxy.core.http.body import RoutingFields, read_routing_fields
from kyma_proxy.core.http.structure import count_values
from kyma_proxy.dialect.translation import Order, Translation
from kyma_proxy.dialect.vision import has_translated_images, no_image_input
from kyma_proxy.errors import GatewayError, Kind

MAX_VALUES: Final = 2_000_000
"""A body of more would take many seconds and more than a gigabyte. A model that reads two million tokens reads half as many."""


class TranslationWork(NamedTuple):
    """A request to translate (`order`, without its body). `blind_model` is the id of the model if it takes no images."""

    translate: Callable[[Order], Translation]
    order: Order
    blind_model: str | None


def translated(work: TranslationWork, body: bytes) -> tuple[Translation, bytes]:
    """Translate a request. The translation lacks the translated body, which comes beside it."""
    _refuse_dense(body)
    made = work.translate(work.order._replace(body=body))
    if work.blind_model is not None and has_translated_images(made.request.body):
        raise no_image_input(work.blind_model)
    return without_body(made)


def cleaned(
    clean_with: Callable[[bytes], tuple[bytes, tuple[str, ...]]], body: bytes
) -> tuple[tuple[tuple[str, ...], RoutingFields], bytes]:
    """Remove from a request what its source refuses, with a dialect's `Cleaning.cleaned`.

    Returns the paths of that, and the routing fields of what is left.
    """
    _refuse_dense(body)
    clean, dropped = clean_with(body)
    return (dropped, read_routing_fields(clean)), clean


def without_body(made: Translation) -> tuple[Translation, bytes]:
    """Part a translation from its translated body."""
    body = made.request.body
    made.request = made.request._replace(body=b"")
    return made, body


def with_body(made: Translation, body: bytes) -> Translation:
    """Put the translated body back into its translation."""
    made.request = made.request._replace(body=body)
    return made


def too_large(why: str) -> GatewayError:
    """The error for a request that is too large to be changed for its source."""
    return GatewayError(Kind.BODY_TOO_LARGE, f"This request must be changed for the model's source, and {why}.")


def _refuse_dense(body: bytes) -> None:
    if count_values(body, MAX_VALUES) > MAX_VALUES:
        raise too_large(f"has more than {MAX_VALUES} values; send fewer messages, blocks and tools")
