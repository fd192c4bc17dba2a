"""Lists what the errors of providers mean: by their codes, and where these say too little by the wording. (Contract §5.)

A rule names the provider that it was read from; where a provider documents none, reports of its users. Codes are compared as
they are, wordings without their case, anywhere in the message. A group of a wording catches what its name says: tokens of the
prompt, of the answer, of both, those of the model's context, or the parameter at fault.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final, NamedTuple

from kyma_proxy.errors import Kind

CODES: Final = MappingProxyType({
    # the prompt is too long
    "context_length_exceeded": Kind.CONTEXT_LENGTH_EXCEEDED,  # OpenAI, Azure, Groq
    "exceed_context_size_error": Kind.CONTEXT_LENGTH_EXCEEDED,  # llama.cpp: github.com/ggml-org/llama.cpp/pull/15780
    "model_max_prompt_tokens_exceeded": Kind.CONTEXT_LENGTH_EXCEEDED,  # GitHub Copilot
    "1261": Kind.CONTEXT_LENGTH_EXCEEDED,  # Zhipu: docs.bigmodel.cn/cn/faq/api-code
    # too many requests
    "rate_limit_exceeded": Kind.PROVIDER_RATE_LIMITED,  # OpenAI, Groq
    "tokens": Kind.PROVIDER_RATE_LIMITED,  # OpenAI's and Groq's types name what there is too much of
    "requests": Kind.PROVIDER_RATE_LIMITED,
    "rate_limit": Kind.PROVIDER_RATE_LIMITED,
    "rate_limit_error": Kind.PROVIDER_RATE_LIMITED,  # Anthropic
    "rate_limit_reached_error": Kind.PROVIDER_RATE_LIMITED,  # Moonshot
    "provider_rate_limited": Kind.PROVIDER_RATE_LIMITED,  # another gateway like this one
    "RESOURCE_EXHAUSTED": Kind.PROVIDER_RATE_LIMITED,  # Gemini: ai.google.dev/gemini-api/docs/troubleshooting
    "Throttling": Kind.PROVIDER_RATE_LIMITED,  # Alibaba: help.aliyun.com/zh/model-studio/error-code
    "Throttling.RateQuota": Kind.PROVIDER_RATE_LIMITED,
    "1302": Kind.PROVIDER_RATE_LIMITED,  # Zhipu
    # too many requests of everybody's
    "overloaded_error": Kind.PROVIDER_OVERLOADED,  # Anthropic: docs.claude.com/en/api/errors
    "overloaded": Kind.PROVIDER_OVERLOADED,
    "server_is_overloaded": Kind.PROVIDER_OVERLOADED,  # OpenAI: platform.openai.com/docs/guides/error-codes
    "slow_down": Kind.PROVIDER_OVERLOADED,
    "server_overloaded": Kind.PROVIDER_OVERLOADED,
    "service_unavailable_error": Kind.PROVIDER_OVERLOADED,
    "engine_overloaded_error": Kind.PROVIDER_OVERLOADED,  # Moonshot: platform.moonshot.ai/docs/api/errors
    "capacity_exceeded": Kind.PROVIDER_OVERLOADED,  # Groq's flex tier: console.groq.com/docs/errors
    "UNAVAILABLE": Kind.PROVIDER_OVERLOADED,  # Gemini
    "1305": Kind.PROVIDER_OVERLOADED,  # Zhipu
    # the content is refused
    "content_filter": Kind.CONTENT_FILTERED,  # Azure: learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
    "ResponsibleAIPolicyViolation": Kind.CONTENT_FILTERED,  # Azure's inner error
    "content_policy_violation": Kind.CONTENT_FILTERED,  # OpenAI
    "image_content_policy_violation": Kind.CONTENT_FILTERED,
    "invalid_prompt": Kind.CONTENT_FILTERED,
    "moderation_blocked": Kind.CONTENT_FILTERED,
    "data_inspection_failed": Kind.CONTENT_FILTERED,  # Alibaba
    "DataInspectionFailed": Kind.CONTENT_FILTERED,
    "1301": Kind.CONTENT_FILTERED,  # Zhipu
    # an image can't be used; OpenAI's codes, as the answer of Responses lists them
    **dict.fromkeys((
        "invalid_image", "invalid_image_format", "invalid_base64_image", "invalid_image_url", "image_too_large",
        "image_too_small", "image_parse_error", "invalid_image_mode", "image_file_too_large", "unsupported_image_media_type",
        "empty_image_file", "failed_to_download_image", "image_file_not_found",
    ), Kind.INVALID_IMAGE),
    # there is no such model
    "model_not_found": Kind.MODEL_NOT_FOUND,  # OpenAI, Groq, Fireworks
    "DeploymentNotFound": Kind.MODEL_NOT_FOUND,  # Azure
    "model_decommissioned": Kind.MODEL_NOT_FOUND,  # Groq
    "model_not_available": Kind.MODEL_NOT_FOUND,  # Together
    "1211": Kind.MODEL_NOT_FOUND,  # Zhipu
    # a member of the request is not taken
    "unsupported_parameter": Kind.UNSUPPORTED_PARAMETER,  # OpenAI
    "unsupported_value": Kind.UNSUPPORTED_PARAMETER,
    "unknown_parameter": Kind.UNSUPPORTED_PARAMETER,
    # the body is too large
    "request_too_large": Kind.BODY_TOO_LARGE,  # Anthropic, Groq
    # the operator's key, bill or permission
    **dict.fromkeys((
        "authentication_error", "invalid_api_key", "permission_error", "billing_error", "insufficient_quota",
        "insufficient_balance", "insufficient_credits", "billing_hard_limit_reached", "billing_not_active",
        "account_deactivated", "budget_exceeded", "Arrearage", "1113", "API_KEY_INVALID", "UNAUTHENTICATED",
        "PERMISSION_DENIED", "exceeded_current_quota_error", "invalid_authentication_error", "no_source_available",
    ), Kind.NO_SOURCE_AVAILABLE),
    "timeout_error": Kind.PROVIDER_TIMEOUT,  # Anthropic
    "provider_timeout": Kind.PROVIDER_TIMEOUT,
    "DEADLINE_EXCEEDED": Kind.PROVIDER_TIMEOUT,  # Gemini
})  # fmt: skip
"""The kinds of the codes, types and reasons that decide."""

VAGUE_CODES: Final = MappingProxyType({
    "invalid_request_error": Kind.INVALID_REQUEST, "BadRequestError": Kind.INVALID_REQUEST,
    "INVALID_ARGUMENT": Kind.INVALID_REQUEST, "not_found_error": Kind.NOT_FOUND, "conflict_error": Kind.CONFLICT,
    "api_error": Kind.PROVIDER_ERROR, "server_error": Kind.PROVIDER_ERROR,
})  # fmt: skip
"""Those that stand for several kinds: the wording may say more."""

_KINDS_OF_STATUS: Final = MappingProxyType({
    401: Kind.NO_SOURCE_AVAILABLE, 402: Kind.NO_SOURCE_AVAILABLE, 403: Kind.NO_SOURCE_AVAILABLE, 404: Kind.NOT_FOUND,
    408: Kind.PROVIDER_TIMEOUT, 409: Kind.CONFLICT, 413: Kind.BODY_TOO_LARGE, 429: Kind.PROVIDER_RATE_LIMITED,
    503: Kind.PROVIDER_OVERLOADED, 504: Kind.PROVIDER_TIMEOUT, 529: Kind.PROVIDER_OVERLOADED,
})  # fmt: skip


def kind_of_status(status: int) -> Kind:
    """Return the kind of an error that says nothing but its status."""
    other = Kind.PROVIDER_ERROR if status >= 500 else Kind.INVALID_REQUEST
    return _KINDS_OF_STATUS.get(status, other)


class Wording(NamedTuple):
    """The words of an error and the kind that they mean."""

    kind: Kind
    pattern: re.Pattern[str]


def _wording(kind: Kind, pattern: str) -> Wording:
    return Wording(kind, re.compile(pattern, re.IGNORECASE))


_N: Final = r"(?P<{}>[0-9]{{1,12}})"
_PROMPT, _ANSWER, _TOTAL, _CONTEXT = (_N.format(name) for name in ("prompt", "answer", "total", "context"))

WORDINGS: Final = (
    # OpenAI, DeepSeek, vLLM, Azure: platform.openai.com; github.com/vllm-project/vllm/issues/20409
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"maximum context length is {_CONTEXT} tokens[.,] *however, you requested (?:about )?{_TOTAL} tokens "
        rf"\({_PROMPT} (?:in (?:the messages|your prompt)|of text input)",  # OpenRouter's is the last
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"maximum context length is {_CONTEXT} tokens\. however, you requested {_ANSWER} output tokens and your prompt "
        rf"contains (?:at least )?{_PROMPT} input tokens",  # vLLM
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"is too large: {_ANSWER}\. this model's maximum context length is {_CONTEXT} tokens and your request has {_PROMPT} "
        r"input tokens",  # vLLM
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"(?:maximum context length is|exceed the configured limit of) {_CONTEXT} tokens\. *(?:however, )?your messages "
        rf"resulted in {_PROMPT} tokens",  # OpenAI
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"maximum context length of {_CONTEXT} tokens\. you requested a total of {_TOTAL} tokens: {_PROMPT} tokens",  # SGLang
    ),
    _wording(Kind.CONTEXT_LENGTH_EXCEEDED, rf"prompt is too long: {_PROMPT} tokens > {_CONTEXT} maximum"),  # Anthropic
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"input length and `max_tokens` exceed context limit: {_PROMPT} \+ {_ANSWER} > {_CONTEXT}",  # Anthropic
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED, rf"prompt is too long: {_PROMPT}, model maximum context length: {_CONTEXT}"  # Fireworks
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"must be <= {_CONTEXT}\. given: {_PROMPT} `inputs` tokens and {_ANSWER} `max_new_tokens`",  # Together
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"prompt contains {_PROMPT} tokens.{{0,40}}too large for model with {_CONTEXT} maximum context length",  # Mistral
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"input token count \({_PROMPT}\) exceeds the maximum number of tokens allowed \({_CONTEXT}\)",  # Gemini
    ),
    _wording(Kind.CONTEXT_LENGTH_EXCEEDED, rf"exceeds the maximum number of tokens allowed \(?{_CONTEXT}"),  # Gemini
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"maximum prompt length is {_CONTEXT} but the request contains {_PROMPT} tokens",  # xAI
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED, rf"exceeded model token limit: {_CONTEXT} \(requested: {_PROMPT}\)"  # Moonshot
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"request \({_PROMPT} tokens\) exceeds the available context size \({_CONTEXT} tokens\)",  # llama.cpp
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        rf"input \({_PROMPT} tokens\) is longer than the model's context length \({_CONTEXT} tokens\)",  # SGLang
    ),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED, rf"prompt token count of {_PROMPT} exceeds the limit of {_CONTEXT}"  # Copilot
    ),
    _wording(Kind.CONTEXT_LENGTH_EXCEEDED, rf"range of input length should be \[1, {_CONTEXT}\]"),  # Alibaba
    _wording(Kind.CONTEXT_LENGTH_EXCEEDED, rf"maximum context length (?:is|of|:) {_CONTEXT}"),
    _wording(
        Kind.CONTEXT_LENGTH_EXCEEDED,
        r"prompt (?:is )?too long|exceeds the context window|context window exceeds limit|maximum context length"
        r"|reduce the length of (?:the (?:messages|input|prompt)|your prompt|either one)"  # OpenAI, OpenRouter, Groq
        r"|(?:exceeds?|greater than) (?:the )?(?:available )?context (?:length|size)|context length exceeded"  # Ollama
        r"|input is too long for requested model|prompt exceeds max length",  # Bedrock, Zhipu
    ),
    _wording(
        Kind.CONTENT_FILTERED,
        r"content (?:management|filtering) polic|blocked by content filter|flagged as potentially violating"  # Azure, …
        r"|content exists risk|considered high risk|inappropriate content"  # DeepSeek, Moonshot, Alibaba
        r"|rejected (?:by|as a result of) (?:our|the) safety system",  # OpenAI
    ),
    _wording(
        Kind.INVALID_IMAGE,
        r"could not process image|image (?:exceeds|dimensions exceed)|image\.source|unable to process input image"  # Anthropic
        r"|unsupported image|invalid (?:base64 )?image|provided image is not valid|cannot identify image file"  # OpenAI, …
        r"|failed to (?:load|decode|download|fetch|process) (?:the )?image|error while downloading (?:file|http)",
    ),
    _wording(
        Kind.MODEL_NOT_FOUND,
        r"model[^.]{0,120}(?:does not exist|is not found|has been decommissioned)"  # OpenAI, Gemini, Groq
        r"|not found the model|model not exist|is not a valid model id"  # Moonshot, DeepSeek, OpenRouter
        r"|unable to access model|invalid model: ",  # Together, Mistral
    ),
    _wording(
        Kind.UNSUPPORTED_PARAMETER,
        r"(?:unsupported|unknown) (?:parameter|value|name):? ['\"`\\]*(?P<param>[\w.\[\]]{1,80})"  # OpenAI, Gemini
        r"|unrecognized request arguments? supplied: (?P<param_2>[\w.\[\]]{1,80})"
        r"|propert(?:y|ies) ['\"`](?P<param_3>[\w.\[\]]{1,80})['\"`] is unsupported"  # Groq
        r"|(?P<param_4>[\w.\[\]]{1,80}): extra inputs are not permitted|extra inputs are not permitted"  # Anthropic, Mistral
        r"|['\"`](?P<param_5>[\w.\[\]]{1,80})['\"`] is not supported (?:with|by|for) this model"
        r"|argument not supported on this model: (?P<param_6>[\w.\[\]]{1,80})",  # Groq, xAI
    ),
    _wording(
        Kind.BODY_TOO_LARGE,
        r"request exceeds the maximum size|request entity too large|payload (?:size exceeds|too large)",  # Anthropic, Gemini
    ),
)  # fmt: skip

LATE_WORDINGS: Final = (
    _wording(Kind.PROVIDER_RATE_LIMITED, r"rate limit|too many requests"),  # Mistral
    _wording(Kind.PROVIDER_OVERLOADED, r"overloaded|(?:at|over) capacity|server is busy"),  # Gemini, OpenAI, DeepSeek
)
"""The words of an error within an answer, or of a server, which has no status that tells."""
