"""Warns if the published figures are of code that has changed a lot since.

    python -m bench.age [RUN.json]

It counts the commits on `proxy/` after the one that was measured. The exit code is always 0: old figures are no mistake, but
they should not be taken for those of today.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench import results
from bench.processes import ROOT

PUBLISHED: Final = ROOT / "docs" / "benchmarks" / "run.json"
MAX_COMMITS: Final = 50
_REMEDY: Final = "measure again: make bench-peers bench-all"


def commits_since(commit: str, repository: Path = ROOT) -> int | None:
    """The number of commits on `proxy/` since this one; None if git does not know it, as in a shallow clone."""
    name = re.sub(r"-dirty$", "", commit)
    command = ["git", "rev-list", "--count", f"{name}..HEAD", "--", "proxy"]
    try:
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(done.stdout)


def warning(commit: str, count: int | None) -> str | None:
    """The warning about figures of that commit, after so many others; None if they are young enough."""
    if count is None:
        return f"the published figures are of commit {commit}, which git does not know here, so their age is unknown"
    if count <= MAX_COMMITS:
        return None
    return f"the published figures are of commit {commit}: {count} commits on proxy/ are newer; {_REMEDY}"


def main() -> int:
    """Warn; returns 0."""
    run = results.read(Path(sys.argv[1]) if len(sys.argv) > 1 else PUBLISHED)
    if (text := warning(run.commit, commits_since(run.commit))) is not None:
        sys.stderr.write(f"warning: {text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
