"""The application of the trial: it streams `gpt-4o` with OpenAI's SDK, and checks every word of each answer.

    python -m deploy.trial.app --streams 10 [--rate PER_SECOND] [--words 40] [--once]

It knows of a gateway only what its environment says (OPENAI_BASE_URL, OPENAI_API_KEY). It prints `streaming` when all streams
have begun, goes on until its standard input is closed, lets its streams end, and prints its counts as JSON. Nothing is tried
twice, so that an error of a single request is seen.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import threading
from collections import Counter
from typing import Any

from openai import AsyncOpenAI

from deploy.trial.strict_provider import MODEL, words_of


class App:
    """Callers that stream one answer after the other, and one that sends short requests, each on a connection of its own."""

    def __init__(self, words: int, model: str) -> None:
        self.words = words
        self.model = model
        self.stopped = asyncio.Event()
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._begun = 0
        self._keeping = AsyncOpenAI(max_retries=0)
        self._fresh = AsyncOpenAI(max_retries=0, default_headers={"connection": "close"})

    async def run(self, streams: int, rate_per_s: float, *, once: bool) -> None:
        """Run until it is stopped; with `once`, until each stream has ended."""
        tasks = [asyncio.create_task(self._stream_on(streams, once=once)) for _ in range(streams)]
        if rate_per_s:
            tasks.append(asyncio.create_task(self._ask_on(rate_per_s)))
        await asyncio.gather(*tasks)

    async def _stream_on(self, streams: int, *, once: bool) -> None:
        is_first = True
        while is_first or not (once or self.stopped.is_set()):
            name = f"stream-{next(self._numbers)}"
            await self._guard("streams", self._stream(name, streams if is_first else 0))
            is_first = False

    async def _stream(self, name: str, announced_at: int) -> None:
        prompt = f"{name} {self.words}"
        said, finish = "", None
        stream = await self._keeping.chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": prompt}], stream=True
        )
        async for event in stream:
            if event.choices and event.choices[0].delta.content:
                if not said and announced_at:
                    self._announce(announced_at)
                said += event.choices[0].delta.content
            if event.choices and event.choices[0].finish_reason:
                finish = event.choices[0].finish_reason
        if said != "".join(words_of(prompt)) or finish != "stop":
            raise RuntimeError(f"the stream was cut after {len(said.split())} of {self.words} words")

    def _announce(self, streams: int) -> None:
        self._begun += 1
        if self._begun == streams:
            print("streaming", flush=True)

    async def _ask_on(self, rate_per_s: float) -> None:
        """Send requests at a constant rate, whether earlier ones have their answers or not."""
        loop = asyncio.get_running_loop()
        start, asked = loop.time(), []
        while not self.stopped.is_set():
            asked.append(asyncio.create_task(self._guard("requests", self._ask(f"request-{next(self._numbers)}"))))
            await asyncio.sleep(max(0.0, start + len(asked) / rate_per_s - loop.time()))
        await asyncio.gather(*asked)

    async def _ask(self, name: str) -> None:
        prompt = f"{name} 3"
        answer = await self._fresh.chat.completions.create(model=self.model, messages=[{"role": "user", "content": prompt}])
        if answer.choices[0].message.content != "".join(words_of(prompt)):
            raise RuntimeError("the answer is another request's")

    async def _guard(self, kind: str, asked: Any) -> None:
        try:
            await asked
            self.counts[kind] += 1
        except Exception as error:  # whatever a request ends with is what the trial wants to know
            cause = error.__cause__
            self.errors[f"{kind}: {type(error).__name__}: {error}" + (f" ({cause!r})" if cause else "")] += 1


async def _main(options: argparse.Namespace) -> dict[str, Any]:
    app = App(options.words, options.model)
    loop = asyncio.get_running_loop()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(app.stopped.set)

    if not options.once:
        threading.Thread(target=wait_for_end, daemon=True).start()
    await app.run(options.streams, options.rate, once=options.once)
    return {"streams": app.counts["streams"], "requests": app.counts["requests"], "errors": app.errors}


def main() -> None:
    """Run the application."""
    parser = argparse.ArgumentParser(prog="python -m deploy.trial.app", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=1, help="streams at once")
    parser.add_argument("--rate", type=float, default=0.0, help="further, short requests a second")
    parser.add_argument("--words", type=int, default=40, help="words of a streamed answer")
    parser.add_argument("--model", default=MODEL, help=f"the model to ask for (default: {MODEL})")
    parser.add_argument("--once", action="store_true", help="stream one answer each, and end")
    print(json.dumps(asyncio.run(_main(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
