"""The documentation site: `scripts/docs` builds it, with all pages and without broken links."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Iterator

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, ROOT / "benchmarks" / "gpu" / "README.md"]


def leaves(navigation: Any) -> Iterator[str]:
    """The paths in a navigation of lists and tables."""
    if isinstance(navigation, str):
        yield navigation
    else:
        for each in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from leaves(each)


def test_every_page_is_in_the_navigation() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    expected = [str(page.relative_to(ROOT)) for page in PAGES]
    assert sorted(leaves(navigation)) == sorted(expected)


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    """The build checks links to pages, but not to pictures and other files."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the repository with its documents and an environment that is up to date."""
    if shutil.which("zensical") is None:
        pytest.skip("zensical is not installed")
    for folder in ("docs", "scripts", "training_config", "benchmarks/gpu"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in ("README.md", "LICENSE", "zensical.toml", "requirements-dev.txt"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / ".venv").mkdir()
    shutil.copy(ROOT / "requirements-dev.txt", tmp_path / ".venv" / ".allencv-requirements")
    return tmp_path


def build(clone: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["scripts/docs"], cwd=clone, capture_output=True, text=True, timeout=120)


def test_the_site_is_built(clone: Path) -> None:
    result = build(clone)
    assert result.returncode == 0, result.stdout + result.stderr
    for page in (clone / "site").rglob("*.html"):
        assert not re.search(r'href="(?!http)[^"]*\.md[#"]', page.read_text("utf-8")), page
    assert "Glossary" in (clone / "site" / "search.json").read_text("utf-8")
    config = (clone / "site" / "training_config" / "digits.jsonnet" / "index.html").read_text()
    assert "small_resnet" in config


def test_a_broken_anchor_is_an_error(clone: Path) -> None:
    for page in (clone / "docs").glob("*.md"):
        page.unlink()
    (clone / "README.md").write_text("# Start\n\n[here](#there)\n")
    result = build(clone)
    assert result.returncode != 0
    assert "anchor does not exist" in result.stdout + result.stderr
