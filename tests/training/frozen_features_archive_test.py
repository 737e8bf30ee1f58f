"""The archive of a run on kept features is an ordinary one, for all that takes archives."""

import json
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from tests.common.tiny_archive import files_of, packed
from tests.configs import experiment
from tests.conftest import run_in_process

Archives = Tuple[Path, Path]


@pytest.fixture(scope="module")
def archives(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """An archive with `frozen_features` in its config, and the same weights without the key."""
    folder = tmp_path_factory.mktemp("frozen")
    config = experiment(
        cats_and_dogs,
        trainer__num_epochs=2,
        trainer__no_grad=["_im2im_encoder"],
        trainer__frozen_features={"views": 2, "folder": str(folder / "features")},
    )
    train_model(Params(config), str(folder / "run"))
    files = files_of(folder / "run" / "model.tar.gz")
    written = json.loads(files.pop("config.json"))
    del written["trainer"]["frozen_features"], files["checksums.json"]
    without = {**files, "config.json": json.dumps(written).encode()}
    return folder / "run" / "model.tar.gz", packed(folder / "without.tar.gz", without)


def answers(command: str, *arguments: object, output: Path) -> bytes:
    run_in_process(command, *arguments, output)
    return output.read_bytes()


def vectors_of(archive: Path, images: Path, output: Path) -> bytes:
    run_in_process("embed", archive, images, "--no-cache", "-o", output)
    with np.load(output) as file:  # without the checksum of the archive
        return file["vectors"].tobytes()


def test_the_answers_are_those_of_an_archive_without_the_key(
    archives: Archives, cats_and_dogs: Path, tmp_path: Path
) -> None:
    images = sorted((cats_and_dogs / "test").glob("*/*.jpg"))
    lines = tmp_path / "images.jsonl"
    lines.write_text("".join(json.dumps({"image": str(image)}) + "\n" for image in images))
    found = [
        (
            answers("classify", archive, cats_and_dogs / "test", "-o", output=tmp_path / "c.csv"),
            answers(
                *("predict", archive, lines, "--predictor", "image_classifier", "--silent"),
                "--output-file",
                output=tmp_path / "predictions.jsonl",
            ),
            answers(
                *("evaluate", archive, cats_and_dogs / "val", "--output-file"),
                output=tmp_path / "metrics.json",
            ),
            answers("explain", archive, images[0], "-o", output=tmp_path / "explained.png"),
            vectors_of(archive, cats_and_dogs / "test", tmp_path / "vectors.npz"),
        )
        for archive in archives
    ]
    for with_key, without_key in zip(*found):
        assert with_key == without_key


def test_its_run_has_a_report(archives: Archives, tmp_path: Path) -> None:
    page = answers(
        *("report", archives[0].parent, "--evaluate", "-o"), output=tmp_path / "report.html"
    )
    assert b"Validation: 10 images" in page


def test_a_learning_rate_is_found(cats_and_dogs: Path, archives: Archives, tmp_path: Path) -> None:
    config = archives[0].parent / "config.json"
    run_in_process("find-lr", config, "-s", tmp_path / "lr", "--num-batches", 12)
    assert (tmp_path / "lr" / "lr-losses.png").exists()


@pytest.mark.slow
def test_its_bundle_answers_alike(archives: Archives, cats_and_dogs: Path, tmp_path: Path) -> None:
    run_in_process("export", archives[0], tmp_path / "bundle")
    tables: Dict[str, str] = {}
    for model in (str(archives[1]), str(tmp_path / "bundle")):
        table = answers(
            *("classify", model, cats_and_dogs / "test", "-o"), output=tmp_path / "a.csv"
        )
        tables[model] = "".join(line.split(",")[1] for line in table.decode().splitlines())
    assert len(set(tables.values())) == 1
