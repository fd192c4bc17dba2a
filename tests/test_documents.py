"""The documents say what is so: messages that the code has, files that exist, links that lead somewhere."""

from __future__ import annotations

import ast
import re
import statistics
from functools import cache
from pathlib import Path

import pytest

from bench import analysis, results
from kyma_proxy.loading.compiling import load
from tests.processes import ROOT

DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
TROUBLESHOOTING = (DOCS / "TROUBLESHOOTING.md").read_text()
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
MIN_FRAGMENT = 4


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def template(node: ast.AST) -> str | None:
    """The text of a string in the code, with `…` for what is put into it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sd]", "…", node.value)
    return None


@cache
def templates() -> frozenset[str]:
    """All strings of the code."""
    paths = sorted((ROOT / "proxy" / "kyma_proxy").rglob("*.py"))
    return frozenset(text for path in paths for node in ast.walk(ast.parse(path.read_text())) if (text := template(node)))


def messages() -> list[str]:
    """The messages that the page about trouble quotes: what begins a cell, in backticks; the last column says what to do."""
    found = []
    for line in TROUBLESHOOTING.splitlines():
        cells = re.split(r"(?<!\\) \| ", line.strip("| ")) if line.startswith("| ") else []
        heads = cells[:2] if cells and re.match(r"(?:\d{3} `\w+`|no answer|in a stream)$", cells[0]) else cells[:1]
        for cell in heads:
            quoted = re.match(r"(`+)(.*)\1(?:,.*)?$", cell)
            if quoted is not None and " " in quoted[2]:
                found.append(quoted[2])
    return found


def test_the_page_about_trouble_quotes_many_messages() -> None:
    assert len(messages()) > 50


@pytest.mark.parametrize("message", messages())
def test_each_message_that_is_quoted_is_in_the_code(message: str) -> None:
    fragments = [part.strip() for part in re.split(r"…+", message)]
    solid = [part for part in fragments if len(part) >= MIN_FRAGMENT]
    assert solid, "the message has nothing that could be looked for"
    if message == "no such file or directory":
        return  # the system's own words
    pattern = re.compile(".*?".join(map(re.escape, solid)), re.DOTALL)
    assert any(pattern.search(text) for text in templates()), message


def test_each_status_and_code_of_an_error_that_is_named_is_one_of_the_gateway() -> None:
    named = set(re.findall(r"^\| (\d{3}) `(\w+)` \|", TROUBLESHOOTING, re.MULTILINE))
    known = set(re.findall(r'Row\((\d+), "(\w+)"\)', (ROOT / "proxy/kyma_proxy/errors.py").read_text()))
    assert named - known == set()
    assert len(named) > 12


def anchors(page: Path) -> set[str]:
    """The places in a page to which a link can lead, as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for first, second in LINK.findall(text):
        target = first or second
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_the_index_names_every_document() -> None:
    index = (DOCS / "README.md").read_text()
    pages = [path for path in DOCS.glob("*.md") if path.name != "README.md"] + sorted((DOCS / "guides").glob("*.md"))
    assert [name(path) for path in pages if f"({path.relative_to(DOCS)})" not in index] == []


def test_the_readme_fits_one_screen_before_its_fold() -> None:
    text = re.sub(r"<!--.*?-->\n?", "", (ROOT / "README.md").read_text())
    before = [line for line in text.partition("\n---\n")[0].splitlines() if line]
    assert len(before) <= 24
    commands = re.findall(r"```\n(.*?)```", "\n".join(before), re.DOTALL)
    assert [len(one.strip().splitlines()) for one in commands] == [3]
    assert any(line.startswith("![") for line in before)


def test_each_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            assert set(re.findall(r"`make ([a-z-]+)", page.read_text())) <= targets, name(page)


@pytest.mark.parametrize("file", ["sidecar", "kyma"])
def test_a_file_of_the_version_before_is_still_valid(file: str) -> None:
    text = (ROOT / "tests" / "config" / "of_0_1" / f"{file}.yaml").read_text()
    keys = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "a-key-of-a-provider")
    assert load(text, keys).models


def test_a_sentence_of_the_comparison_that_is_about_others_has_a_source() -> None:
    text = (DOCS / "COMPARISON.md").read_text()
    body, _, sources = text.partition("## Sources")
    cited = {int(number) for group in re.findall(r"\[(\d+(?:, \d+)*)\]", body) for number in group.split(", ")}
    listed = {int(number) for number in re.findall(r"^(\d+)\. ", sources, re.MULTILINE)}
    assert cited == listed
    assert re.search(r"[Rr]ead on \d{4}-\d\d-\d\d", sources)


def test_the_figures_of_the_comparison_are_those_of_the_published_run() -> None:
    run = results.read(DOCS / "benchmarks" / "run.json")
    text = (DOCS / "COMPARISON.md").read_text()
    short, memory = (analysis.find_measurement(run, key) for key in ("short@20", "memory"))
    assert short is not None
    assert memory is not None
    medians = {name: statistics.median(found) for name in run.titles if (found := analysis.values(short, name, "cpu_us"))}
    (row,) = (line for line in text.splitlines() if line.startswith("| CPU per short request"))
    for system in ("gateway", "litellm", "envoy", "nginx", "portkey"):
        assert f"{medians[system]:,.0f} µs" in row, system
    costs = f"costs {medians['gateway']:.0f} µs of CPU time (nginx {medians['nginx']:.0f}, Envoy {medians['envoy']:.0f})"
    kib = statistics.median(analysis.values(memory, "gateway", "stream_kib"))
    joined = " ".join(text.split())
    assert f"{costs}, an open stream {kib:.1f} KiB" in joined
    assert f"{run.machine['cores']} cores of {run.machine['processor']}, {run.at[:10]}" in joined
