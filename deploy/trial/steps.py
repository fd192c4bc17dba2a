"""The steps of the trial: each does what an operator does, and raises `Failed` if somebody was refused or cut meanwhile."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from deploy.trial.processes import Failed, Home, Running, free_port, wait_until

KEY: Final = "sk-trial-0123456789"
NEXT_KEY: Final = "sk-trial-9876543210"
STREAMS: Final = 10
RATE_PER_S: Final = 40
RESTARTS: Final = 3
_REFUSED: Final = (  # what OpenAI refuses, so that a provider which takes anything proves nothing
    ("sk-wrong", {"model": "gpt-4o", "messages": [{"role": "user", "content": "a 1"}]}, 401),
    (KEY, {"model": "gpt-5-unknown", "messages": [{"role": "user", "content": "a 1"}]}, 404),
    (KEY, {"model": "gpt-4o", "messages": [{"role": "user", "content": "a 1"}], "kyma": 1}, 400),
    (KEY, {"model": "gpt-4o", "messages": [{"role": "user"}]}, 400),
    (KEY, {"model": "gpt-4o", "messages": [{"role": "user", "content": "a 1"}], "max_tokens": 1_000_000}, 400),
)

_GRANT_USD: Final = 100
_METERED: Final = """\
listen: {listen}
admin: {{listen: "{admin}", token: a-token-for-the-trial-alone}}
tls: {{certificate: "{home}/tls.pem", key: "{home}/tls.key"}}
access_log: "{log}"
accounts: {{required: true, database: "sqlite:{home}/kyma.db"}}
tiers: [{{tier: 0, min_purchased: 0, rpm: 1000000, per_model_rpm: 1000000, tpm: 1000000000, max_request_tokens: 1000000}}]
providers:
  - {{name: openai, base_url: "{provider}", dialect: openai, api_key_file: "{key}"}}
models:
  - {{id: gpt-4o, provider: openai, price: {{input: 2.5, output: 10}}}}
"""
"""A configuration with accounts, whose limits the application does not reach."""


class Trial:
    """One trial: its home, its provider, and the gateway that serves at the moment."""

    def __init__(self, home: Home, package: str, python: Path, sources: Path, *, restarts: int = RESTARTS) -> None:
        """`sources` is the directory from which the application and the provider of the trial are imported."""
        self._home = home
        self._package = package
        self._python = python
        self._sources = str(sources)
        self._public, self._admin = free_port(), free_port()
        self._listen = ("--listen", f"127.0.0.1:{self._public}", "--admin", f"127.0.0.1:{self._admin}")
        self._base = f"http://127.0.0.1:{self._public}"
        self._served = self._sent = 0
        self._restarts = restarts
        self._settings = {"OPENAI_BASE_URL": f"{self._base}/v1", "OPENAI_API_KEY": "none"}
        self._file: Path
        self._gateway: Running
        self._provider: Running
        self._provider_url = ""

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """The steps in their order: what is done, and a function that does it and returns what was seen."""
        yield "install the wheel beside the OpenAI SDK, in a new environment", self._install
        yield "start a provider that refuses what OpenAI refuses", self._start_provider
        yield "`kyma-proxy serve` without a file", self._serve_without_a_file
        yield "the OpenAI SDK streams gpt-4o", self._stream_once
        yield "write a file with `init`, and go on with it under streams (`serve --replace`)", self._take_the_file
        yield "reload under running streams: a change, a mistake, another change", self._reload
        yield "renew the provider's key in its file under running streams, and revoke the old one", self._renew_key
        yield f"restart {self._restarts} times under load (`serve --replace`)", self._restart
        yield "go on with TLS and accounts (`serve --replace`)", self._take_accounts
        yield (
            f"with keys: renew the certificate, restart {self._restarts} times, change a caller's key, all under load",
            self._meter,
        )
        yield "the ledger and the log agree on every cent", self._audit
        yield "SIGTERM under running streams", self._stop
        yield "the provider and the log tell the same story", self._compare

    def _install(self) -> str:
        self._home.install(self._python, self._package, "openai")
        return self._home.run(self._home.path, "kyma-proxy", "--version").strip()

    def _start_provider(self) -> str:
        directory = self._home.empty("provider")
        line = ("python", "-m", "deploy.trial.strict_provider", "--key", KEY, "--key", NEXT_KEY)
        self._provider = self._home.start(directory, "provider", *line, PYTHONPATH=self._sources)
        self._provider_url = self._provider.line()
        for key, body, expected in _REFUSED:
            status, text = _post(f"{self._provider_url}/chat/completions", body, key)
            if status != expected:
                raise Failed(f"the provider answers {status}, not {expected}: {text}")
        return f"{len(_REFUSED)} bad requests are refused"

    def _serve_without_a_file(self) -> str:
        began = time.monotonic()
        directory = self._home.empty("without-a-file")
        line = ("--provider", self._provider_url, "--api-key-env", "OPENAI_API_KEY", "--log", str(self._log))
        self._gateway = self._serve(directory, "gateway", *line)
        took = time.monotonic() - began
        left = [one.name for one in directory.iterdir() if one.name != "gateway.err"]
        if left:
            raise Failed(f"it left files behind: {left}")
        return f"ready after {took:.2f} s; `kyma-proxy health` says {self._health()}"

    def _stream_once(self) -> str:
        with self._app("first", "--once") as finish:
            pass
        return _figures(finish())

    def _take_the_file(self) -> str:
        directory = self._home.empty("with-a-file")
        self._file = directory / "kyma.yaml"
        self._home.run(directory, "kyma-proxy", "init", OPENAI_API_KEY=KEY)
        file = self._file
        self._key_file.write_text(f"{KEY}\n")
        text = file.read_text().replace("https://api.openai.com/v1", self._provider_url)
        text, count = re.subn(r"api_key: '?\$\{OPENAI_API_KEY\}'?", f"api_key_file: {self._key_file}", text)
        if count != 1:
            raise Failed(f"`init` has written {count} entries with the key, not 1:\n{text}")
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self._public}").replace("127.0.0.1:9090", f"127.0.0.1:{self._admin}")
        file.write_text(text.replace('access_log: "-"', f'access_log: "{self._log}"'))
        checked = self._home.run(directory, "kyma-proxy", "check", str(file), OPENAI_API_KEY=KEY).strip()
        with self._app("taking") as finish:
            self._replace("with-a-file-1")
        return f"{_figures(finish())}; check says {checked.rpartition('kyma.yaml: ')[2]!r}"

    def _reload(self) -> str:
        good = self._file.read_text()
        times = []
        with self._app("reloading") as finish:
            times.append(self._edit(good + "aliases: {swift: gpt-4o}\n", lambda: "swift" in self._aliases()))
            errors = len(self._gateway.errors)
            self._edit("models: [oh no\n", lambda: "nothing has changed" in self._gateway.errors[errors:])
            if "swift" not in self._aliases():
                raise Failed("a mistake changed something")
            times.append(self._edit(good + "aliases: {slow: gpt-4o}\n", lambda: list(self._aliases()) == ["slow"]))
            with self._app("by-its-alias", "--model", "slow", "--once") as finish_alias:
                pass
            finish_alias()
        seconds = " and ".join(f"{one:.1f}" for one in times)
        return f"{_figures(finish())}; changes are taken after {seconds} s, a mistake changes nothing"

    def _edit(self, text: str, is_seen: Callable[[], bool]) -> float:
        began = time.monotonic()
        self._file.write_text(text)
        wait_until(is_seen, "the gateway has seen the change of its file")
        return time.monotonic() - began

    def _renew_key(self) -> str:
        with self._app("renewing") as finish:
            began, errors = time.monotonic(), len(self._gateway.errors)
            self._key_file.write_text(f"{NEXT_KEY}\n")
            wait_until(lambda: "is in force" in self._gateway.errors[errors:], "the gateway has taken the new key")
            took = time.monotonic() - began
            self._provider.tell(f"revoke {KEY}")
            status, _ = _post(f"{self._provider_url}/chat/completions", _REFUSED[0][1], KEY)
            if status != 401:
                raise Failed(f"the provider still takes the old key: {status}")
            with self._app("with-the-new-key", "--once") as finish_after:
                pass
            after = finish_after()
        return f"{_figures(finish())}; the new key is taken after {took:.1f} s; with it {_figures(after)}"

    def _restart(self) -> str:
        with self._app("restarting", "--rate", str(RATE_PER_S)) as finish:
            times = [self._replace(f"restart-{number}") for number in range(self._restarts)]
        return f"{_figures(finish())}; ready after {', '.join(f'{one:.2f}' for one in times)} s"

    def _take_accounts(self) -> str:
        directory = self._home.empty("with-accounts")
        self._file = directory / "kyma.yaml"
        self._make_certificate("first")
        listen, admin = (f"127.0.0.1:{port}" for port in (self._public, self._admin))
        self._file.write_text(
            _METERED.format(
                listen=listen, admin=admin, log=self._log, provider=self._provider_url, key=self._key_file, home=self._home.path
            )
        )
        checked = self._home.run(directory, "kyma-proxy", "check", str(self._file)).strip()
        self._replace("with-accounts-1")
        made = self._account_command("accounts", "create", "trial@example.com", "--grant", str(_GRANT_USD))
        self._settings = {
            "OPENAI_BASE_URL": f"https://127.0.0.1:{self._public}/v1",
            "OPENAI_API_KEY": made["api_key"],
            "SSL_CERT_FILE": str(self._home.path / "trusted.pem"),
        }
        with self._app("metered", "--once") as finish:
            pass
        return f"{_figures(finish())}; check says {checked.rpartition('kyma.yaml: ')[2]!r}"

    def _make_certificate(self, name: str) -> None:
        """Make a certificate that signs itself, which the application trusts as well from now on, and put it in its place."""
        home = self._home.path
        pair = ("-keyout", str(home / f"{name}.key"), "-out", str(home / f"{name}.pem"))
        self._home.run(home, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                       *pair, "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
        with (home / "trusted.pem").open("a") as trusted:
            trusted.write((home / f"{name}.pem").read_text())
        for kind in ("key", "pem"):
            (home / f"{name}.{kind}").replace(home / f"tls.{kind}")

    def _account_command(self, *line: str) -> dict[str, Any]:
        said = self._home.run(self._home.path, "kyma-proxy", *line, "--json", "--config", str(self._file))
        return dict(json.loads(said))

    def _meter(self) -> str:
        before = self._certificate()
        self._make_certificate("second")
        first = self._settings
        with self._app("under-way", "--rate", str(RATE_PER_S)) as finish:
            self._gateway.stop(signal.SIGHUP)
            wait_until(lambda: self._certificate() != before, "the new certificate is served")
            times = [self._replace(f"metered-{number}") for number in range(self._restarts)]
            made = self._account_command("keys", "create", "trial@example.com", "--name", "second")
            self._settings = {**first, "OPENAI_API_KEY": made["api_key"]}
            with self._app("with-its-new-key", "--once") as finish_other:
                pass
            other = finish_other()
        figures = _figures(finish())
        key = next(
            one["id"]
            for one in self._account_command("accounts", "show", "trial@example.com")["keys"]
            if one["name"] == "first"
        )
        self._account_command("keys", "revoke", "trial@example.com", key)
        status = self._status_with(first["OPENAI_API_KEY"])
        if status != 401:
            raise Failed(f"a key that was revoked is answered with {status}")
        return f"{figures}; ready after {', '.join(f'{one:.2f}' for one in times)} s; with the new key {_figures(other)}"

    def _status_with(self, key: str) -> int:
        """The status that a caller with this key gets."""
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a 1"}]}
        context = ssl.create_default_context(cafile=self._settings["SSL_CERT_FILE"])
        return _post(f"{self._settings['OPENAI_BASE_URL']}/chat/completions", body, key, context)[0]

    def _certificate(self) -> str:
        return ssl.get_server_certificate(("127.0.0.1", self._public))

    def _audit(self) -> str:
        """Check that the account has lost what the log says that requests cost. Raises Failed."""
        records = [json.loads(line) for line in self._log.read_text().splitlines()]
        charged = [record for record in records if record.get("cost_usd")]
        spent = round(_GRANT_USD * 10**9) - round(
            self._account_command("accounts", "show", "trial@example.com")["balance"] * 10**9
        )
        logged = sum(round(record["cost_usd"] * 10**9) for record in charged)
        if not charged or spent != logged or any(record["usage_source"] != "reported" for record in charged):
            raise Failed(f"the account has lost {spent} nano-dollars, and the log has {logged} in {len(charged)} requests")
        return f"{len(charged)} charges, ${spent / 10**9:.6f}"

    def _replace(self, name: str) -> float:
        """Start a gateway with the file that takes the place of the one that serves; returns the seconds until it serves."""
        began = time.monotonic()
        old = self._gateway
        self._gateway = self._serve(self._home.empty(name), "gateway", "--config", str(self._file), "--replace")
        took = time.monotonic() - began
        wait_until(lambda: old.has_ended, "the gateway that was replaced has ended")
        if old.process.returncode:
            raise Failed(f"the gateway that was replaced ended with {old.process.returncode}:\n{old.errors}")
        return took

    def _stop(self) -> str:
        with self._app("last", "--once") as finish:
            began = time.monotonic()
            self._gateway.stop()
            wait_until(lambda: not _listens(self._public), "the port is closed")
        figures = _figures(finish())
        if self._gateway.process.wait(30):
            raise Failed(f"the gateway ended with {self._gateway.process.returncode}:\n{self._gateway.errors}")
        return f"{figures}; the gateway ended with 0 after {time.monotonic() - began:.1f} s"

    def _compare(self) -> str:
        seen = self._provider.result()
        if seen["left"] or sum(seen["refused"].values()) != len(_REFUSED) + 1:  # and the revoked key
            raise Failed(f"the provider saw requests that it refused, or callers that left: {seen}")
        text = self._log.read_text()
        records = [record for record in map(json.loads, text.splitlines()) if record["dialect"] != "-"]
        odd = [record for record in records if (record["status"], record["ending"]) != (200, "completed")]
        if odd or not len(records) == seen["answered"] == self._sent:
            counts = f"{self._sent} sent, {seen['answered']} answered, {len(records)} logged"
            raise Failed(f"{counts}, of these not completed: {odd}")
        if "stream-" in text or "request-" in text:
            raise Failed("the log holds the text of a prompt")
        return f"{self._sent} requests were sent, answered and logged, each as completed"

    @property
    def _log(self) -> Path:
        return self._home.path / "access.log"

    @property
    def _key_file(self) -> Path:
        return self._home.path / "openai-key"

    def _serve(self, directory: Path, name: str, *arguments: str) -> Running:
        line = ("kyma-proxy", "serve", *self._listen, *arguments)
        gateway = self._home.start(directory, name, *line, OPENAI_API_KEY=KEY)
        wait_until(lambda: gateway.has_ended or " serves " in gateway.errors, "the gateway serves")
        if gateway.has_ended:
            raise Failed(f"{' '.join(line)}\nended with {gateway.process.returncode}:\n{gateway.errors}")
        return gateway

    def _health(self) -> str:
        said = self._home.run(self._home.path, "kyma-proxy", "health", "--admin", f"127.0.0.1:{self._admin}")
        return said.strip().rpartition(": ")[2]

    def _aliases(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._base}/v1/models", timeout=10) as answer:
            return dict(json.load(answer)["aliases"])

    @contextmanager
    def _app(self, name: str, *options: str) -> Iterator[Callable[[], dict[str, Any]]]:
        """The application, which streams during the block; the function ends it, and returns its counts. Raises Failed."""
        settings = {**self._settings, "PYTHONPATH": self._sources}
        line = ("python", "-m", "deploy.trial.app", "--streams", str(STREAMS), *options)
        app = self._home.start(self._home.empty(f"app-{name}"), "app", *line, **settings)
        if app.line() != "streaming":
            raise Failed(f"the application does not stream:\n{app.errors}")

        def finish() -> dict[str, Any]:
            result = app.result()
            if result["errors"]:
                said = self._gateway.errors[-2000:]
                raise Failed(f"the application saw errors: {result['errors']}; the gateway says:\n{said}")
            self._sent += result["streams"] + result["requests"]
            return result

        yield finish


def _figures(result: dict[str, Any]) -> str:
    requests = f", {result['requests']} requests answered, 0 refused" if result["requests"] else ""
    return f"{result['streams']} streams whole, 0 cut{requests}"


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def _post(url: str, body: dict[str, Any], key: str, tls: ssl.SSLContext | None = None) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=tls) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
