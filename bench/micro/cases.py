"""The table of the cases. To add a case, write the function that prepares its operation, and add a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from bench.micro import answer_operations as answer
from bench.micro import request_operations as request
from bench.micro import translation_operations as translate
from bench.micro.inputs import LARGE, LONG, SHORT, SPACED

Operation = Callable[[], object]
"""The repeated operation. It returns something true; otherwise an operation that does nothing would look cheap."""


class Case(NamedTuple):
    """One row. `make` prepares the operation, which is not measured. The name is `part.variant`."""

    name: str
    title: str
    make: Callable[[], Operation]


CASES: Final = (
    Case("empty.call", "nothing: the loop and the call, which every row includes", lambda: lambda: True),
    Case("routing_fields.1kb", "the routing fields of a body of 1 KB", partial(request.read_fields, SHORT)),
    Case("routing_fields.1kb_spaced", "the same body with white space", partial(request.read_fields, SPACED)),
    Case("routing_fields.40kb", "the routing fields of 40 KB: many messages, and tools", partial(request.read_fields, LONG)),
    Case("routing_fields.1mb", "the routing fields of 1 MB: one document", partial(request.read_fields, LARGE)),
    Case("patch.1kb", "the model replaced in 1 KB", partial(request.patch_body, SHORT, inserts=False)),
    Case("patch.1kb_max_tokens", "the same, and max_tokens inserted", partial(request.patch_body, SHORT, inserts=True)),
    Case("patch.1mb", "the model replaced in 1 MB", partial(request.patch_body, LARGE, inserts=False)),
    Case("patch.1mb_max_tokens", "the same, and max_tokens inserted", partial(request.patch_body, LARGE, inserts=True)),
    Case("request_head.read", "a request head, validated", request.read_head),
    Case("repeat.match", "a repeated head, recognised", request.match_repeat),
    Case("repeat.cache", "a head, cached", request.cache_repeat),
    Case("headers.to_provider", "the head to a provider, of a new head", partial(request.encode_head, is_repeated=False)),
    Case("headers.to_provider_again", "the same, of a repeated head", partial(request.encode_head, is_repeated=True)),
    Case("headers.to_caller", "the head of an answer", answer.encode_head),
    Case("plan.four", "the plan for a pool of four", partial(request.plan_sources, "pooled")),
    Case("plan.one", "the plan for a pool of one", partial(request.plan_sources, "alone")),
    Case("plan.layers", "the plan with a reserve and two substitutes", partial(request.plan_sources, "layered")),
    Case("breaker.success", "a circuit breaker passed, and a success reported", request.use_breaker),
    Case("exchange.lifecycle", "the record of a request, and its three transitions", request.run_exchange),
    Case("opening.openai", "the first events of a stream, until one says something", answer.open_stream),
    Case("reading.openai_stream", "an OpenAI stream of 100 events, read", partial(answer.read_answer, "openai", streams=True)),
    Case("reading.openai_whole", "an OpenAI answer, read", partial(answer.read_answer, "openai", streams=False)),
    Case("reading.anthropic_stream", "an Anthropic stream, read", partial(answer.read_answer, "anthropic", streams=True)),
    Case("reading.anthropic_whole", "an Anthropic answer, read", partial(answer.read_answer, "anthropic", streams=False)),
    Case("translate.event_for_anthropic", "an event for Anthropic callers: ≤ 25 µs", partial(translate.event, "anthropic")),
    Case("translate.event_for_openai", "an event for OpenAI callers: ≤ 25 µs", partial(translate.event, "openai")),
    Case("translate.event_for_responses", "one for Responses: ≤ 25 µs", partial(translate.event_of_responses, "openai")),
    Case("translate.message_for_responses", "the same, of Messages", partial(translate.event_of_responses, "anthropic")),
    Case("translate.request_of_anthropic", "40 KB from Anthropic's dialect", partial(translate.request, "anthropic")),
    Case("translate.request_of_openai", "40 KB from OpenAI's dialect", partial(translate.request, "openai")),
    Case("estimate.40kb", "the tokens of 40 KB, estimated", translate.estimate_tokens),
    Case("record.line", "the line of the access log", answer.encode_record),
    Case("counters.count", "a request, counted", answer.count_request),
    Case("error.openai", "an error in OpenAI's dialect", partial(answer.encode_error, "openai")),
    Case("error.anthropic", "an error in Anthropic's dialect", partial(answer.encode_error, "anthropic")),
)  # fmt: skip


def select_cases(parts: Sequence[str], cases: Sequence[Case] = CASES) -> tuple[Case, ...]:
    """The cases with these names or parts, in the table's order; all of them if none is named. Raises ValueError."""
    for part in parts:
        if not any(_belongs_to(case, part) for case in cases):
            known = sorted({case.name.partition(".")[0] for case in cases})
            raise ValueError(f"there is no case {part}; the parts are {', '.join(known)}")
    return tuple(case for case in cases if not parts or any(_belongs_to(case, part) for part in parts))


def _belongs_to(case: Case, part: str) -> bool:
    return case.name == part or case.name.startswith(part + ".")
