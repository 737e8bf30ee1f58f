"""The README's commands and code, run as they are printed."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from allennlp.common import Registrable

import allencv.plugin  # noqa: F401
from tests.conftest import ROOT, write_images
from tests.forking.commands import NAMES, forked_commands
from tests.recipes import ONE_EPOCH, SMALL_IMAGES

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def block(language: str, containing: str) -> str:
    (found,) = [text for text in blocks(language) if containing in text]
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone of the repository, with the images that the README speaks of."""
    folder = tmp_path_factory.mktemp("clone")
    for name in (".allennlp_plugins", "requirements.txt", "training_config"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    environment = folder / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "activate").symlink_to(Path(sys.executable).parent / "activate")
    for name in NAMES:
        (environment / name).write_text(f'#!/bin/sh\nexec {forked_commands()}/{name} "$@"\n')
        (environment / name).chmod(0o755)
    shutil.copy(ROOT / "requirements.txt", folder / ".venv" / ".allencv-requirements")
    for seed, (name, count) in enumerate((("pets/train", 4), ("pets/val", 4), ("more_pets", 10))):
        write_images(folder / name, {"cat": count, "dog": count}, seed=seed)
    return folder


def shell(command: str, folder: Path, **env: str) -> str:
    path = f"{forked_commands()}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def demo(clone: Path) -> str:
    return shell(block("bash", "./scripts/demo"), clone)


def test_the_demo_says_what_the_readme_shows(demo: str) -> None:
    accuracy = float(re.search(r"Test accuracy ([\d.]+)%", demo).group(1))
    assert accuracy >= 99

    def commands(text: str) -> List[str]:
        return re.findall(r"^\$ .*", text, re.MULTILINE)

    assert commands(demo) == commands(block("text", "scripts/make_digits.py"))


def test_the_environment_has_the_commands(demo: str, clone: Path) -> None:
    found = shell(block("bash", "source ") + "command -v allencv allennlp", clone)
    assert [Path(line).name for line in found.split()] == ["allencv", "allennlp"]


def test_from_a_folder_to_a_page(clone: Path) -> None:
    fit = block("bash", "allencv fit pets -o runs/first")
    output = shell(f"{fit.rstrip()} --epochs 2 --weights none", clone)  # there is no network here
    assert "Config: runs/first.jsonnet" in output
    shell(block("bash", "allencv report"), clone)
    assert "<html" in (clone / "report.html").read_text(encoding="utf-8")
    assert len((clone / "answers.csv").read_text().splitlines()) == 1 + 8
    with np.load(clone / "vectors.npz") as vectors:
        assert set(vectors["labels"]) == {path.name for path in (clone / "pets/train").iterdir()}
    serve = block("bash", "allencv serve").split()
    process = subprocess.Popen(
        [forked_commands() / "python", "-m", *serve, "--port", "0"],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(address) as page:
            assert "<title>Classify images</title>" in page.read().decode()
    finally:
        process.terminate()
        assert process.wait(30) == 0
    calibrated = shell(block("bash", "allencv calibrate"), clone)
    assert "calibrated on 20 images of more_pets\n" in calibrated


def test_quick_is_the_command_of_its_page() -> None:
    """It is run by the test of this page."""
    page = (ROOT / "docs" / "quick.md").read_text(encoding="utf-8")
    assert f"```bash\n{block('bash', '--quick')}```" in page


def test_the_explained_config_is_the_file() -> None:
    file = (ROOT / "training_config" / "digits.jsonnet").read_text(encoding="utf-8")
    code = [line for line in file.splitlines() if line and not line.startswith("//")]
    explained = [line for text in blocks("jsonnet") for line in text.splitlines() if line]
    assert explained == code


def test_pets_are_trained_evaluated_and_predicted(clone: Path) -> None:
    train = block("bash", "TRAIN_PATH=")
    # There is no network here, and less time.
    overrides = {
        "model.im2im_encoder.weights": None,
        **SMALL_IMAGES["image_classifier"],
        **ONE_EPOCH,
    }
    shell(f"{train.rstrip()} -o '{json.dumps(overrides)}'", clone)
    output = shell(block("bash", "allencv evaluate"), clone)
    assert '"label": "cat"' in output or '"label": "dog"' in output


def test_the_python_way(clone: Path) -> None:
    test_pets = clone / "runs" / "pets" / "model.tar.gz"
    assert test_pets.is_file(), "the model that the test above trains"
    for containing in ("ImageDataLoader", "allencv.load("):
        (clone / "snippet.py").write_text(block("python", containing))
        output = shell("python snippet.py", clone)
        assert output.strip()


def test_a_part_of_your_own(clone: Path, demo: str) -> None:
    code = block("python", "TwoConvolutions")
    assert len(code.splitlines()) < 40
    (clone / "my_parts.py").write_text(code)
    command = block("bash", "--include-package my_parts")
    shell(command.replace("-o '{", '-o \'{ "trainer.num_epochs": 1,'), clone)
    config = (clone / "runs" / "mine" / "config.json").read_text()
    assert "two_convolutions" in config
    assert "salt" in config


GENERATED = ("torchvision_transform", "torchmetrics_metric", "torch_optimizer")
"""The modules whose parts are a library's, too many to name."""


def test_the_table_of_parts_is_complete() -> None:
    table: Dict[str, str] = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE))
    for base, names in Registrable._registry.items():
        for name, (part, _) in names.items():
            ours = part.__module__.startswith("allencv.")
            repaired = any(each.__module__.startswith("allennlp.") for each in part.__bases__)
            if not ours or part.__module__.endswith(GENERATED):
                continue
            if base.__name__ not in table and repaired:
                continue  # AllenNLP's own, under its own name
            assert f"`{name}`" in table[base.__name__], f"{base.__name__} {name}"
