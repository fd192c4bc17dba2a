"""`serve` needs no file: a key in the environment is enough, or the URL of a server; `init` writes one to begin with."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import openai

from kyma_proxy.ops.config_file import CATALOGUE, DEMO, SCHEMA_FILE, SCHEMA_LINE, shipped_text
from tests.processes import ROOT, command, free_port, serving, simulated_provider, started
from tests.sdk.scripted import scripted_provider
from tests.waiting import wait_until


def test_a_key_in_the_environment_is_enough(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    options = ("--listen", address, "--no-admin", "--log", "off")
    with started(tmp_path, f"http://{address}", *options, OPENAI_API_KEY="sk-not-real", GROQ_API_KEY="gsk-not-real") as running:
        wait_until(lambda: "`kyma-proxy init`" in running.stderr)
        told = running.stderr
        assert "serves its built-in configuration on http://" in told
        assert "0 models and 3 patterns, 2 of 2 providers on" in told
        assert "openai  any other name, openai/…" in told
        assert "groq    groq/…" in told
        assert f"curl http://{address}/v1/chat/completions" in told
        assert "not-real" not in told
        with urllib.request.urlopen(f"http://{address}/v1/models", timeout=10) as answer:
            assert json.loads(answer.read())["data"] == []
    assert not (tmp_path / "access.log").exists()


def test_a_file_that_is_given_wins_over_a_key(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    file = tmp_path / "own.yaml"
    file.write_text(
        f"listen: {address}\nadmin: null\nproviders: [{{name: own, base_url: 'http://127.0.0.1:9/v1', dialect: openai}}]\n"
        "models: [{id: own-model, provider: own}]\n"
    )
    with started(tmp_path, f"http://{address}", KYMA_CONFIG=str(file), OPENAI_API_KEY="sk-not-real") as running:
        assert f"serves {file} on" in running.stderr
        assert "No file is read" not in running.stderr


def test_the_openai_sdk_reaches_every_model_of_a_server_that_is_given_by_its_url(tmp_path: Path) -> None:
    address, log = f"127.0.0.1:{free_port()}", tmp_path / "access.log"
    events = [
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
         "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}]},
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
         "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        "[DONE]",
    ]  # fmt: skip
    with scripted_provider() as provider:
        provider.models = ["gpt-4o", "vendor/another:tag"]
        options = ("--provider", provider.base, "--api-key-env", "MY_KEY", "--listen", address, "--no-admin", "--log", str(log))
        with (
            started(tmp_path, f"http://{address}", *options, MY_KEY="sk-the-key") as running,
            openai.OpenAI(base_url=f"http://{address}/v1", api_key="any", max_retries=0, timeout=10) as client,
        ):
            for model in ("gpt-4o", "vendor/another:tag", "not-in-the-list"):
                provider.plays(events)
                talk = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], stream=True)
                assert "".join(chunk.choices[0].delta.content or "" for chunk in talk) == "Hello"
            assert [request["model"] for request in provider.requests] == ["gpt-4o", "vendor/another:tag", "not-in-the-list"]
            assert {headers["authorization"] for headers in provider.headers} == {"Bearer sk-the-key"}
            assert [record["model"] for record in running.records(3)] == ["gpt-4o", "vendor/another:tag", "not-in-the-list"]
            wait_until(lambda: len(list(client.models.list())) == 2)
            assert sorted(model.id for model in client.models.list()) == ["gpt-4o", "vendor/another:tag"]
            assert client.models.retrieve("vendor/another:tag").owned_by == "it"


def test_a_server_without_a_key_is_sent_none(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with simulated_provider() as provider:
        options = ("--provider", provider.removesuffix("/v1"), "--listen", address, "--no-admin", "--log", "off")
        with started(tmp_path, f"http://{address}", *options, OPENAI_API_KEY="sk-not-for-it") as running:
            wait_until(lambda: "no key is sent" in running.stderr)
            with openai.OpenAI(base_url=f"http://{address}/v1", api_key="any", max_retries=0) as client:
                answer = client.chat.completions.create(model="llama3", messages=[{"role": "user", "content": "Hi"}])
                assert "simulated provider" in str(answer.choices[0].message.content)


def test_addresses_and_the_log_can_be_given_for_a_file_too_and_stay_after_a_reload(tmp_path: Path) -> None:
    address, admin, log = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", tmp_path / "own.log"
    text = (
        "listen: 127.0.0.1:1\nadmin: {token: a-token-of-some-length}\naccess_log: /nowhere/at/all\n"
        "providers: [{name: own, base_url: 'http://127.0.0.1:9/v1', dialect: openai}]\nmodels: [{id: m, provider: own}]\n"
    )
    options = ("--listen", address, "--admin", admin, "--log", str(log))
    with serving(text, tmp_path, f"http://{address}", *options) as running:
        (tmp_path / "gateway.yaml").write_text(text + "aliases: {n: m}\n")
        request = urllib.request.Request(
            f"http://{admin}/admin/reload", method="POST", headers={"authorization": "Bearer a-token-of-some-length"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            outcome = json.loads(answer.read())
        assert (outcome["result"], outcome["needs_restart"]) == ("reloaded", [])
        assert log.exists()
        assert "needs a restart" not in running.stderr


def test_what_the_package_holds_is_what_the_repository_shows() -> None:
    for name in (CATALOGUE, DEMO, SCHEMA_FILE):
        assert shipped_text(name) == (ROOT / "config" / name).read_text(encoding="utf-8")


def test_init_writes_a_file_that_passes_the_check_and_never_overwrites_one(tmp_path: Path) -> None:
    file = tmp_path / "kyma.yaml"
    first = command("init", file, OPENAI_API_KEY="sk-not-real")
    assert (first.returncode, first.stderr) == (0, "")
    assert f"kyma-proxy check {file}" in first.stdout
    text = file.read_text()
    assert "sk-not-real" not in text
    checked = command("check", file, OPENAI_API_KEY="sk-not-real")
    assert checked.returncode == 0
    assert "fine; 0 models and 2 patterns, 1 of 1 providers on" in checked.stdout
    again = command("init", file, GROQ_API_KEY="x")
    assert again.returncode == 1
    assert again.stderr == f"kyma-proxy: {file} is there already, and is left as it is; name another file\n"
    assert file.read_text() == text


def test_init_writes_the_schema_beside_the_file_unless_it_is_there(tmp_path: Path) -> None:
    schema = tmp_path / SCHEMA_FILE
    assert command("init", tmp_path / "one.yaml").returncode == 0
    assert (tmp_path / "one.yaml").read_text().startswith(SCHEMA_LINE)
    printed = command("schema")
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, schema.read_text(), "")
    schema.write_text("{}")
    assert command("init", tmp_path / "two.yaml").returncode == 0
    assert schema.read_text() == "{}"


def test_init_converts_a_configuration_of_litellm(tmp_path: Path) -> None:
    source, file = tmp_path / "config.yaml", tmp_path / "kyma.yaml"
    source.write_text(
        "model_list:\n"
        "  - {model_name: gpt-4o, litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, rpm: 60}}\n"
        "  - {model_name: cloud, litellm_params: {model: bedrock/anthropic.claude}}\n"
    )
    made = command("init", file, "--from-litellm", source)
    assert made.returncode == 0
    assert made.stderr.splitlines() == [
        "note: model gpt-4o: rpm is the weight of its source here, and no limit",
        "note: model cloud is left out: bedrock/ has no counterpart here, or lacks its api_base",
    ]
    checked = command("check", file, OPENAI_API_KEY="sk-not-real")
    assert (checked.returncode, checked.stdout) == (0, f"{file}: fine; 1 models, 1 of 1 providers on\n")
    for wrong, reason in ((tmp_path / "missing", "no such file or directory"), (file, "it has no model_list")):
        refused = command("init", tmp_path / "other.yaml", "--from-litellm", wrong)
        assert (refused.returncode, refused.stderr) == (1, f"kyma-proxy: {wrong}: {reason}\n")
    assert not (tmp_path / "other.yaml").exists()
