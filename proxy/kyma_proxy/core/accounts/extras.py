"""Finds what a request asks for beyond tokens, and what that costs a metered caller. (Contract §8.)

A bill is made of reported tokens. Some members and some tools make a provider charge for more: a dearer service tier, a search,
a container, another model. Metered callers may use them only if the model's price says what they cost (`per_search`,
`priority`, `flex`) or that they are `included`; all others are refused.

For tools this is an allow-list, as each type of tool that is not the caller's own runs at the provider, and new ones come. For
members it is a list of those that are known to cost: an unknown member must not break a caller, and providers refuse or ignore
what they don't know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from kyma_proxy.config.snapshot import Price
from kyma_proxy.core.accounts.estimate import estimated_prompt_tokens
from kyma_proxy.core.accounts.quantities import Quantities, most_nano_usd
from kyma_proxy.core.accounts.usage import PER_MILLE, Usage
from kyma_proxy.core.spelling import Spellings
from kyma_proxy.errors import GatewayError, Kind

MAX_SEARCHES: Final = 10
"""The searches that are held for a request that sets no `max_uses`."""
UNNAMED: Final = ""
"""Stands for the type of a tool, or a service tier, that looks like none."""

_ALWAYS_FREE: Final[tuple[object, ...]] = (None, False, [], "")
# The values of each member that cost nothing more, besides those of _ALWAYS_FREE.
_FREE_VALUES: Final[Mapping[str, tuple[object, ...]]] = MappingProxyType({
    # https://platform.openai.com/docs/api-reference/responses/create: the answer comes later and elsewhere
    "background": (),
    # input that is not in the body, so that neither a hold nor an estimate can cover it; a `prompt` may bring tools, too
    "previous_response_id": (), "conversation": (), "prompt": (),
    # https://platform.openai.com/docs/api-reference/chat/create: sound has prices of its own, and searches have one
    "modalities": (["text"],), "audio": (), "web_search_options": (),
    # https://platform.claude.com/docs/en/about-claude/pricing: fast mode and data residency multiply the price
    "speed": ("standard",), "inference_geo": ("global",),
    # https://platform.claude.com/docs/en/api/messages: skills and code run in a container; MCP servers bring unseen input
    "container": (), "mcp_servers": (),
    # other models, other providers' prices, and plugins that search, at aggregators: https://openrouter.ai/docs/guides/routing,
    # https://docs.litellm.ai/docs/proxy/client_side_fallbacks, https://vercel.com/docs/ai-gateway/models-and-providers
    "models": (), "provider": (), "preset": (), "plugins": (), "fallbacks": (), "providerOptions": (),
    # https://docs.x.ai/docs/guides/live-search, https://console.groq.com/docs/compound/built-in-tools, DashScope's search
    "search_parameters": (), "compound_custom": (), "enable_search": (),
})  # fmt: skip
_SEARCH_MEMBERS: Final = frozenset({"web_search_options", "enable_search"})
COSTLY_MEMBERS: Final = frozenset({*_FREE_VALUES, "service_tier", "tools"})
"""The members of a body that `asked_extras` looks at."""

_STANDARD_TIERS: Final = frozenset({"auto", "default", "standard", "standard_only", "on_demand"})
"""The service tiers at the standard price: OpenAI's and Google's, Anthropic's `standard_only`, Groq's `on_demand`."""
# Tools that the caller runs itself: https://platform.openai.com/docs/guides/tools,
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview. Finding one of the caller's own tools has no price.
_OWN_TOOLS: Final = frozenset({
    "function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview", "namespace", "tool_search",
})  # fmt: skip
_OWN_TOOL: Final = re.compile(r"(?:bash|text_editor|computer|memory)_[0-9]{8}|tool_search_tool_[a-z0-9]+(?:_[0-9]{8})?")
_SEARCH_TOOL: Final = re.compile(r"web_search(?:_preview)?(?:_[0-9_]+)?|openrouter:web_search|browser_search|x_search")
_NAME: Final = re.compile(r"[a-z][a-z0-9_:]{0,63}")


class Extras(NamedTuple):
    """Names what a request asks for beyond tokens.

    `unpriced` are the names of members and types of tools that have no price of their own, and the member of the body that each
    stands in. `tier` is a service tier that is not a standard one. `searches` is the most searches that the provider may make.
    """

    unpriced: tuple[tuple[str, str], ...] = ()
    tier: str | None = None
    searches: int = 0
    searching: tuple[tuple[str, str], ...] = ()
    """The members and types of tools that search, and the member of the body that each stands in."""
    quantities: Quantities | None = None
    """Of a request that is measured by more than tokens: how much it has of everything."""


_Tool = dict[str, msgspec.Raw]
_TOOL_MEMBERS: Final = Spellings(
    ("environment", "function", "max_uses", "name", "tools", "type"),
    ("cache_control", "description", "input_schema", "parameters", "strict"),
)
_ENVIRONMENT_MEMBERS: Final = Spellings(("type",))
_NULL: Final = msgspec.Raw(b"null")

_tools: Final = msgspec.json.Decoder(list[_Tool] | None).decode
_value: Final = msgspec.json.Decoder().decode
_MAX_TOOL_DEPTH: Final = 4
_MAX_TOOLS: Final = 5_000
_MAX_OBJECTS: Final = 20_000
"""A list of tools has no more objects, with all their schemas: each of millions of tools would be looked at."""
_MAX_FREE_BYTES: Final = 256
"""A value that costs nothing is short."""


def asked_extras(members: Mapping[str, msgspec.Raw]) -> Extras | None:
    """Find what the members of a body ask for beyond tokens; None for nothing."""
    unpriced: list[tuple[str, str]] = []
    searching: list[tuple[str, str]] = []
    searches = 0
    for name, free in _FREE_VALUES.items():
        if name in members and _may_cost(name, members[name], free):
            if name in _SEARCH_MEMBERS:
                searching.append((name, name))
                searches += MAX_SEARCHES
            else:
                unpriced.append((name, name))
    tier = _tier(members["service_tier"]) if "service_tier" in members else None
    if "tools" in members:
        types, found = _server_tools(members["tools"], 0)
        unpriced += [(one, "tools") for one in types]
        searching += [(one, "tools") for one, _ in found]
        searches += sum(uses for _, uses in found)
    if not unpriced and tier is None and not searching:
        return None
    return Extras(tuple(unpriced), tier, searches, tuple(searching))


def _may_cost(name: str, written: msgspec.Raw, free: tuple[object, ...]) -> bool:
    if name == "prompt":  # of `completions` it is the prompt itself; only an object refers to another
        return bytes(memoryview(written)[:1]) == b"{"
    if memoryview(written).nbytes > _MAX_FREE_BYTES:
        return True
    try:
        value = _value(written)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return True
    return not any(type(value) is type(one) and value == one for one in (*_ALWAYS_FREE, *free))


def _tier(written: msgspec.Raw) -> str | None:
    """The service tier, if it is not a standard one."""
    name = _name(written)
    return None if name is None or name in _STANDARD_TIERS else name


def _name(written: msgspec.Raw) -> str | None:
    """A name as the caller wrote it, None for null. What does not look like a name becomes UNNAMED, and is not repeated."""
    try:
        value = _value(written)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        value = ""
    if value is None:
        return None
    return value if isinstance(value, str) and _NAME.fullmatch(value) else UNNAMED


def _server_tools(written: msgspec.Raw, depth: int) -> tuple[list[str], list[tuple[str, int]]]:
    """The types of tools that the provider runs at an unknown price, and of those that search, each with its most searches."""
    if memoryview(written).nbytes > _MAX_OBJECTS and bytes(written).count(b"{") > _MAX_OBJECTS:
        return [UNNAMED], []
    try:
        tools = _tools(written) or []
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return [UNNAMED], []
    if len(tools) > _MAX_TOOLS:
        return [UNNAMED], []
    unpriced: list[str] = []
    searching: list[tuple[str, int]] = []
    for tool in tools:
        kind = _name(tool.get("type", _NULL))
        if _TOOL_MEMBERS.other(tool) is not None:  # a provider may take it for the type
            unpriced.append(UNNAMED)
        elif kind is None:  # Anthropic's custom tools need no type, but a name
            if "name" not in tool and "function" not in tool:
                unpriced.append(UNNAMED)
        elif _SEARCH_TOOL.fullmatch(kind):
            searching.append((kind, _max_uses(tool.get("max_uses", _NULL))))
        elif kind not in _OWN_TOOLS and not _OWN_TOOL.fullmatch(kind) and not _is_local(kind, tool):
            unpriced.append(kind)
        elif kind == "namespace":
            inner, more = _server_tools(tool.get("tools", _NULL), depth + 1) if depth < _MAX_TOOL_DEPTH else ([kind], [])
            unpriced += inner
            searching += more
    return unpriced, searching


def _is_local(kind: str, tool: _Tool) -> bool:
    """True for a shell that runs at the caller's, not in a container of the provider's."""
    if kind != "shell":
        return False
    try:
        environment = _value(tool.get("environment", _NULL))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    if not isinstance(environment, dict) or _ENVIRONMENT_MEMBERS.other(environment) is not None:
        return False
    return environment.get("type") == "local"


def _max_uses(written: msgspec.Raw) -> int:
    text = bytes(written)
    return min(int(text), 1000) if text.isdigit() and len(text) < 10 else MAX_SEARCHES


def refuse_unpriced(extras: Extras, price: Price) -> None:
    """Refuse a request that asks for something without a price. Raises GatewayError."""
    for name, param in extras.unpriced:
        if name not in price.included:
            what = f"the tool `{name}`" if param == "tools" else f"`{name}`"
            raise _unpriced(f"{what if name else 'a tool of this type'} may cost more than its tokens", param)
    if extras.tier is not None and _multiplier(price, extras.tier) is None and extras.tier not in price.included:
        raise _unpriced("this service tier has a price of its own", "service_tier")
    for name, param in extras.searching:
        if price.per_search is None and name not in price.included:
            raise _unpriced(f"`{name}` costs more than its tokens", param)


def _unpriced(what: str, param: str) -> GatewayError:
    message = f"Requests are metered here: {what}, and the model's price does not name it. Leave `{param}` out, or change it."
    return GatewayError(Kind.INVALID_REQUEST, message, param=param)


def with_extras(amount: int, usage: Usage | None, extras: Extras | None, price: Price) -> int:
    """The cost of a request whose tokens cost `amount` at the standard tier, in nano-dollars.

    Without a usage it is the most that it may cost. Where a provider says that it served another tier than the one that was
    asked for, that tier counts. A request that may search, and whose searches were not reported, counts as one search.
    """
    if extras is not None and extras.tier is not None:
        served = extras.tier if usage is None or usage.service_tier is None else usage.service_tier
        if served not in _STANDARD_TIERS:
            factor = _multiplier(price, served) or _multiplier(price, extras.tier) or PER_MILLE
            amount = -(-amount * factor // PER_MILLE)
    if price.per_search is not None:
        allowed = 0 if extras is None else extras.searches
        searches = allowed if usage is None else usage.searches
        amount += (min(1, allowed) if searches is None else searches) * price.per_search
    if extras is not None and extras.quantities is not None:
        amount += most_nano_usd(extras.quantities, price)
    return amount


def prompt_of(extras: Extras, body: bytes) -> int:
    """About how many tokens the prompt of a request with these extras has."""
    return estimated_prompt_tokens(body) if extras.quantities is None else extras.quantities.prompt


def _multiplier(price: Price, tier: str) -> int | None:
    """The thousandths of the standard price at this tier; None if the price does not name it."""
    if tier == "priority":
        return price.priority
    return price.flex if tier == "flex" else None
