"""What is in deploy/ fits the gateway: valid configurations, probes that are commands, and more patience than a drain takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kyma_proxy import __version__
from kyma_proxy.loading.compiling import load
from kyma_proxy.ops.cli import command_line
from tests.processes import ROOT

DEPLOY = ROOT / "deploy"
KEYS = {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b", "KYMA_ADMIN_TOKEN": "c" * 32}
USER = 65532


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


MANIFESTS = {
    f"{path.stem}: {document['kind']} {document['metadata']['name']}": document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in documents(path)
}
VALUES = yaml.safe_load((DEPLOY / "helm/kyma-proxy/values.yaml").read_text())
CONFIGURATIONS = {
    "compose": (DEPLOY / "docker/gateway.yaml").read_text(),
    "helm": yaml.safe_dump(VALUES["config"]),
    **{name: one["data"]["kyma-proxy.yaml"] for name, one in MANIFESTS.items() if one["kind"] == "ConfigMap"},
}
PODS = {name: one["spec"]["template"]["spec"] for name, one in MANIFESTS.items() if one["kind"] == "Deployment"}
COMPOSE = {
    path.stem: yaml.safe_load(path.read_text())["services"]["gateway"] for path in (DEPLOY / "docker").glob("*.compose.yaml")
}
DOCKERFILE = (DEPLOY / "docker/Dockerfile").read_text()


def gateway(pod: dict[str, Any]) -> dict[str, Any]:
    """The gateway's container."""
    return next(one for one in pod.get("initContainers", []) + pod["containers"] if one["name"] == "kyma-proxy")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_configuration_is_valid_and_has_a_provider(name: str) -> None:
    snapshot = load(CONFIGURATIONS[name], KEYS)
    assert [one.name for one in snapshot.providers.values() if one.off is None] != []


@pytest.mark.parametrize("name", PODS)
def test_each_probe_is_a_command_that_the_gateway_has(name: str) -> None:
    container = gateway(PODS[name])
    probes = [container[one] for one in ("startupProbe", "readinessProbe", "livenessProbe") if one in container]
    commands = [probe["exec"]["command"] for probe in probes if "exec" in probe]
    assert len(commands) >= 2
    for program, *arguments in commands:
        assert program == "kyma-proxy"
        assert command_line().parse_args(arguments).admin is not None
    assert "--live" in container["livenessProbe"]["exec"]["command"]


def test_the_image_probes_itself_by_an_address() -> None:
    found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    program, *arguments = json.loads(found[1])
    assert program == "kyma-proxy"
    assert command_line().parse_args(arguments).admin is not None


@pytest.mark.parametrize("name", PODS)
def test_a_pod_waits_longer_than_the_gateway_drains(name: str) -> None:
    drains = {load(text, KEYS).drain for text in CONFIGURATIONS.values()}
    assert PODS[name]["terminationGracePeriodSeconds"] > min(drains)
    assert VALUES["terminationGracePeriodSeconds"] > load(CONFIGURATIONS["helm"], KEYS).drain


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_waits_longer_than_the_gateway_drains(name: str) -> None:
    assert int(COMPOSE[name]["stop_grace_period"].removesuffix("s")) > load(CONFIGURATIONS["compose"], KEYS).drain


def test_systemd_waits_longer_than_the_gateway_drains() -> None:
    unit = (DEPLOY / "systemd/kyma-proxy.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(seconds) > load(CONFIGURATIONS["compose"], KEYS).drain


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_without_rights_on_files_that_it_can_not_write(name: str) -> None:
    security = {**PODS[name]["securityContext"], **gateway(PODS[name])["securityContext"]}
    assert (security["runAsUser"], security["runAsNonRoot"]) == (USER, True)
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", COMPOSE)
def test_a_container_runs_without_rights_on_files_that_it_can_not_write(name: str) -> None:
    assert (COMPOSE[name]["read_only"], COMPOSE[name]["cap_drop"]) == (True, ["ALL"])
    assert f"\nUSER {USER}:{USER}\n" in DOCKERFILE


def test_the_sidecar_is_a_native_one_that_no_other_pod_reaches() -> None:
    (pod,) = (pod for name, pod in PODS.items() if name.startswith("sidecar"))
    assert gateway(pod)["restartPolicy"] == "Always"
    assert gateway(pod) in pod["initContainers"]
    assert "ports" not in gateway(pod)
    (text,) = (text for name, text in CONFIGURATIONS.items() if name.startswith("sidecar"))
    assert str(load(text, KEYS).listen) == "127.0.0.1:8080"


def test_every_place_that_names_the_version_names_this_one() -> None:
    chart = yaml.safe_load((DEPLOY / "helm/kyma-proxy/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    for pod in PODS.values():
        assert gateway(pod)["image"].endswith(f":{__version__}")
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
