"""
The source distribution and the wheel, built from the clone, and the wheel in an environment of its
own: installed by plain pip, used in an empty folder, with no packages but those that the extras
bring. The packages are those of the present environment, so nothing is downloaded, except for one
test.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from allencv.runtime.installing import INSTALL_ALLENNLP
from tests.conftest import ROOT, write_images

pytestmark = pytest.mark.slow

BUILD = "from setuptools import build_meta; build_meta.build_{}({!r})"
SMALL = ["--weights", "none", "--backbone", "small_resnet", "--image-size", "32"]
SMALL += ["--batch-size", "8", "--epochs", "1"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a clone")
    folder = tmp_path_factory.mktemp("clone") / "allencv"
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(clone: Path) -> Path:
    files = files_in(clone)
    build("sdist", clone)
    (archive,) = clone.glob("dist/*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(clone.parent, filter="data")
    folder = clone.parent / archive.name.removesuffix(".tar.gz")
    made = files_in(folder) - {"PKG-INFO", "setup.cfg"}
    assert {name for name in made if "egg-info" not in name} == files, "all to run the tests"
    return folder


def files_in(folder: Path) -> Set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def build(kind: str, folder: Path) -> None:
    command = [sys.executable, "-c", BUILD.format(kind, "dist")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", "wheels", ".", cwd=sdist)
    (wheel,) = sdist.glob("wheels/*.whl")
    return wheel


def pip(*arguments: object, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", "-q", *map(str, arguments)]
    subprocess.run(command, cwd=cwd, check=True)


class Environment:
    """An environment with the wheel, and an empty folder in which commands run."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder / "env")]
        subprocess.run(command, check=True)
        self.bin = folder / "env" / "bin"
        (self.folder, self.home) = (folder / "empty", folder / "home")
        self.folder.mkdir()
        self.home.mkdir()
        pip(
            "--python", self.bin / "python", "install", "--no-deps", "--no-index", wheel, cwd=folder
        )
        (self.site_packages,) = folder.glob("env/lib/python*/site-packages")

    def packages(self, *extras: str, others: Tuple[str, ...] = ()) -> Path:
        """Return a folder with the packages that `allencv[extras]` and `others` bring."""
        folder = self.folder.parent / "-".join(["packages", *extras, *others])
        if not folder.exists():
            folder.mkdir()
            for package in self._brought(extras, others):
                for name in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
                    if not (folder / name).exists():  # as "nvidia", which several packages share
                        (folder / name).symlink_to(str(package.locate_file(name)))
        return folder

    def _brought(
        self, extras: Tuple[str, ...], others: Tuple[str, ...]
    ) -> Iterator[metadata.Distribution]:
        known = {canonicalize_name(each.name): each for each in metadata.distributions()}
        (known["allencv"],) = metadata.distributions(path=[str(self.site_packages)])
        new = {("allencv", extra) for extra in ("", *extras)}
        done: Set[Tuple[str, str]] = set()
        while new:
            name, extra = new.pop()
            done.add((name, extra))
            for requirement in map(
                Requirement, known[name].requires or [] if name in known else []
            ):
                if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                    wanted = canonicalize_name(requirement.name)
                    new |= {(wanted, each) for each in ("", *requirement.extras)} - done
        for name in {name for name, _ in done} - {"allencv"} | {*others}:
            if name in known:  # not what the lock leaves out on this machine
                yield known[name]

    def variables(self, packages: Path) -> Dict[str, str]:
        kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "PATH")}
        return {**kept, "HOME": str(self.home), "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}

    def run(self, *arguments: object, packages: Path, fails: bool = False) -> str:
        result = subprocess.run(
            [self.bin / "allencv", *map(str, arguments)],
            cwd=self.folder,
            env=self.variables(packages),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (result.returncode != 0) == fails, f"{arguments}\n{result.stdout}\n{result.stderr}"
        return result.stderr if fails else result.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture(scope="module")
def for_training(installed: Environment) -> Path:
    folder = installed.packages("train", "serve", others=("allennlp",))
    found = {file.name for file in folder.iterdir()}
    assert {"torch", "allennlp", "fastapi", "numpy"} <= found
    assert not {"transformers", "spacy", "nltk", "wandb", "pandas", "pytest"} & found
    return folder


@pytest.fixture(scope="module")
def bundle(installed: Environment, for_training: Path) -> Path:
    """Train, and export the model."""
    for seed, (split, count) in enumerate({"train": 15, "val": 5}.items()):
        write_images(installed.folder / "pets" / split, {"cat": count, "dog": count}, seed=seed)
    installed.run("fit", "pets", "-o", "run", *SMALL, packages=for_training)
    installed.run("export", "run/model.tar.gz", "bundle", packages=for_training)
    return installed.folder / "bundle"


def test_the_wheel_has_the_package(wheel: Path, clone: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {f"allencv/{name}" for name in files_in(clone / "allencv")}
    configs = {f"allencv/training_config/{name}" for name in files_in(clone / "training_config")}
    assert names == package | configs


def test_the_container_has_what_builds_the_package(clone: Path, tmp_path: Path) -> None:
    copied = re.findall(r"^COPY (.*) (\S+)$", (clone / "Dockerfile").read_text(), re.MULTILINE)
    for name in " ".join(sources for sources, target in copied if target != "bundle").split():
        copy = shutil.copytree if (clone / name).is_dir() else shutil.copy
        copy(clone / name, tmp_path / name)
    build("wheel", tmp_path)


def test_help_and_recipes(installed: Environment, for_training: Path) -> None:
    base = installed.packages()
    assert not {"torch", "allennlp", "fastapi"} & {file.name for file in base.iterdir()}
    assert "usage: allencv" in installed.run("--help", packages=base)
    code = "from allencv.recipes import recipe; print(recipe('hymenoptera'), end='')"
    printed = subprocess.run(
        [installed.bin / "python", "-c", code],
        cwd=installed.folder,
        env=installed.variables(base),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "resnet18" in printed.stdout


def test_a_run_is_used(installed: Environment, bundle: Path, for_training: Path) -> None:
    command = ("classify", "run/model.tar.gz", "pets/val", "-o", "answers.csv")
    installed.run(*command, packages=for_training)
    assert len((installed.folder / "answers.csv").read_text().splitlines()) == 1 + 10


def test_a_bundle_is_used_with_the_base(installed: Environment, bundle: Path) -> None:
    base = installed.packages()
    installed.run("classify", bundle, "pets/val", "-o", "of_bundle.csv", packages=base)
    lines: List[str] = (installed.folder / "of_bundle.csv").read_text().splitlines()
    assert len(lines) == 1 + 10


def test_a_bundle_is_served(installed: Environment, bundle: Path) -> None:
    process = subprocess.Popen(
        [installed.bin / "allencv", "serve", "bundle", "--port", "0"],
        cwd=installed.folder,
        env=installed.variables(installed.packages("serve")),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().split()[-1]
        image = next((installed.folder / "pets" / "val").rglob("*.jpg")).read_bytes()
        request = urllib.request.Request(
            f"{address}/predict", image, {"Content-Type": "image/jpeg"}
        )
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer)["predictions"][0]["label"] in ("cat", "dog")
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_beside_the_newest_transformers(
    installed: Environment, bundle: Path, tmp_path: Path, for_training: Path
) -> None:
    """AllenNLP asks for releases of 2022, and never imports them for images."""
    names = ("transformers", "huggingface-hub")
    command = [sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--target", tmp_path]
    if subprocess.run([*command, *names], capture_output=True).returncode:
        pytest.skip("needs a package index")
    (transformers,) = metadata.distributions(path=[str(tmp_path)], name="transformers")
    assert int(transformers.version.split(".")[0]) >= 5
    for package in for_training.iterdir():
        if not (tmp_path / package.name).exists():
            (tmp_path / package.name).symlink_to(package)
    installed.run("fit", "pets", "-o", "newest", *SMALL, packages=tmp_path)
    command_line = ("classify", "newest/model.tar.gz", "pets/val", "-o", "newest.csv")
    installed.run(*command_line, packages=tmp_path)
    assert len((installed.folder / "newest.csv").read_text().splitlines()) == 1 + 10


def test_without_allennlp(installed: Environment) -> None:
    """The rest of the extra is there."""
    error = installed.run("train", "x", "-s", "x", packages=installed.packages("train"), fails=True)
    assert error.splitlines()[-1].startswith(
        "allencv: train needs allennlp, which is not installed"
    )
    assert INSTALL_ALLENNLP in error
