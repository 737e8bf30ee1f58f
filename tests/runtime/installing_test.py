"""What messages and documents say about installing agrees with pyproject.toml."""

import re
import tomllib
from importlib.metadata import packages_distributions, requires
from typing import List, Optional, Set

import pytest

from allencv import __version__
from allencv.runtime.installing import EXTRAS, INSTALL_ALLENNLP, PACKAGES, how_to_install
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BY_EXTRA = PROJECT["optional-dependencies"]


def distribution(requirement: str) -> str:
    """Return the name in a requirement: "scikit-learn" for "scikit_learn>=1.5"."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def distributions(requirements: List[str]) -> Set[str]:
    return {distribution(requirement) for requirement in requirements}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_modules_of_an_extra_are_those_of_its_packages(extra: str) -> None:
    known = packages_distributions()
    found = {distribution(name) for module in EXTRAS[extra] for name in known[module]}
    assert found == distributions(BY_EXTRA[extra])


def test_single_packages_are_required_as_in_the_extras() -> None:
    single = ("text", "parquet", "huggingface", "openvino", "cuda", "ray", "tune")
    requirements = {each for extra in single for each in BY_EXTRA[extra]}
    requirements |= {each for each in PROJECT["dependencies"] if each.startswith("onnxruntime")}
    assert set(PACKAGES.values()) == requirements
    for module, requirement in PACKAGES.items():
        assert distribution(module) == distribution(requirement)


def test_extras_have_what_allennlp_requires() -> None:
    """Except what none of its modules imports, or what another package brings."""
    extras = ("train", "text")
    ours = distributions([*PROJECT["dependencies"], *(p for e in extras for p in BY_EXTRA[e])])
    needed = distributions([each for each in requires("allennlp") if "extra ==" not in each])
    not_imported = {"dataclasses", "protobuf", "pytest", "traitlets", "typer"}
    assert needed - ours == {*not_imported, "requests"}  # which cached-path brings


def test_allennlp_is_the_locked_one() -> None:
    command, _, pin = INSTALL_ALLENNLP.rpartition(" ")
    assert command == "pip install --no-deps"
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert pin in (ROOT / name).read_text().splitlines()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("allennlp", "pip install --no-deps allennlp==2.10.1"),
        ("allennlp.common", "pip install --no-deps allennlp==2.10.1"),
        ("pyarrow.parquet", 'pip install "pyarrow>=17"'),
        ("more_itertools", 'pip install "more-itertools>=10"'),
        (
            "sklearn",
            'pip install ".[train]" in a clone of AllenCV, or pip install '
            f'"allencv-{__version__}-py3-none-any.whl[train]"',
        ),
        ("my_parts", None),
    ],
)
def test_how_to_install(module: str, message: Optional[str]) -> None:
    assert how_to_install(module) == message


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_installs_what_there_is() -> None:
    assert f'\npip install ".[train,serve]"\n{INSTALL_ALLENNLP}\n' in README
    assert f"`./allencv-{__version__}-py3-none-any.whl[train,serve]`" in README
    (table,) = re.findall(r"^\| extra \| for \|\n\|---\|---\|\n(.*?)\n\n", README, re.DOTALL | re.M)
    rows = [line.split("|")[1] for line in table.splitlines()]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(BY_EXTRA)


PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("allencv/**/*.py")]


def test_no_page_installs_from_the_index_what_is_not_there() -> None:
    """The name "allencv" belongs to another project there."""
    assert len(PAGES) > 100
    for page in PAGES:
        assert not re.search(
            r"pip install \S*allencv(\[|\"|'|`|$| )", page.read_text(encoding="utf-8")
        )


def test_pages_install_packages_as_the_extras_do() -> None:
    found = {
        requirement
        for page in PAGES
        for requirement in re.findall(r'pip install "(\w[^"{]*)"', page.read_text(encoding="utf-8"))
        if not requirement.startswith("allencv-")
    }
    assert {"pyarrow>=17", "datasets>=5.0"} <= found
    assert found <= set(PACKAGES.values())
