"""The keys of a model, of its prices and of its sources."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kyma_proxy.loading import document as doc
from kyma_proxy.loading.reference.key import Key

_UNKNOWN: Final = "unknown"
_OF_ITS_PROVIDER: Final = "that of its provider"

_MODEL: Final = {
    "id": Key(
        "The name by which callers ask for it. With a `*` at its end it stands for all ids that begin so: an exact id wins, "
        "then the longest prefix.",
        '"local/*"',
    ),
    "name": Key("A name for people.", "GPT-4o", default="its id"),
    "owned_by": Key("Its maker.", "OpenAI"),
    "created": Key("The day of its release, YYYY-MM-DD.", "2026-04-01", default=_UNKNOWN),
    "context_window": Key(
        "The tokens that it takes in, prompt and answer together. For callers to read.", "131072", default=_UNKNOWN
    ),
    "max_output_tokens": Key(
        "The most tokens that it answers. For callers to read, and a bound of what is held for an answer; it is no limit.",
        "8192",
        default=_UNKNOWN,
    ),
    "input_modalities": Key("The kinds of input that it takes. Images go only to models that say so.", "[text, image]"),
    "output_modalities": Key(
        "The kinds of output that it makes. `[image]` alone is an image model, which makes jobs.", "[text, audio]"
    ),
    "supports_tools": Key("`true` if it calls tools. For callers to read.", "true"),
    "supports_caching": Key(
        "`true` if its prompts are cached, as also a price for `cached_input` says. For callers to read.", "true"
    ),
    "supports": Key("What all its sources take; wins over what their providers say.", "{reasoning_effort: []}"),
    "release_stage": Key("Its stage. For callers to read.", "deprecated"),
    "price": Key("Its prices.", "{input: 2.50, output: 10}", default="none: free, with a warning where callers pay"),
    "policy": Key("The order in which its pool's sources are tried.", "priority", default="`defaults.policy`"),
    "hedge_after": Key("Hedging, as in `defaults`; `null` is off.", "auto", default="`defaults.hedge_after`"),
    "image": Key("The requests that an image model allows.", "{most: 1}", default="a section with its defaults"),
    "prices": Key(
        "For a pattern: the prices of some ids, exact or with a `*` at the end, in place of `price`.",
        '{"groq/llama-*": {input: 0.59, output: 0.79}}',
    ),
    "provider": Key(
        "Short for a pool of one source, which has the model under the same id; of a pattern's ids, what comes up to its last "
        "slash is left out. A model has this or `pool`.",
        "openai",
        default="none: `pool` is there",
    ),
    "pool": Key(
        "The sources that serve the same model, and are tried first.",
        "[{provider: openai, model: gpt-4o-2024-11-20}]",
        default="the source of `provider`",
    ),
    "reserve": Key(
        "Sources of the same model that are tried if those of the pool fail.", "[{provider: groq, model: openai/gpt-oss-120b}]"
    ),
}

_SOURCE: Final = {
    "provider": Key("The name of its provider.", "groq"),
    "model": Key("The name of the model there. Of a pattern, a `*` at the end is the rest of the id.", "gpt-4o-2024-11-20"),
    "weight": Key("Its share with the policy `weighted`; 0 is asked only if the others fail.", "3"),
    "timeouts": Key("Its timeouts.", "{first_byte: 5m}", default="those of its provider"),
    "stream_usage": Key("`false` if it refuses `stream_options`; the tokens of its streams are then estimated.", "false"),
    "max_tokens_field": Key("As at a provider.", "max_completion_tokens", default=_OF_ITS_PROVIDER),
    "reasoning_field": Key("As at a provider.", "reasoning", default=_OF_ITS_PROVIDER),
    "supports": Key("As at a provider; wins over what its provider and its model say.", "{images: false}"),
    "reasoning_parser": Key("As at a provider.", "think", default=_OF_ITS_PROVIDER),
    "calls_need": Key("As at a provider.", "thought_signature", default=_OF_ITS_PROVIDER),
    "endpoints": Key("As at a provider.", "[chat]", default=_OF_ITS_PROVIDER),
    "image": Key("The members of its image requests.", "{size: image_size}", default="those of its dialect"),
    "move_on": Key("As at a provider, to which these are added.", "[{status: 400, message: Your plan has ended}]"),
    "pass_headers": Key("As at a provider, to which these are added.", "[x-groq-*]"),
    "headers": Key("As at a provider; they win over its headers of the same name.", "{OpenAI-Project: proj_123}"),
    "query": Key("As at a provider; they win over its parameters of the same name.", "{api-version: preview}"),
    "body": Key("As at a provider; they win over its members of the same name.", "{service_tier: flex}", private=True),
    "proxy": Key("As at a provider; `null` is none.", "http://proxy.example:3128", default=_OF_ITS_PROVIDER),
}

_IMAGE_MEMBERS: Final = {
    "size": Key("The member for the size.", "resolution", default="that of its dialect"),
    "size_form": Key(
        "How the size is written: `text`, `object` (with a width and a height), or `pair` (two members of the request).",
        "pair",
        default="that of its dialect",
    ),
    "sizes": Key("The texts for sizes that are spelled otherwise.", "{512x512: square}"),
    "count": Key(
        "The member for the number of images; `null` if it makes one at a time.", "num_images", default="that of its dialect"
    ),
    "most": Key("The most images of one request.", "2"),
    "images": Key("The member for pictures of the caller.", "image_urls", default="that of its dialect"),
    "leave_queue_after": Key(
        "How long a job may only wait in the source's queue before it is withdrawn there, if another source can make it. null: "
        "for ever.",
        "30s",
    ),
}

_IMAGE_RULES: Final = {
    "sizes": Key("The sizes that callers may ask for.", "[512x512, 1024x1024]", default="any"),
    "extra": Key(
        "Further members of a request that are passed on; `mask` is that of an edit, as OpenAI's API has it.", "[seed, style]"
    ),
    "most": Key("The most images of one request.", "2"),
    "most_input_images": Key("The most pictures that a caller may send.", "4"),
    "needs_image": Key("`true`: the model edits a picture, so a request needs one.", "true"),
    "max_prompt": Key("The most characters of a prompt.", "1000"),
}

_PRICE: Final = {
    "input": Key("A million tokens of the prompt.", "2.50", default="none"),
    "output": Key("A million tokens of the answer.", "10", default="none"),
    "cached_input": Key("A million tokens of the prompt that the provider had in its cache.", "1.25", default="`input`"),
    "cached_write": Key(
        "A million tokens that are written to its cache, and kept for five minutes.", "3.75", default="1.25 times `input`"
    ),
    "cached_write_1h": Key("The same, kept for an hour.", "6", default="twice `input`"),
    "image": Key("An image.", "0.054", default="none"),
    "by": Key(
        "The prices of an image by the values of members of the request, or of several together: "
        "`quality+size: {high+1024x1024: 0.17}`. A `*` at the end of a value stands for the rest of it. The highest price that "
        "fits holds.",
        "{style: {vector_illustration*: 0.108}}",
        default="`image` for all",
    ),
    "per_search": Key("A search that the provider makes.", "0.01", default="none: searches are refused where callers pay"),
    "per_minute": Key("A minute of sound, in or out: what the provider reports, else an estimate.", "0.006", default="none"),
    "per_million_characters": Key("A million characters that are spoken.", "15", default="none"),
    "per_request": Key(
        "A request at `moderations` and at the endpoints of sound; at `rerank` a search, of which Cohere counts one for each "
        "100 documents.",
        "0.002",
        default="none",
    ),
    "priority": Key(
        "A factor of the prices of tokens, for `service_tier: priority`.",
        "2",
        default="none: refused where callers pay",
    ),
    "flex": Key(
        "A factor of the prices of tokens, for `service_tier: flex`.", "0.5", default="none: refused where callers pay"
    ),
    "included": Key(
        "Members of requests and types of tools that metered callers may use although only their tokens are charged.",
        "[mcp]",
    ),
}

MODELS: Final[Mapping[type, Mapping[str, Key]]] = MappingProxyType({
    doc.Model: _MODEL, doc.Source: _SOURCE, doc.ImageMembers: _IMAGE_MEMBERS, doc.ImageRules: _IMAGE_RULES, doc.Price: _PRICE,
})  # fmt: skip
