"""Every expression of the alert rules, the dashboard and the guide reads metrics and labels that a gateway has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from kyma_proxy.core.exchange import ENDINGS
from kyma_proxy.ops.workers.reports import RESIDENT
from kyma_proxy.telemetry.metrics import BREAKER_STATES
from tests.accounts_harness import metered
from tests.harness import ANSWER, Gateway, whole
from tests.processes import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "kyma-proxy.json").read_text())
GUIDE = (ROOT / "docs" / "guides" / "observability.md").read_text()
ALERTS = [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]

FUNCTIONS = {
    "sum", "max", "min", "count", "rate", "increase", "delta", "changes", "histogram_quantile", "by", "and", "or", "unless",
    "vector",
}  # fmt: skip
OF_A_SCRAPE = {"instance", "job"}
OF_SEVERAL_WORKERS = {"kyma_workers", RESIDENT}
_SELECTOR = re.compile(r"([a-z_][a-z0-9_]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"""\s*([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"\s*""")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUES = {"ending": {one.value for one in ENDINGS} | {""}, "state": set(BREAKER_STATES)}


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, and where it is."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for one in DASHBOARD["annotations"]["list"]:
        yield one["name"], one["expr"]
    for at, block in enumerate(re.findall(r"```promql\n(.*?)```", GUIDE, re.DOTALL)):
        for line in block.splitlines():
            yield f"guide {at}", line.partition("#")[0]


EXPRESSIONS = list(expressions())
VARIABLES = [re.findall(r"[a-z_]+", one["definition"])[1:] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]


def parts(expression: str) -> tuple[set[str], set[str], list[tuple[str, str]]]:
    """The metrics that an expression reads, the labels that it groups by, and its matchers: label and value."""
    matchers = [found for _, inside in _SELECTOR.findall(expression) for found in _MATCHER.findall(inside)]
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", expression)
    grouped = {label for inside in re.findall(r"\bby\s*\(([^)]*)\)", bare) for label in _WORD.findall(inside)}
    bare = re.sub(r"\bby\s*\([^)]*\)", " ", bare)
    return {word for word in _WORD.findall(bare) if word not in FUNCTIONS}, grouped, matchers


async def scrape(running: Gateway) -> dict[str, set[str]]:
    """The labels of every sample of a scrape, by its name; `up` is Prometheus' own."""
    async with TestClient(TestServer(running.app.admin_application)) as admin, admin.get("/metrics") as answer:
        text = await answer.text()
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        # A counter that has not counted yet has no sample.
        found.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture
async def scraped(tmp_path: Path) -> dict[str, set[str]]:
    """The metrics of a gateway that has accounts and has served, failed and refused."""
    async with metered(tmp_path) as (made, provider):
        caller = await made.caller()
        provider.plays(whole(ANSWER))
        await caller.chat()
        provider.plays(whole(b"{}", status="503 Service Unavailable"))
        await caller.chat()
        await caller.ask("GET", "/v1/models")
        caller.client.send(b"not HTTP\r\n\r\n")
        await caller.client.read_to_end()
        made.running.app.jobs.scheduler.ended["succeeded"] = 1  # without the minutes that a job may take
        await made.running.configuration.reload("test")
        await made.running.records(3)
        return await scrape(made.running)


async def test_every_expression_reads_metrics_and_labels_that_exist(scraped: dict[str, set[str]]) -> None:
    unknown: list[tuple[str, object]] = []
    for name, expression in EXPRESSIONS:
        metrics, grouped, matchers = parts(expression)
        assert metrics, name
        unknown += [(name, metric) for metric in metrics if metric not in scraped]
        labels = set.union(OF_A_SCRAPE, *(scraped.get(metric, set()) for metric in metrics))
        unknown += [(name, label) for label in (*grouped, *(label for label, _ in matchers)) if label not in labels]
    for metric, label in VARIABLES:
        unknown += [("variable", (metric, label))] if label not in scraped.get(metric, set()) | OF_A_SCRAPE else []
    assert unknown == []


def test_every_value_that_an_expression_looks_for_is_one_that_the_gateway_gives() -> None:
    for name, expression in EXPRESSIONS:
        for label, value in parts(expression)[2]:
            if label in _VALUES:
                assert set(value.split("|")) <= _VALUES[label], name


async def test_the_guide_has_every_metric_of_the_gateway_and_no_other(scraped: dict[str, set[str]]) -> None:
    plain = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in scraped if name.startswith("kyma_")}
    table = GUIDE[GUIDE.index("## Metrics") :].partition("\n## ")[0]
    described = set(re.findall(r"`(kyma_[a-z_]+)`", table))
    assert described == plain | OF_SEVERAL_WORKERS


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    idents = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(idents)) == len(idents)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("words", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")])
def test_prometheus_own_tool_agrees(words: tuple[Any, ...]) -> None:
    done = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
