"""Measures requests that have prices beside those of tokens: sound by the minute, text to speak, searches. (Contract §8.)

A provider may report the seconds of a sound that it has heard, or the searches that it bills; that counts. What it does not
report is estimated from the request:

- the length of a file of sound from its beginning (`sound_length`), and ten tokens for each second of it;
- the length of what is spoken at 15 characters a second, and 21 tokens for each second: OpenAI's own figures for its models,
  $0.015 a minute at $12 per million tokens. https://platform.openai.com/docs/pricing, 2026-11
- one search for up to 100 documents, each piece of 500 tokens being one. https://docs.cohere.com/docs/rerank, 2026-11
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kyma_proxy.config.snapshot import Price

HEARD_TOKENS_PER_S: Final = 10
_WRITTEN_TOKENS_PER_S: Final = 4
_SPOKEN_TOKENS_PER_S: Final = 21
_CHARACTERS_PER_S: Final = 15
_DOCUMENTS_PER_SEARCH: Final = 100
_TOKENS_PER_DOCUMENT: Final = 500
_MS_PER_MINUTE: Final = 60_000
_MS_PER_S: Final = 1000
MAX_MS: Final = 7 * 24 * 3600 * _MS_PER_S
"""A longer sound is none that a provider takes: what reports it is mistaken."""
MAX_SEARCHES_BILLED: Final = 1_000_000


class Quantities(NamedTuple):
    """The quantities of a request, as far as they are known or were reported; None is not known, or not there.

    `prompt` and `output` are the estimated tokens of the request and of its answer.
    """

    prompt: int = 0
    output: int = 0
    milliseconds: int | None = None
    characters: int | None = None
    searches: int | None = None


NONE_REPORTED: Final = Quantities()


def heard(milliseconds: int, form_bytes: int) -> Quantities:
    """The quantities of a sound that is to be understood; `form_bytes` are those beside the sound."""
    seconds = -(-milliseconds // _MS_PER_S)
    return Quantities(seconds * HEARD_TOKENS_PER_S + -(-form_bytes // 4), seconds * _WRITTEN_TOKENS_PER_S, milliseconds)


def spoken(characters: int, prompt: int) -> Quantities:
    """The quantities of a text that is to be spoken."""
    milliseconds = -(-characters * _MS_PER_S // _CHARACTERS_PER_S)
    return Quantities(prompt, -(-milliseconds * _SPOKEN_TOKENS_PER_S // _MS_PER_S), milliseconds, characters)


def sorted_documents(count: int, prompt: int) -> Quantities:
    """The quantities of documents that are to be sorted."""
    pieces = max(count, -(-prompt // _TOKENS_PER_DOCUMENT))
    return Quantities(prompt, searches=max(1, -(-pieces // _DOCUMENTS_PER_SEARCH)))


def nano_usd(quantities: Quantities, price: Price) -> int:
    """The cost of these quantities beside their tokens, in nano-dollars, rounded up."""
    amount = 0
    if price.per_minute is not None and quantities.milliseconds is not None:
        amount += -(-quantities.milliseconds * price.per_minute // _MS_PER_MINUTE)
    if price.per_million_characters is not None and quantities.characters is not None:
        amount += -(-quantities.characters * price.per_million_characters // 10**6)
    if price.per_request is not None:
        amount += price.per_request * (1 if quantities.searches is None else quantities.searches)
    return amount


def most_nano_usd(quantities: Quantities, price: Price) -> int:
    """The same with the tokens of the answer: what a request of these quantities may cost beside its prompt."""
    return nano_usd(quantities, price) + -(-quantities.output * (price.output or 0) // 10**6)


def is_measured(price: Price) -> bool:
    """True if a price names anything beside tokens and pictures."""
    return not (price.per_minute is None and price.per_million_characters is None and price.per_request is None)
