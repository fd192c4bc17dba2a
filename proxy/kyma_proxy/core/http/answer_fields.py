"""Decides which header fields of a provider's answer reach a caller: an allow-list of kinds. (Contract §4.2.)

The rule, in its order: what is never passed, then the operator's `pass_headers`, then what describes the operator's account,
then the kinds that are useful to a caller. Everything else stays behind. Names are in lower case.

The names are those that providers documented or were seen to send in 2026: OpenAI's API reference ("Debugging requests"),
Anthropic's ("Rate limits", response headers), Azure's and LiteLLM's documentation (`/docs/proxy/response_headers`), Fireworks'
performance metrics, the source of Hugging Face's text-generation-inference, and recorded answers of the others.
"""

from __future__ import annotations

import re
from typing import Final

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""RFC 9110 §7.6.1, and the names that old proxies use."""

_NEVER: Final = HOP_BY_HOP | {
    # framing is the gateway's, so that nothing that a provider names can remove it
    b"content-length",
    # the gateway's own id has this name
    b"x-request-id",
    # credentials, and the challenges that ask for them
    b"set-cookie", b"set-cookie2", b"cookie", b"authorization", b"proxy-authorization", b"x-api-key", b"api-key",
    b"x-goog-api-key", b"www-authenticate", b"proxy-authenticate", b"authentication-info", b"proxy-authentication-info",
}  # fmt: skip
_NEVER_PREFIXES: Final = (b"x-kyma-", b"access-control-")
_ACTS_ON_A_PROXY: Final = re.compile(
    # nginx, lighttpd, Apache; caches in front; browsers, for the gateway's origin rather than the provider's
    rb"x-accel-.*|x-sendfile.*|x-lighttpd-.*|x-reproxy-.*|surrogate-.*|cdn-cache-control|.*-cdn-cache-control|x-litespeed-.*"
    rb"|clear-site-data|alt-svc|strict-transport-security|public-key-pins.*|expect-ct|report-to|reporting-endpoints|nel"
    rb"|refresh|content-security-policy.*|service-worker-allowed|sourcemap|x-sourcemap"
)
"""Fields that a proxy or a browser in front of the gateway obeys. Only an exact name in `pass_headers` lets one through."""

_KNOWN: Final = frozenset({
    # an answer and its origin
    b"date", b"server", b"x-content-type-options",
    # caching (RFC 9111)
    b"cache-control", b"expires", b"age", b"etag", b"last-modified", b"vary", b"pragma",
    # ids that a provider's support asks for
    b"request-id", b"cf-ray", b"traceparent", b"tracestate", b"traceresponse", b"x-cloud-trace-context", b"x-amz-cf-id",
    b"eo-log-uuid", b"x-generation-id",
    # what answered
    b"openai-model", b"openai-version", b"x-ms-served-model", b"x-groq-region",
    # DashScope's processing time in ms, which is no cost, and its moments
    b"req-cost-time", b"req-arrive-time", b"resp-start-time",
    # what the client should know or do next (RFC 9745, RFC 8594, RFC 9111 §5.5, RFC 8288)
    b"deprecation", b"sunset", b"warning", b"link",
})  # fmt: skip

_ACCOUNT_PARTS: Final = re.compile(
    rb"limit|remaining|quota|budget|throttl|allowance|utili[sz]ation|overage"
    rb"|spend|spent|cost|credit|balance|billing|invoice|payment|price|pricing|charge|subscription|trial"
    rb"|organi[sz]ation|project|account|tenant|workspace|customer|credential|secret|apikey|auth|password|cookie"
    rb"|deployment|api-base|base-url|backend|hostname"
)
"""Parts of a name that tell of limits, money, the operator's account, its keys, or the addresses behind the provider."""
_ACCOUNT_WORDS: Final = frozenset({
    b"org", b"orgs", b"team", b"user", b"uid", b"owner", b"email", b"tier", b"plan", b"usd", b"bill", b"reset",
    b"key", b"keys", b"jwt", b"bearer", b"signature",
    b"host", b"ip", b"addr", b"address", b"url", b"uri", b"base", b"endpoint", b"node", b"pod", b"cluster", b"instance",
    b"replica", b"machine",
})  # fmt: skip

_KINDS: Final = re.compile(
    # content: its type, disposition, language, encoding, digest; not where it is to be found
    rb"content-(?!location$).+|(?:repr-)?digest"
    # caching: of a CDN (RFC 9211) or of a prompt
    rb"|(?:.*-)?cache(?:-.*|d)?"
    # ids of requests and traces
    rb"|(?:.*-)?(?:request|req|trace|correlation|call|inference|log|span)-?u?u?id|x-b3-.*"
    # times
    rb"|server-timing|(?:.*-)?(?:time|latency|duration|elapsed|runtime|ttft|seconds|ms)|(?:.*-)?time-(?:to|per|in)-.*"
    # hints
    rb"|(?:.*-)?retry(?:-.*)?|(?:.*-)?(?:deprecated|deprecation|sunset|warning|warnings)(?:-.*)?"
)
_WORDS: Final = re.compile(rb"[^-]+")


def reaches_caller(name: bytes, passed: tuple[bytes, ...] = ()) -> bool:
    """True if the field passes. `passed` are names of `pass_headers`, in lower case, each exact or with a `*` at its end."""
    if is_never_passed(name):
        return False
    if name in passed:
        return True
    if _ACTS_ON_A_PROXY.fullmatch(name.replace(b"_", b"-")):
        return False
    if any(one.endswith(b"*") and name.startswith(one[:-1]) and b"_" not in name[len(one) - 1 :] for one in passed):
        return True
    if b"_" in name:  # a reader that takes `_` for `-` would take it for another field, so only the operator can want it
        return False
    return name in _KNOWN or (not _tells_of_the_account(name) and _KINDS.fullmatch(name) is not None)


def is_never_passed(name: bytes) -> bool:
    """True if no configuration can pass this field: it frames the answer, is the gateway's own, or carries a credential.

    A `_` counts as a `-`, as some readers take it for one.
    """
    plain = name.replace(b"_", b"-")
    return plain in _NEVER or plain.startswith(_NEVER_PREFIXES)


def pass_problem(pattern: str) -> str | None:
    """Return what is wrong with a name in `pass_headers`; None if nothing is."""
    name = pattern.lower().encode("ascii", "replace")
    stem = name.removesuffix(b"*")
    if not stem or not _TOKEN.fullmatch(stem):
        return "is not the name of a header, with or without a * at its end"
    if is_never_passed(stem) or is_never_passed(stem.rstrip(b"-")):
        return "is never passed to callers: it frames the answer, is the gateway's own, or carries a credential"
    return None


OWN_LIMITS: Final = tuple(
    b"x-ratelimit-%b-%b" % (what, of) for what in (b"limit", b"remaining", b"reset") for of in (b"requests", b"tokens")
)
"""The gateway's own fields for callers with an account, under OpenAI's names. (`accounting.meter`)"""


def matches(pattern: bytes, name: bytes) -> bool:
    """True if a name of `pass_headers`, in lower case, means this field."""
    return name.startswith(pattern[:-1]) if pattern.endswith(b"*") else name == pattern


_TOKEN: Final = re.compile(rb"[!#$%&'+.^_`|~0-9a-z-]+")


def _tells_of_the_account(name: bytes) -> bool:
    return _ACCOUNT_PARTS.search(name) is not None or not _ACCOUNT_WORDS.isdisjoint(_WORDS.findall(name))
