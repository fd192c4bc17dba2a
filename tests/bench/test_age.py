"""Published figures of old code are called old, and nothing fails for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import age, results
from bench.age import MAX_COMMITS, commits_since, warning


def git(repository: Path, *arguments: str) -> str:
    who = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.com",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "core.hooksPath=/dev/null",
    )
    done = subprocess.run(["git", *who, *arguments], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "proxy").mkdir()
    return tmp_path


def commit(repository: Path, path: str) -> str:
    file = repository / path
    file.write_text(f"{file.read_text() if file.exists() else ''}more\n")
    git(repository, "add", path)
    git(repository, "commit", "--quiet", "--message", "more")
    return git(repository, "rev-parse", "--short=12", "HEAD")


def test_only_commits_on_the_program_make_figures_old(repository: Path) -> None:
    measured = commit(repository, "proxy/a.py")
    commit(repository, "README.md")
    commit(repository, "proxy/a.py")
    assert commits_since(measured, repository) == 1
    assert commits_since(f"{measured}-dirty", repository) == 1
    assert commits_since("0123456789ab", repository) is None


def test_old_figures_are_told_with_a_remedy_and_young_ones_are_not() -> None:
    assert warning("abc", MAX_COMMITS) is None
    assert "51 commits" in (warning("abc", MAX_COMMITS + 1) or "")
    assert "make bench-peers bench-all" in (warning("abc", MAX_COMMITS + 1) or "")
    assert "unknown" in (warning("abc", None) or "")


def test_the_check_never_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["age"])
    monkeypatch.setattr(age, "commits_since", lambda _: 1000)
    assert age.main() == 0
    assert f"warning: the published figures are of commit {results.read(age.PUBLISHED).commit}" in capsys.readouterr().err
