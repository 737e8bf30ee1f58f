"""
The pages that are made from the code are what `scripts/make_references.py` makes of it, with the
libraries of requirements.txt: after a change of the code, run it.
"""

import re
from pathlib import Path

import pytest

import allencv.plugin  # noqa: F401
from allencv.catalogue import check_file
from tests.conftest import ROOT, Run

DOCS = ROOT / "docs"
PAGES = ("parts.md", "config.md", "command_line.md")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """The pages, made by a new process, as other tests register parts of their own in this one."""
    folder = tmp_path_factory.mktemp("references")
    run("python", "scripts/make_references.py", folder)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_what_the_code_says(page: str, made: Path) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == (made / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_it_is_the_same_on_every_machine(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for path in (ROOT, Path.home(), "site-packages", " object at 0x"):
        assert str(path) not in text


def test_links() -> None:
    for page in PAGES:
        text = (DOCS / page).read_text(encoding="utf-8")
        for target, heading in re.findall(r"\]\(([\w.]*\.md)?#([\w-]+)\)", text):
            linked = (DOCS / (target or page)).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", linked, re.MULTILINE)
            assert heading in {each.lower().replace(" ", "-") for each in headings}


def test_the_config_and_its_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "config.md").read_text(encoding="utf-8")
    (config,) = re.findall(r"^```jsonnet\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (output,) = re.findall(
        r"^\$ [^\n]*check-config[^\n]*\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    monkeypatch.setenv("DATA", "data/pets")
    file = tmp_path / "pets.jsonnet"
    file.write_text(config)
    assert check_file(str(file)) == []

    wrong = config.replace("batch_size: 32", 'batch_size: "32"').replace('"adamw"', '"adamww"')
    file.write_text(wrong)
    mistakes = check_file(str(file))
    *shown, last = output.splitlines()
    assert last == f"pets.jsonnet: {len(mistakes)} mistakes"
    assert len(shown) == len(mistakes)
    for line, mistake in zip(shown, mistakes):
        found = f"pets.jsonnet:{mistake.line}: {mistake.message}"
        assert found.startswith(line.removesuffix("..."))
