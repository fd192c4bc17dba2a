"""Runs the command `bench`: compares a provider that is asked directly with the same one behind a gateway. (Contract §13.)

It asks a real provider, which costs money, so it runs only with a bound. The key comes from the environment, and is written
nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from kyma_proxy import __version__
from kyma_proxy.errors import StartError
from kyma_proxy.loading.known_providers import KnownProvider, read_known_providers
from kyma_proxy.loading.starting import provider_at
from kyma_proxy.ops.bench import report
from kyma_proxy.ops.bench.asking import Prompt, Way
from kyma_proxy.ops.bench.bounds import Bounds, Price
from kyma_proxy.ops.bench.comparing import Comparison, gateway_in_front_of
from kyma_proxy.ops.bench.figures import DIRECT, GATEWAY
from kyma_proxy.ops.config_file import CATALOGUE, shipped_text
from kyma_proxy.ops.options import EXIT_FAILED, EXIT_OK

_ANTHROPIC_VERSION: Final = "2023-06-01"
_PROMPT: Final = "Count from one to one hundred, in words."


def add_bench_command(commands: Any) -> None:
    """Add `bench` to the commands, which are argparse's sub-parsers."""
    bench = commands.add_parser(
        "bench",
        help="compare your provider directly and through the gateway",
        description="Send streamed requests to a provider by turns, directly and through a gateway that is started for this, "
        "and compare the time to the first event, the time between events, and tokens a second. It asks a real provider, so "
        "it needs a bound: --requests, --max-usd, or both.",
    )
    bench.add_argument("--url", required=True, metavar="URL", help="the provider's base URL, such as https://api.openai.com/v1")
    bench.add_argument("--model", required=True, metavar="ID", help="the provider's own id of the model")
    bench.add_argument("--key-env", metavar="NAME", help="the environment variable with its key (default: no key is sent)")
    bench.add_argument(
        "--requests", type=_positive_count, metavar="N", help="send so many requests at the most, both ways in all"
    )
    bench.add_argument("--max-usd", type=_positive, metavar="USD", help="spend so much at the most; needs --price")
    bench.add_argument("--price", type=_price, metavar="IN/OUT", help="dollars for a million tokens: 0.15/0.60")
    bench.add_argument("--rate", type=_positive, default=2.0, metavar="N", help="requests a second, both ways (default: 2)")
    bench.add_argument("--max-tokens", type=_positive_count, default=128, metavar="N", help="of an answer (default: 128)")
    bench.add_argument("--prompt", default=_PROMPT, metavar="TEXT", help="the text to send")
    bench.add_argument(
        "--body", type=_members, default={}, metavar="JSON", help="members to add to the body; null takes one out"
    )
    bench.add_argument("--out", type=Path, default=Path("kyma-bench"), metavar="DIRECTORY", help="where table and plot go")
    bench.set_defaults(action=_bench)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("it must be above 0")
    return value


def _positive_count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return value


def _price(text: str) -> Price:
    first, _, second = text.partition("/")
    try:
        price = Price(float(first), float(second))
    except ValueError:
        raise argparse.ArgumentTypeError("it is two numbers: 0.15/0.60") from None
    if not all(0 <= value < float("inf") for value in price):
        raise argparse.ArgumentTypeError("it is two numbers: 0.15/0.60")
    return price


def _members(text: str) -> dict[str, Any]:
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError:
        members = None
    if not isinstance(members, dict):
        raise argparse.ArgumentTypeError("it is a JSON object")
    return members


def _bench(args: argparse.Namespace) -> int:
    if args.requests is None and args.max_usd is None:
        raise StartError("bench asks a real provider: bound it with --requests N, or with --max-usd USD and --price IN/OUT")
    if args.max_usd is not None and args.price is None:
        raise StartError("--max-usd needs to know what a token costs: --price IN/OUT, in dollars for a million tokens")
    ways, prompt = _ways_and_prompt(args, os.environ)
    bounds = Bounds(args.requests, args.max_usd, args.price)
    comparison = Comparison(prompt, bounds, max_tokens=args.max_tokens, rate_per_s=args.rate)
    with contextlib.suppress(KeyboardInterrupt):  # what has ended is paid for, and told
        asyncio.run(_run(args, comparison, ways, os.environ))
    asked = comparison.asked
    host = args.url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    title = f"{args.model} at {host}, {len(asked)} requests, kyma-proxy {__version__}, {datetime.now(UTC):%Y-%m-%d}"
    text = report.table(asked)
    if args.price is not None:
        text += f"\n\nSpent: ${bounds.usd:.4f} at the most."
    print(f"{title}\n\n{text}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench.md").write_text(f"# {title}\n\n{text}\n\n![The share that came within a time](bench.svg)\n")
    (args.out / "bench.svg").write_text(report.plot(asked, title))
    (args.out / "bench.json").write_bytes(orjson.dumps([one._asdict() for one in asked], option=orjson.OPT_INDENT_2))
    print(f"\nWritten to {args.out}/: bench.md, bench.svg, bench.json")
    return EXIT_FAILED if any(one.failure is not None for one in asked) else EXIT_OK


def _ways_and_prompt(
    args: argparse.Namespace, environment: Mapping[str, str]
) -> tuple[Callable[[str], tuple[Way, Way]], Prompt]:
    """The two ways, given the base URL of the gateway, and the request. Raises StartError."""
    key = None if args.key_env is None else environment.get(args.key_env, "")
    if key == "":
        raise StartError(f"--key-env {args.key_env}: the environment has no such variable, or it is empty")
    try:
        provider = provider_at(args.url, args.key_env, read_known_providers(shipped_text(CATALOGUE)))
    except ValueError as error:
        raise StartError(f"--url: {error}") from None

    def ways(base: str) -> tuple[Way, Way]:
        direct = _way(DIRECT, provider, provider.base_url, key, args.model)
        return direct, _way(GATEWAY, provider, f"{base}/v1", None, args.model)

    return ways, _prompt(args, provider)


async def _run(
    args: argparse.Namespace, comparison: Comparison, ways: Callable[[str], tuple[Way, Way]], environment: Mapping[str, str]
) -> None:
    async with comparison:
        await comparison.try_once(ways("")[0])  # before anything is started: the URL or the key may be wrong
        async with gateway_in_front_of(args.url, args.key_env, environment) as base:
            print("Ctrl-C ends it, and what has ended by then is told.", file=sys.stderr, flush=True)
            both = ways(base)
            await comparison.try_once(both[1])
            await comparison.run(both, _tell)


def _prompt(args: argparse.Namespace, provider: KnownProvider) -> Prompt:
    members: dict[str, Any] = {
        "stream": True,
        "max_tokens": args.max_tokens,
        "messages": [{"role": "user", "content": args.prompt}],
    }
    if not _is_anthropic(provider):
        members["stream_options"] = {"include_usage": True}
    return Prompt({name: value for name, value in {**members, **args.body}.items() if value is not None})


def _way(name: str, provider: KnownProvider, base: str, key: str | None, model: str) -> Way:
    """One way to the model. The gateway finds the provider by its name before the model's."""
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if _is_anthropic(provider):
        path = "messages" if base.rstrip("/").endswith("/v1") else "v1/messages"
        headers |= {"anthropic-version": _ANTHROPIC_VERSION} | ({} if key is None else {"x-api-key": key})
    else:
        path = "chat/completions"
        headers |= {} if key is None else {"authorization": f"Bearer {key}"}
    return Way(name, f"{base.rstrip('/')}/{path}", headers, f"{provider.name}/{model}" if name == GATEWAY else model)


def _is_anthropic(provider: KnownProvider) -> bool:
    return bool(provider.entry["dialect"] == "anthropic")


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line}  ", end="", file=sys.stderr, flush=True)
