"""The table of what is measured. To measure one more part, write how its operation is made and add a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from bench.micro.answers import (
    counting,
    heading_to_caller,
    judging_first_event,
    reading_usage,
    recording,
    refusing,
    sampling,
)
from bench.micro.dialects import asking, estimating, telling
from bench.micro.inbounds import (
    faring,
    heading_to_provider,
    judging,
    living,
    patching,
    planning,
    reading,
    recognising,
    remembering,
)
from bench.micro.material import LARGE, LONG, SHORT, SPACED

Operation = Callable[[], object]
"""What is done again and again. It gives something true, so that an operation that came to nothing is no cheap one."""


class Case(NamedTuple):
    """One row. `make` prepares, which is not measured, and gives the operation. The name is `part.variant`."""

    name: str
    title: str
    make: Callable[[], Operation]


CASES: Final = (
    Case("empty.call", "nothing: what each row holds of the loop and of the call", lambda: lambda: True),
    Case("read_head.1kb", "the routing head of a body of 1 KB", partial(reading, SHORT)),
    Case("read_head.1kb_spaced", "the same body with white space in it", partial(reading, SPACED)),
    Case("read_head.40kb", "the routing head of 40 KB: many turns, and tools", partial(reading, LONG)),
    Case("read_head.1mb", "the routing head of 1 MB: one document", partial(reading, LARGE)),
    Case("patch.1kb", "the model replaced in 1 KB", partial(patching, SHORT, inserts=False)),
    Case("patch.1kb_max_tokens", "the same, with max_tokens put in", partial(patching, SHORT, inserts=True)),
    Case("patch.1mb", "the model replaced in 1 MB", partial(patching, LARGE, inserts=False)),
    Case("patch.1mb_max_tokens", "the same, with max_tokens put in", partial(patching, LARGE, inserts=True)),
    Case("request_head.read", "a request's head, judged", judging),
    Case("repeat.recognise", "a head that is sent again, recognised", recognising),
    Case("repeat.remember", "a head, remembered", remembering),
    Case("headers.to_provider", "the head to a provider, of a new head", partial(heading_to_provider, is_repeated=False)),
    Case("headers.to_provider_again", "the same, of a repeated head", partial(heading_to_provider, is_repeated=True)),
    Case("headers.to_caller", "the head of an answer", heading_to_caller),
    Case("plan.four", "the plan for a pool of four", partial(planning, "pooled")),
    Case("plan.one", "the plan for a pool of one", partial(planning, "alone")),
    Case("plan.layers", "the plan with a reserve and two substitutes", partial(planning, "layered")),
    Case("health.ask", "a source that is asked, and answers", faring),
    Case("exchange.life", "a request's record and its three steps", living),
    Case("first_event.openai", "a stream's first event, found and judged", judging_first_event),
    Case("sample.100_events", "the sample of a stream of 100 events", sampling),
    Case("usage.openai_stream", "usage of OpenAI's stream", partial(reading_usage, "openai", streams=True)),
    Case("usage.openai_whole", "usage of OpenAI's whole answer", partial(reading_usage, "openai", streams=False)),
    Case("usage.anthropic_stream", "usage of Anthropic's stream", partial(reading_usage, "anthropic", streams=True)),
    Case("usage.anthropic_whole", "usage of Anthropic's whole answer", partial(reading_usage, "anthropic", streams=False)),
    Case("translate.event_for_anthropic", "an event for Anthropic's callers: 25 µs at most", partial(telling, "anthropic")),
    Case("translate.event_for_openai", "an event for OpenAI's callers: 25 µs at most", partial(telling, "openai")),
    Case("translate.request_of_anthropic", "40 KB of Anthropic's, asked in OpenAI's words", partial(asking, "anthropic")),
    Case("translate.request_of_openai", "40 KB of OpenAI's, asked in Anthropic's words", partial(asking, "openai")),
    Case("estimate.40kb", "the tokens of 40 KB, estimated", estimating),
    Case("record.line", "the log's record and its line", recording),
    Case("counters.count", "a request, counted", counting),
    Case("error.openai", "a refusal, in OpenAI's words", partial(refusing, "openai")),
    Case("error.anthropic", "a refusal, in Anthropic's words", partial(refusing, "anthropic")),
)  # fmt: skip


def chosen(parts: Sequence[str], cases: Sequence[Case] = CASES) -> tuple[Case, ...]:
    """The cases of these names or parts, in the table's order; all, where none is named. Raises ValueError."""
    for part in parts:
        if not any(_is_of(case, part) for case in cases):
            known = sorted({case.name.partition(".")[0] for case in cases})
            raise ValueError(f"there is no {part}; the parts are {', '.join(known)}")
    return tuple(case for case in cases if not parts or any(_is_of(case, part) for part in parts))


def _is_of(case: Case, part: str) -> bool:
    return case.name == part or case.name.startswith(part + ".")
