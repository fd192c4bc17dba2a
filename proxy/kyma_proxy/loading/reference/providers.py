"""The keys of a provider, and those that its models' sources share with it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kyma_proxy.loading import document as doc
from kyma_proxy.loading.reference.key import NEW_CONNECTIONS, Key

_NO_KEY: Final = "none"

_PROVIDER: Final = {
    "name": Key("A name of your choice, by which models, the log and the metrics know it.", "azure"),
    "base_url": Key(
        "The base URL of its API, with `/v1` where its documentation has it. `{model}` in the path is each source's model. A "
        "unix socket is `unix:`, its path, a colon and the URL's path.",
        '"https://my.openai.azure.com/openai/deployments/{model}"',
    ),
    "dialect": Key("The API that it speaks.", "anthropic"),
    "api_key": Key(
        "Its key. Write the name of a variable, so that the file holds no key. A provider has one of `api_key`, `api_keys`, "
        "`api_key_file` and `api_key_command` at most; a server that asks for no key needs none.",
        '"${OPENAI_API_KEY}"',
        default=_NO_KEY,
    ),
    "api_keys": Key(
        "Several keys, which take turns. Each has a circuit breaker of its own; one whose variable is not set is left out.",
        '["${OPENAI_API_KEY}", "${OPENAI_API_KEY_2}"]',
        default=_NO_KEY,
    ),
    "api_key_file": Key(
        "A file with its key in one line. A new content is taken at a reload and within ten seconds.",
        "/run/secrets/openai",
        default=_NO_KEY,
    ),
    "api_key_command": Key(
        "A program and its arguments, without a shell, that prints its key in one line.",
        "[gcloud, auth, print-access-token]",
        default=_NO_KEY,
        private=True,
    ),
    "api_key_timeout": Key("For `api_key_command`; more than 0.", "30s"),
    "api_key_refresh": Key("When `api_key_command` is run again; 1s or more. A reload runs it again, too.", "30m"),
    "api_key_header": Key(
        "The header that holds the key, and nothing else.",
        "api-key",
        default="that of the dialect",
    ),
    "headers": Key(
        "Headers of every request to it. A variable that is not set switches the provider off.",
        '{OpenAI-Organization: "${OPENAI_ORGANIZATION}"}',
    ),
    "query": Key(
        "Parameters of every request's URL. A variable that is not set switches the provider off.",
        '{api-version: "2024-10-21"}',
    ),
    "body": Key(
        "Members for requests that do not have them. What a caller sends is never changed.",
        "{provider: {data_collection: deny}}",
        private=True,
    ),
    "proxy": Key(
        "The HTTP proxy on the way to it: `http://host:port`, with `user:password@` before the host if it asks for them; or "
        "`environment`, for the variables that curl obeys (`HTTPS_PROXY`, `NO_PROXY` and so on).",
        "http://proxy.example:3128",
        default="none",
    ),
    "move_on": Key(
        "More errors that lead to the next source, besides the usual ones.",
        "[{code: project_paused}]",
    ),
    "timeouts": Key("Its timeouts.", "{first_byte: 5m}", default="those of `defaults.timeouts`"),
    "max_tokens_field": Key(
        "The member for `max_tokens` in requests where the gateway inserts it or translates it.",
        "max_completion_tokens",
        default="the usual one of the endpoint",
    ),
    "reasoning_field": Key(
        "The member of a message for its earlier reasoning, in requests that are translated; `none` leaves it out.",
        "none",
    ),
    "supports": Key(
        "What it takes of a request that is translated. What a caller sends in the provider's own dialect is never changed.",
        "{stop: 4, drop_params: [logit_bias]}",
    ),
    "supports_by_model": Key(
        "The same for some of its models, by their names there, exact or with a `*`. All that fit count, the longest most.",
        '{"o3*": {drop_params: [temperature, top_p]}}',
    ),
    "reasoning_parser": Key(
        "The tags in which it writes its reasoning at the beginning of the text: `<think>`, `<thought>` (Gemini) or "
        "`<mm:think>` (MiniMax M3); with `deepseek_r1` it is `<think>`, and the first tag may be missing. In translated "
        "answers the reasoning is then taken out of the text, and it goes back the same way.",
        "think",
    ),
    "calls_need": Key(
        "What it refuses a call of an earlier turn without, in requests that are translated: `reasoning` (Moonshot) or "
        "`thought_signature` (Gemini 3). Where the turn came from another source, a placeholder is sent.",
        "reasoning",
    ),
    "warm_connections": Key("Connections that are opened ahead while it is used.", "4"),
    "keep_alive": Key(
        "How long an idle connection to it is kept; shorter than the provider keeps it, so that no request meets its end.",
        "55s",
        NEW_CONNECTIONS,
    ),
    "ca_file": Key(
        "A file with the certificates, in PEM, that are trusted in place of the system's. A new content is taken at a reload "
        "and within ten seconds.",
        "/etc/kyma/authority.pem",
        default="the system's authorities",
    ),
    "pass_headers": Key(
        "More headers of its answers that pass to callers, exact or with a `*` at the end. Those of limits, money and accounts "
        "stay behind otherwise.",
        "[x-groq-*]",
    ),
    "endpoints": Key(
        "What it has, if that is not all of its dialect; other endpoints are not asked.",
        "[chat, embeddings]",
        default="all of its dialect",
    ),
}

_ERROR_RULE: Final = {
    "status": Key("The status of the answer.", "400", default="any"),
    "code": Key("The code, type or reason in its body.", "project_paused", default="any"),
    "message": Key("The beginning of its message; upper and lower case are the same.", "Your plan has ended", default="any"),
}

_OF_ABOVE: Final = "that of the level above"

_SUPPORTS: Final = {
    "reasoning_effort": Key(
        "The values that it takes; the nearest one is sent. `[]` if it refuses the member.",
        "[low, medium, high]",
        default="`[low, medium, high]`; at an Anthropic source by the model",
    ),
    "reasoning_effort_with_tools": Key(
        "The values that it takes beside tools, if they are others. `[none]` is sent with all tools.",
        "[none]",
        default="`reasoning_effort`",
    ),
    "stop": Key("The most stop sequences; the rest is left out.", "4", default="any number"),
    "tool_name": Key(
        "The most characters in the name of a tool; a longer one is shortened, and long again in the answer.",
        "128",
        default="64",
    ),
    "response_format": Key(
        "The formats that it takes; others are asked for in the prompt.",
        "[json_object]",
        default="both; at an Anthropic source by the model",
    ),
    "images": Key("`false` if it can't see, though its model can; another source is asked.", "false", default="as its model"),
    "assistant_first": Key("`false` if a conversation can't begin with the assistant.", "false", default="`true`"),
    "assistant_last": Key(
        "`false` if a conversation can't end with the assistant.",
        "false",
        default="`true`; at an Anthropic source by the model",
    ),
    "drop_params": Key(
        "Members that it refuses; they are left out, and named in `x-kyma-dropped`.", "[temperature, seed]", default=_OF_ABOVE
    ),
}

PROVIDERS: Final[Mapping[type, Mapping[str, Key]]] = MappingProxyType({
    doc.Provider: _PROVIDER, doc.ErrorRule: _ERROR_RULE, doc.Supports: _SUPPORTS,
})  # fmt: skip
