"""Checks what is in deploy/ and the workflows with the linters of their fields.

    make lint-deploy

hadolint reads the Dockerfile, Kubernetes' own schemas judge each manifest, Helm renders the chart with several values and the
same schemas judge the result, systemd judges the units, promtool the alerts, and zizmor the workflows. Without systemd or
promtool its part is left out.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = ("1.29", "1.34")
EXPOSURE: Final = 20  # tenths; systemd's scale of 0 to 10 counts what a service could do to the system
CHART: Final = DEPLOY / "helm" / "kyma-proxy"
CHART_VALUES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"persistence": {"enabled": True, "storageClassName": "fast"}, "secretName": ""},
    {"autoscaling": {"enabled": False}, "podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}},
    {
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"c": "d"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
)


def main() -> int:
    """Run all of them; returns 1 if one finds something."""
    failed = 0
    for title, check in (
        ("Dockerfile", dockerfile), ("Kubernetes", manifests), ("Helm", chart), ("systemd", units), ("Prometheus", rules),
        ("workflows", workflows),
    ):  # fmt: skip
        found = list(check())
        failed += any(not one.startswith("left out: ") for one in found)
        print("\n".join([f"{title}: {'fine' if not found else ''}", *(f"  {one}" for one in found)]))
    return int(failed > 0)


def dockerfile() -> Iterator[str]:
    """hadolint's findings."""
    yield from run(program("hadolint"), "--no-color", DEPLOY / "docker" / "Dockerfile")


def manifests() -> Iterator[str]:
    """What Kubernetes' schemas refuse in the manifests."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from refused(path.name, path.read_text())


def chart() -> Iterator[str]:
    """Helm's findings, and what Kubernetes' schemas refuse in what it renders."""
    import helm_python

    for message in helm_python.lint(str(CHART))["messages"]:
        if message["severity"] > 1:  # 1 is advice
            yield message["error"]
    with helm_python.Chart.load(str(CHART)) as loaded:
        for number, values in enumerate(CHART_VALUES):
            rendered = loaded.render(values=copy.deepcopy(values), name="trial", namespace="trial")
            for name, text in rendered.items():
                if name.endswith(".yaml"):
                    yield from refused(f"{name}, values {number}", text)


def units() -> Iterator[str]:
    """What systemd finds in the units, and an exposure above the limit."""
    if shutil.which("systemd-analyze") is None:
        yield "left out: there is no systemd-analyze here"
        return
    with tempfile.TemporaryDirectory() as directory:
        for name in ("kyma-proxy.service", "kyma-proxy.socket"):
            # The program is not installed here, and neither is its manual.
            text = (DEPLOY / "systemd" / name).read_text().replace("/opt/kyma-proxy/bin/kyma-proxy", "/bin/true")
            Path(directory, name).write_text(
                "".join(line for line in text.splitlines(True) if not line.startswith("Documentation="))
            )
        yield from run("systemd-analyze", "verify", *sorted(Path(directory).iterdir()))
    service = DEPLOY / "systemd" / "kyma-proxy.service"
    rating = run("systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE}", service)
    yield from [line for line in rating if line.startswith(("→", "Failed"))]


def rules() -> Iterator[str]:
    """promtool's findings in the scrape configuration and the alert rules, and what their tests find."""
    if shutil.which("promtool") is None:
        yield "left out: there is no promtool here (apt-get install prometheus)"
        return
    directory = DEPLOY / "prometheus"
    yield from run("promtool", "check", "config", directory / "prometheus.yaml")
    yield from run("promtool", "test", "rules", directory / "alerts_test.yaml")


def workflows() -> Iterator[str]:
    """zizmor's findings."""
    yield from run(program("zizmor"), "--offline", "--quiet", "--no-progress", ROOT / ".github" / "workflows")


def refused(name: str, text: str) -> Iterator[str]:
    """What Kubernetes' schemas refuse in the documents of a text."""
    import kubernetes_validate

    for document in filter(None, yaml.safe_load_all(text)):
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                yield f"{name}, {document.get('kind')}, Kubernetes {version}: {error}"


def program(name: str) -> Path:
    """A program of this virtual environment."""
    return Path(sys.executable).parent / name


def run(*line: object) -> list[str]:
    """The lines that a linter prints if it is not content."""
    done = subprocess.run([*map(str, line)], cwd=ROOT, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines() or ["failed"] if done.returncode else []


if __name__ == "__main__":
    sys.exit(main())
