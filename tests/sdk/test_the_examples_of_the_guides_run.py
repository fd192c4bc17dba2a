"""Every example of the guides runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, GatewayProcess, environment

GUIDES = ROOT / "docs" / "guides"
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(language, text, id=f"{guide.stem}-{at}")
    for guide in sorted(GUIDES.glob("*.md"))
    if guide.stem != "claude-code"  # it is interactive
    for at, (language, text) in enumerate(_BLOCK.findall(guide.read_text()))
]


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_each_example_of_a_guide_runs(gateway: GatewayProcess, tmp_path: Path, language: str, text: str) -> None:
    text = text.replace("http://127.0.0.1:8080", gateway.base)
    line = [sys.executable, "-c", text] if language == "python" else ["sh", "-e", "-c", text]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment(), cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '"error":{' not in done.stdout.replace(" ", "")


def test_every_guide_is_listed() -> None:
    listed = (GUIDES / "README.md").read_text()
    assert all(f"({guide.name})" in listed for guide in GUIDES.glob("*.md") if guide.name != "README.md")
