"""A new customer signs up, streams, is limited and pays, with curl and the OpenAI SDK; no key shows up where it should not."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.processes import GatewayProcess, serving_simulated

TOKEN = "an-admin-token-of-some-length"


@pytest.fixture
def gateway(tmp_path: Path, unused_tcp_port: int) -> Iterator[tuple[GatewayProcess, str]]:
    """A gateway with sign-up in front of a simulated provider, and the base URL of its admin API."""
    accounts = (
        f"accounts: {{required: true, database: 'sqlite:{tmp_path}/kyma.db', signup: {{enabled: true, credits: 0.02}}}}\n"
    )
    admin = f"{{listen: '127.0.0.1:{unused_tcp_port}', token: {TOKEN}}}"
    with serving_simulated(tmp_path, more=accounts, admin=admin) as running:
        yield running, f"http://127.0.0.1:{unused_tcp_port}"


def curl(url: str, *options: str) -> tuple[int, dict[str, str], Any]:
    """The answer that curl gets: status, headers, and the JSON of the body."""
    line = ["curl", "-s", "-m", "10", "-i", url, *options]
    done = subprocess.run(line, capture_output=True, timeout=20, check=True)
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    status, *fields = head.splitlines()
    return int(status.split()[1]), {k.lower(): v for k, _, v in (field.partition(": ") for field in fields)}, json.loads(body)


def operate(admin: str, path: str, document: Any) -> Any:
    """The answer of the admin API."""
    request = urllib.request.Request(
        f"{admin}/admin/accounts{path}", json.dumps(document).encode(), {"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_a_new_customer_signs_up_streams_is_limited_pays_and_revokes_a_key(
    gateway: tuple[GatewayProcess, str], tmp_path: Path
) -> None:
    running, admin = gateway
    status, _, made = curl(f"{running.base}/v1/auth/register", "-d", '{"email": "new@example.com"}')
    assert (status, made["balance"]) == (201, 0.02)
    key = made["api_key"]
    bearer = ("-H", f"Authorization: Bearer {key}")

    client = openai.OpenAI(base_url=f"{running.base}/v1", api_key=key, max_retries=0)
    text = "".join(
        piece.choices[0].delta.content or ""
        for piece in client.chat.completions.create(
            model="fast", messages=[{"role": "user", "content": "hello"}], stream=True, max_tokens=100
        )
    )  # no piece without a choice is there to trip over: the usage that was asked for is withheld
    assert text
    spent = 0.02 - curl(f"{running.base}/v1/credits/balance", *bearer)[2]["balance"]
    assert 0 < spent < 0.001

    def ask() -> Any:
        return client.chat.completions.with_raw_response.create(
            model="sim", messages=[{"role": "user", "content": "hello"}], max_tokens=5
        )

    for count in range(2, 26):  # 25 a minute and model
        assert ask().headers["x-ratelimit-remaining-requests"] == str(30 - count)
    with pytest.raises(openai.RateLimitError) as limited:
        ask()
    assert limited.value.code == "rate_limit_exceeded"
    assert 50 <= int(limited.value.response.headers["retry-after"]) <= 60
    assert curl(f"{running.base}/v1/auth/limits", *bearer)[2]["rpm_used"] == 25

    bought = operate(admin, f"/{made['id']}/purchases", {"amount": 10, "payment_id": "pay-1"})
    assert (bought["is_new"], bought["account"]["tier"]) == (True, 1)
    assert ask().headers["x-ratelimit-limit-requests"] == "60"

    with sqlite3.connect(tmp_path / "kyma.db") as ledger:
        kinds = [row[0] for row in ledger.execute("SELECT kind FROM entries ORDER BY id")]
    assert set(kinds) == {"signup_bonus", "usage", "purchase"}
    ledger.close()

    second = client.with_options(api_key=json.loads(_post(f"{running.base}/v1/keys", key, {"name": "second"}))["api_key"])
    assert second.chat.completions.create(model="sim", messages=[{"role": "user", "content": "hi"}], max_tokens=5)
    listed = curl(f"{running.base}/v1/keys", *bearer)[2]["data"]
    status, _, revoked = curl(f"{running.base}/v1/keys/{listed[1]['id']}", "-X", "DELETE", *bearer)
    assert (status, revoked["deleted"]) == (200, True)
    with pytest.raises(openai.AuthenticationError):
        second.chat.completions.create(model="sim", messages=[{"role": "user", "content": "hi"}])


def test_a_request_without_credits_is_a_402_that_says_what_is_missing(gateway: tuple[GatewayProcess, str]) -> None:
    running, admin = gateway
    made = operate(admin, "", {"email": "poor@example.com", "grant": "0.000001"})
    client = openai.OpenAI(base_url=f"{running.base}/v1", api_key=made["api_key"], max_retries=0)
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model="sim", messages=[{"role": "user", "content": "hello"}])
    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_credits")
    assert "$0.000001 is available" in refused.value.message


def test_no_key_is_in_any_log_page_or_database(gateway: tuple[GatewayProcess, str], tmp_path: Path) -> None:
    """A right key and a wrong one are sent in every way; then every output is searched for them."""
    running, admin = gateway
    right = operate(admin, "", {"email": "a@example.com", "grant": 1})["api_key"]
    wrong = f"ky-{'canary' * 7}x"
    output = ""
    for key in (right, wrong):
        for header in (f"Authorization: Bearer {key}", f"x-api-key: {key}"):
            for path, body in (
                ("/v1/chat/completions", '{"model": "sim", "messages": []}'), ("/v1/messages", '{"model": "claude"}'),
                ("/v1/chat/completions", "not JSON"), ("/v1/keys", "{}"), (f"/v1/{key[3:9]}", "{}"),
                ("/v1/credits/balance", ""),
            ):  # fmt: skip
                data = ["-d", body] if body else []
                done = subprocess.run(
                    ["curl", "-s", "-m", "10", "-i", running.base + path, "-H", header, *data],
                    capture_output=True, text=True, timeout=20, check=True,
                )  # fmt: skip
                output += done.stdout
    for page in ("/metrics", "/readyz"):
        with urllib.request.urlopen(admin + page, timeout=10) as answer:
            output += answer.read().decode()
    request = urllib.request.Request(f"{admin}/admin/config", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        output += answer.read().decode()
    running.end()
    output += running.stderr + running.log.read_text()
    for name in ("kyma.db", "kyma.db-wal"):
        if (tmp_path / name).exists():
            output += (tmp_path / name).read_bytes().decode("latin-1")
    assert right not in output
    assert wrong not in output
    assert TOKEN not in output
    assert right[:11] in output  # the prefix is its name


def _post(url: str, key: str, document: Any) -> bytes:
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: bytes = answer.read()
        return body
