"""The commands and the code of docs/transforms.md, run as they are printed."""

import os
import re
import shlex
from pathlib import Path
from typing import List

import pytest
import torch
from allennlp.common import Params
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.data.transforms import BatchTransform, ImageTransform
from tests.conftest import ROOT, Run, write_images

PAGE = (ROOT / "docs" / "transforms.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


FRAGMENTS = [text for text in blocks("jsonnet") if text.startswith("transforms:")]
(CONFIG,) = [text for text in blocks("jsonnet") if text not in FRAGMENTS]
TRAIN, SHOW_BATCH = blocks("bash")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pets")
    for seed, split in enumerate(("train", "val")):
        write_images(folder / "pets" / split, {"cat": 8, "dog": 8}, seed=seed)
    (folder / "pets.jsonnet").write_text(CONFIG)
    return folder


@pytest.mark.parametrize("text", FRAGMENTS)
def test_a_list_of_transforms(text: str, tmp_path: Path) -> None:
    (tmp_path / "reader.jsonnet").write_text(f"{{ {text} }}")
    image = torch.randint(256, (90, 120, 3), dtype=torch.uint8).permute(2, 0, 1)
    for params in Params.from_file(str(tmp_path / "reader.jsonnet"))["transforms"]:
        image = ImageTransform.from_params(params)(image)
    assert image.shape in [(3, 224, 224), (3, 64, 64)]


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"jsonnet", "bash", "python"}


def test_every_name_is_registered() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) == 7
    assert set(names) <= set(ImageTransform.list_available())
    assert {"mixup", "cutmix", "random_choice"} <= set(BatchTransform.list_available())


def test_training(folder: Path, run: Run) -> None:
    run(*shlex.split(TRAIN), "-o", '{"trainer.num_epochs": 1}', cwd=folder)
    assert (folder / "runs" / "pets" / "model.tar.gz").exists()


def test_show_batch(folder: Path, run: Run) -> None:
    run(*shlex.split(SHOW_BATCH), cwd=folder)
    with Image.open(folder / "batch.png") as page:
        assert page.width > 900


def test_the_python_way(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (code,) = blocks("python")
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile(code, "transforms.md", "exec"), {})
    finally:
        os.chdir(before)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "torch.Size([3, 64, 64]) torch.uint8 cat"
    assert len(lines) == 16
