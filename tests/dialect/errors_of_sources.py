"""Errors as providers write them, by kind, and how callers of each dialect read them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kyma_proxy.dialect.anthropic_to_openai import translate as messages_to_chat
from kyma_proxy.dialect.openai_to_anthropic import translate as chat_to_messages
from kyma_proxy.dialect.registry import Translator
from kyma_proxy.dialect.responses import to_chat, to_messages
from kyma_proxy.dialect.sse import SseParser
from kyma_proxy.dialect.translation import Order, Translation
from kyma_proxy.errors import Kind

Json = dict[str, Any]


class Sample(NamedTuple):
    """An error of a provider: whose, the kind, its status and body; and for a context overflow the numbers that are known."""

    provider: str
    kind: Kind
    status: int
    body: Json | list[Json]
    numbers: tuple[int, int, int] = (0, 0, 0)
    """The tokens of the prompt, of the answer, and of the context."""
    speaks: str = "openai"

    def __str__(self) -> str:
        """Name the test."""
        return f"{self.provider}: {self.kind.code}"


def _openai(message: str, code: str | int | None = None, kind: str | None = "invalid_request_error", **more: Any) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code} | more}


def _anthropic(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


TOO_LONG, LIMITED, BUSY, FILTERED, IMAGE, MODEL, UNSUPPORTED, LARGE, OPERATORS = (
    Kind.CONTEXT_LENGTH_EXCEEDED, Kind.PROVIDER_RATE_LIMITED, Kind.PROVIDER_OVERLOADED, Kind.CONTENT_FILTERED,
    Kind.INVALID_IMAGE, Kind.MODEL_NOT_FOUND, Kind.UNSUPPORTED_PARAMETER, Kind.BODY_TOO_LARGE, Kind.NO_SOURCE_AVAILABLE,
)  # fmt: skip
_RAW = json.dumps(_openai("This model's maximum context length is 100 tokens. However, your messages resulted in 200 tokens."))
SAMPLES = [
    # ---- the conversation is too long
    Sample("OpenAI", TOO_LONG, 400, _openai(
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 204308 tokens. Please reduce"
        " the length of the messages.", "context_length_exceeded", param="messages"), (204308, 0, 128000)),
    Sample("OpenAI", TOO_LONG, 400, _openai(
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300001 tokens. Please reduce the"
        " length of the messages.", "context_length_exceeded"), (300001, 0, 272000)),
    Sample("OpenAI", TOO_LONG, 400, _openai(
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "context_length_exceeded")),
    Sample("DeepSeek", TOO_LONG, 400, _openai(
        "This model's maximum context length is 65536 tokens. However, you requested 90000 tokens (82000 in the messages, 8000"
        " in the completion). Please reduce the length of the messages or completion.", "invalid_request_error"),
        (82000, 8000, 65536)),
    Sample("vLLM", TOO_LONG, 400, {
        "object": "error", "type": "BadRequestError", "param": None, "code": 400,
        "message": "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the"
        " messages, 10000 in the completion). Please reduce the length of the messages or completion."},
        (112946, 10000, 16384)),
    Sample("vLLM", TOO_LONG, 400, _openai(
        "This model's maximum context length is 8192 tokens. However, you requested 2000 output tokens and your prompt contains"
        " at least 9193 input tokens, for a total of at least 11193 tokens.", 400, "BadRequestError"), (9193, 2000, 8192)),
    Sample("vLLM", TOO_LONG, 400, _openai(
        "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 40960 tokens and"
        " your request has 12104 input tokens (32000 > 40960 - 12104).", 400, "BadRequestError"), (12104, 32000, 40960)),
    Sample("OpenRouter", TOO_LONG, 400, _openai(
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 150000 tokens (149000 of text"
        ' input, 1000 in the output). Please reduce the length of either one, or use the "middle-out" transform.', 400, None),
        (149000, 1000, 131072)),
    Sample("OpenRouter", TOO_LONG, 400, {"error": {
        "message": "Provider returned error", "code": 400, "metadata": {"raw": _RAW, "provider_name": "Other"}}},
        (200, 0, 100)),
    Sample("Groq", TOO_LONG, 400, _openai(
        "Please reduce the length of the messages or completion.", "context_length_exceeded", param="messages")),
    Sample("Together", TOO_LONG, 422, _openai(
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 12000 `inputs` tokens and 512"
        " `max_new_tokens`"), (12000, 512, 8193)),
    Sample("Fireworks", TOO_LONG, 400, _openai("The prompt is too long: 140000, model maximum context length: 131071"),
        (140000, 0, 131071)),
    Sample("Mistral", TOO_LONG, 400, {
        "object": "error", "type": "invalid_request_message_order", "code": "3051",
        "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"},
        (40000, 0, 32768)),
    Sample("Gemini", TOO_LONG, 400, [{"error": {
        "code": 400, "status": "INVALID_ARGUMENT",
        "message": "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)."}}],
        (1196265, 0, 1048575)),
    Sample("xAI", TOO_LONG, 400, {
        "code": "Client specified an invalid argument",
        "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}, (537812, 0, 131072)),
    Sample("Moonshot", TOO_LONG, 400, _openai(
        "Invalid request: Your request exceeded model token limit: 262144 (requested: 262147)"), (262147, 0, 262144)),
    Sample("llama.cpp", TOO_LONG, 400, {"error": {
        "code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 14429, "n_ctx": 8192,
        "message": "the request exceeds the available context size. try increasing the context size"}}, (14429, 0, 8192)),
    Sample("llama.cpp", TOO_LONG, 400, {"error": {
        "code": 400, "message": "the request exceeds the available context size, try increasing it",
        "type": "invalid_request_error"}}),
    Sample("SGLang", TOO_LONG, 400, {
        "object": "error", "code": 400, "type": "BadRequestError",
        "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens)."}, (9000, 0, 8192)),
    Sample("Alibaba", TOO_LONG, 400, _openai("Range of input length should be [1, 129024]", "invalid_parameter_error"),
        (0, 0, 129024)),
    Sample("Zhipu", TOO_LONG, 400, _openai("Prompt exceeds max length", "1261", None)),
    Sample("MiniMax", TOO_LONG, 400, _openai("invalid params, context window exceeds limit", None, "bad_request_error")),
    Sample("Anthropic", TOO_LONG, 400, _anthropic(
        "invalid_request_error", "prompt is too long: 210118 tokens > 200000 maximum"), (210118, 0, 200000), "anthropic"),
    Sample("Anthropic", TOO_LONG, 400, _anthropic(
        "invalid_request_error", "input length and `max_tokens` exceed context limit: 187254 + 20000 > 204798, decrease input"
        " length or `max_tokens` and try again"), (187254, 20000, 204798), "anthropic"),
    Sample("Bedrock", TOO_LONG, 400, _anthropic("invalid_request_error", "Input is too long for requested model."),
        speaks="anthropic"),
    # ---- too many requests
    Sample("OpenAI", LIMITED, 429, _openai(
        "Rate limit reached for gpt-4.1 on tokens per min (TPM): Limit 30000. The context length of your prompts…",
        "rate_limit_exceeded", "tokens")),
    Sample("Gemini", LIMITED, 429, [{"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED"}}]),
    Sample("Moonshot", LIMITED, 429, _openai("Too many requests", None, "rate_limit_reached_error")),
    Sample("Mistral", LIMITED, 429, {"object": "error", "message": "Requests rate limit exceeded", "code": "1300"}),
    Sample("Anthropic", LIMITED, 429, _anthropic("rate_limit_error", "Too many."), speaks="anthropic"),
    # ---- too much to do
    Sample("OpenAI", BUSY, 503, _openai("Overloaded.", "server_is_overloaded", "service_unavailable_error")),
    Sample("Gemini", BUSY, 503, [{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}]),
    Sample("Moonshot", BUSY, 529, _openai("Overloaded.", None, "engine_overloaded_error")),
    Sample("DeepSeek", BUSY, 503, _openai("The server is busy.", None, None)),
    Sample("Anthropic", BUSY, 529, _anthropic("overloaded_error", "Overloaded"), speaks="anthropic"),
    # ---- the content is refused
    Sample("Azure", FILTERED, 400, _openai(
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "content_filter",
        None, innererror={"code": "ResponsibleAIPolicyViolation"})),
    Sample("OpenAI", FILTERED, 400, _openai(
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt")),
    Sample("DeepSeek", FILTERED, 400, _openai("Content Exists Risk")),
    Sample("Moonshot", FILTERED, 400, _openai("The request was rejected because it was considered high risk", None,
        "content_filter")),
    Sample("Alibaba", FILTERED, 400, _openai("Input data may contain inappropriate content.", "data_inspection_failed")),
    Sample("Anthropic", FILTERED, 400, _anthropic("invalid_request_error", "Output blocked by content filtering policy"),
        speaks="anthropic"),
    # ---- an image can't be used
    Sample("OpenAI", IMAGE, 400, _openai(
        "You uploaded an unsupported image. Please make sure your image is valid.", "image_parse_error")),
    Sample("OpenAI", IMAGE, 400, _openai("Error while downloading file.", "invalid_image_url")),
    Sample("Gemini", IMAGE, 400, [{"error": {
        "code": 400, "message": "Provided image is not valid.", "status": "INVALID_ARGUMENT"}}]),
    Sample("vLLM", IMAGE, 400, _openai("cannot identify image file <_io.BytesIO>", 400, "BadRequestError")),
    Sample("llama.cpp", IMAGE, 400, _openai("Failed to load image or audio file", 400)),
    Sample("Anthropic", IMAGE, 400, _anthropic("invalid_request_error", "Could not process image"), speaks="anthropic"),
    Sample("Anthropic", IMAGE, 400, _anthropic("invalid_request_error",
        "messages.0.content.2.image.source: image exceeds 5 MB maximum: 5591868 bytes > 5242880 bytes"), speaks="anthropic"),
    # ---- there is no such model
    Sample("OpenAI", MODEL, 404, _openai("The model `x` does not exist or you do not have access to it.", "model_not_found")),
    Sample("Azure", MODEL, 404, _openai("The API deployment for this resource does not exist.", "DeploymentNotFound", None)),
    Sample("DeepSeek", MODEL, 400, _openai("Model Not Exist")),
    Sample("OpenRouter", MODEL, 400, _openai("x/y is not a valid model ID", 400, None)),
    Sample("Groq", MODEL, 400, _openai("The model `x` has been decommissioned.", "model_decommissioned")),
    Sample("Together", MODEL, 404, _openai("Unable to access model x.", "model_not_available")),
    Sample("Mistral", MODEL, 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}),
    Sample("Gemini", MODEL, 404, [{"error": {
        "code": 404, "message": "models/x is not found for API version v1main", "status": "NOT_FOUND"}}]),
    # ---- a member of the request is not taken
    Sample("OpenAI", UNSUPPORTED, 400, _openai(
        "Unsupported parameter: 'seed' is not supported with this model.", "unsupported_parameter", param="seed")),
    Sample("Groq", UNSUPPORTED, 400, _openai("property 'seed' is unsupported")),
    Sample("Mistral", UNSUPPORTED, 422, {"detail": [{"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}]}),
    Sample("Gemini", UNSUPPORTED, 400, [{"error": {
        "code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.',
        "status": "INVALID_ARGUMENT"}}]),
    Sample("xAI", UNSUPPORTED, 400, {"code": "c", "error": "Argument not supported on this model: seed"}),
    Sample("Anthropic", UNSUPPORTED, 400, _anthropic("invalid_request_error", "seed: Extra inputs are not permitted"),
        speaks="anthropic"),
    # ---- the body is too large
    Sample("Groq", LARGE, 413, _openai("Request Entity Too Large", "request_too_large")),
    Sample("Gemini", LARGE, 400, [{"error": {
        "code": 400, "message": "Request payload size exceeds the limit: 20971520 bytes.", "status": "INVALID_ARGUMENT"}}]),
    Sample("Anthropic", LARGE, 413, _anthropic("request_too_large", "Request exceeds the maximum size"), speaks="anthropic"),
    # ---- the operator's key, bill and permission
    Sample("OpenAI", OPERATORS, 401, _openai("Incorrect API key provided: provider-key.", "invalid_api_key")),
    Sample("OpenAI", OPERATORS, 429, _openai("You exceeded provider-key's quota.", "insufficient_quota", "insufficient_quota")),
    Sample("Moonshot", OPERATORS, 429, _openai("provider-key has no balance", None, "exceeded_current_quota_error")),
    Sample("Anthropic", OPERATORS, 401, _anthropic("authentication_error", "invalid provider-key"), speaks="anthropic"),
    Sample("Anthropic", OPERATORS, 403, _anthropic("permission_error", "provider-key may not"), speaks="anthropic"),
]  # fmt: skip

_TURNS = [{"role": "user", "content": "hi"}]
_REQUESTS: dict[str, Json] = {
    "chat": {"messages": _TURNS}, "messages": {"messages": _TURNS, "max_tokens": 9}, "responses": {"input": "hi"},
}  # fmt: skip
_TRANSLATORS: dict[tuple[str, str], Translator] = {
    ("messages", "openai"): messages_to_chat, ("chat", "anthropic"): chat_to_messages, ("responses", "openai"): to_chat,
    ("responses", "anthropic"): to_messages,
}  # fmt: skip
_BEGINNINGS = {
    "openai": b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}\n\n',
    "anthropic": (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}'
        b"\n\n"
    ),
}
CELLS = [(caller, sample) for sample in SAMPLES for caller, speaks in _TRANSLATORS if speaks == sample.speaks]
"""Each error, for callers of each other endpoint."""


def _translation(caller: str, sample: Sample) -> Translation:
    body = json.dumps({"model": "public", "stream": True} | _REQUESTS[caller]).encode()
    order = Order(body, "real", "public", None, 4096, True, None, "rid", 1_700_000_000)
    return _TRANSLATORS[caller, sample.speaks](order)


def told_before(caller: str, sample: Sample) -> tuple[int, Json]:
    """The status and the error that a caller gets instead of an answer."""
    whole = _translation(caller, sample).answer(sample.status, json.dumps(sample.body).encode())
    return whole.status, json.loads(whole.body)["error"]


def told_within(caller: str, sample: Sample) -> Json:
    """The error that a caller gets in the middle of an answer."""
    body = sample.body[0] if isinstance(sample.body, list) else sample.body
    event = b"event: error\ndata: %b\n\n" % json.dumps(body).encode()
    stream = _translation(caller, sample).stream()
    made = stream.feed(_BEGINNINGS[sample.speaks]) + stream.feed(event) + stream.flush()
    assert (stream.has_failed, stream.is_finished) == (True, False)
    last: Json = json.loads(SseParser().feed(made)[-1].data)
    error: Json = last["response"]["error"] if caller == "responses" else last["error"]
    return error
