"""`/admin/config`, problems, warnings and errors show `${NAME}` where the configuration has it, and never the value."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from kyma_proxy.config.problems import ConfigError
from kyma_proxy.config.snapshot import Snapshot
from kyma_proxy.errors import StartError
from kyma_proxy.loading.compiling import load
from kyma_proxy.ops.reload import read_snapshot
from kyma_proxy.ops.serve import run
from kyma_proxy.web.admin import redacted_configuration

TEXT = """\
listen: ${HOST}:${PORT}
admin: {listen: "127.0.0.1:${PORT}", token: "${TOKEN}"}
access_log: /var/log/${LOG}.log
accounts: {required: true, database: "sqlite:/data/${DATABASE}", top_up: "https://pay.example/${PAGE}", hold_tokens: ${NUMBER}}
defaults: {max_tokens: ${NUMBER}, hold: ${DURATION}, timeouts: {connect: ${DURATION}}}
limits: {max_connections: ${NUMBER}, max_body: ${SIZE}}
cors: {origins: ["https://${HOST}"]}
providers:
  - {name: "p-${NAME}", base_url: "https://${HOST}:${PORT}/${PATH}/v1", dialect: openai, api_key: "sk-${KEY}",
     headers: {x-team: "${HEADER}"}, keep_alive: ${DURATION}}
  - {name: off, base_url: "https://two.example/v1", dialect: openai, api_key: "${MISSING}"}
models:
  - {id: "m-${ID}", name: "${TITLE}", owned_by: "${OWNER}", context_window: ${NUMBER}, price: {input: ${PRICE}},
     pool: [{provider: "p-${NAME}", model: "${REMOTE}"}]}
aliases: {fast: "m-${ID}"}
"""
VALUES = {
    "HOST": "canary.example", "PORT": "48123", "TOKEN": "canary-token-0123456789", "LOG": "canary-log",
    "DATABASE": "canary.db", "PAGE": "canary-page", "NUMBER": "48127", "DURATION": "48129s", "SIZE": "48131KiB",
    "NAME": "canary-name", "PATH": "canary-path", "KEY": "canary-key", "HEADER": "canary-header", "ID": "canary-id",
    "TITLE": "canary title", "OWNER": "canary owner", "PRICE": "4.8133", "REMOTE": "canary-remote",
}  # fmt: skip


def snapshot() -> Snapshot:
    return load(TEXT, VALUES)


def test_the_configuration_is_shown_with_the_names_of_variables() -> None:
    shown = redacted_configuration(snapshot()).decode()
    assert [value for value in VALUES.values() if value in shown] == []
    assert "canary" not in shown
    document = orjson.loads(shown)
    provider, model = document["providers"][0], document["models"][0]
    assert document["listen"] == "${HOST}:${PORT}"
    assert document["admin"] == {"listen": "127.0.0.1:${PORT}", "token": "(set)"}
    assert (document["limits"]["max_connections"], document["max_tokens"], document["hold"]) == (
        "${NUMBER}",
        "${NUMBER}",
        "${DURATION}",
    )
    assert (provider["name"], provider["base_url"]) == ("p-${NAME}", "https://${HOST}:${PORT}/${PATH}/v1")
    assert (model["id"], model["pool"][0]["model"], document["aliases"]) == ("m-${ID}", "${REMOTE}", {"fast": "m-${ID}"})


def test_the_warnings_name_the_variables() -> None:
    assert "canary" not in repr(snapshot().warnings)
    assert any("m-${ID}" in warning.message for warning in snapshot().warnings)


@pytest.mark.parametrize(
    "mistake",
    [
        ("aliases: {fast: ", "aliases: {slow: \"no-${ID}\", fast: "), ("pool: [{provider: \"p-", "pool: [{provider: \"q-"),
        ("name: off,", "name: \"p-${NAME}\","), ("max_body: ${SIZE}", "max_body: ${NAME}"), ("https://${HOST}:", "ftp://${HOST}:"),
        ("dialect: openai, api_key: \"sk", "dialect: \"${NAME}\", api_key: \"sk"), ("hold: ${DURATION}", "hold: ${NUMBER}"),
        ("sqlite:/data", "postgresql://u:${KEY}@h"), ("listen: ${HOST}:", "listen: ${HOST}/${NAME}:"),
        ("https://pay", "${NAME}\\n"),
    ],
    ids=str,
)  # fmt: skip
def test_a_problem_names_the_variables(mistake: tuple[str, str]) -> None:
    assert mistake[0] in TEXT
    try:
        load(TEXT.replace(*mistake, 1), VALUES)
    except ConfigError as refused:
        problems = refused.problems
        assert problems
        assert [value for value in VALUES.values() if value in repr(problems)] == []


def test_a_failed_start_names_the_variables(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    usual = "providers: [{name: p, base_url: 'https://p.example/v1', dialect: openai%s}]\n"
    usual += "models: [{id: m, pool: [{provider: p, model: x}]}]\n"
    missing = {"FILE": str(tmp_path / "canary" / "none")}
    path.write_text(usual % ", ca_file: '${FILE}'")
    with pytest.raises(ConfigError) as wrong:
        read_snapshot(path, missing)
    assert ("canary" in str(wrong.value), "${FILE}" in str(wrong.value)) == (False, True)
    path.write_text(usual % "" + "access_log: ${FILE}\nlisten: 127.0.0.1:0\nadmin: null\n")
    with pytest.raises(StartError) as refused:
        run(path, missing, lambda _: None)
    assert ("canary" in str(refused.value), "${FILE}" in str(refused.value)) == (False, True)
