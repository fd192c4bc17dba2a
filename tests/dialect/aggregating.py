"""Makes one whole answer of a source's stream, as the relay does."""

from __future__ import annotations

from kyma_proxy.dialect.translation import TranslatedAnswer, Translation


def aggregated(translation: Translation, stream: bytes, *, size: int = 50) -> TranslatedAnswer:
    """The answer that a stream builds, given in pieces of this size. Raises ValueError if it is incomplete."""
    aggregation = translation.aggregation()
    for at in range(0, len(stream), size):
        aggregation.feed(stream[at : at + size])
    return aggregation.finish()
