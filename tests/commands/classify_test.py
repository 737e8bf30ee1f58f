"""`allencv classify` with archives, as a user runs it; tests/runtime has what it does."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.predictors import ImageClassifierPredictor
from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import Run, full_disk, run_in_process

PART = """
from allencv.data.transforms import ImageTransform
@ImageTransform.register("upside_down")
class UpsideDown(ImageTransform):
    def __call__(self, image):
        return image.flip(1)
"""


def trained(folder: Path, data: Path, transforms: Any = None) -> Path:
    config = experiment(data, trainer__num_epochs=1)
    if transforms is not None:
        config["validation_dataset_reader"]["transforms"] = transforms
    train_model(Params(config), folder)
    return folder / "model.tar.gz"


@pytest.fixture(scope="module")
def archive(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("pets") / "run", cats_and_dogs)


@pytest.fixture
def photos(cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The images of `photos` in the working directory, of which the last is damaged."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cats_and_dogs / "test", "photos")
    Path("photos/zebra.jpg").write_bytes(Path("photos/Cat/000.jpg").read_bytes()[:100])
    Path("photos/Dog/zebra.jpg").write_bytes(Path("photos/Cat/000.jpg").read_bytes()[:100])
    return ["photos/zebra.jpg", *sorted(map(str, Path("photos").glob("*/*.jpg")))]


def classify(*arguments: object) -> None:
    """The command as AllenNLP starts it."""
    run_in_process("classify", *map(str, arguments))


def answers_of(archive: Path, images: List[str]) -> List[Dict[str, Any]]:
    predictor = ImageClassifierPredictor.from_path(archive, import_plugins=False)
    return predictor.predict_batch_json([{"image": image} for image in images])


def test_the_command_answers_as_the_predictor(
    cats_and_dogs: Path, photos: List[str], run: Run, tmp_path: Path
) -> None:
    """The preprocessing in the archive has a part of the user's own."""
    Path("my_part.py").write_text(PART)
    exec(PART, {})
    turned = [{"type": "eval", "size": 32}, {"type": "upside_down"}]
    archive = trained(tmp_path / "run", cats_and_dogs, turned)
    result = run(
        *("allencv", "classify", archive, "photos", "-o", "out/answers.csv"),
        *("--probabilities", "--batch-size", 3, "--fail-on-error"),
        *("--include-package", "my_part"),
        cwd=tmp_path,
        fails=True,
    )
    rows = list(csv.DictReader(Path("out/answers.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == photos
    labels = [column[2:] for column in rows[0] if column.startswith("p_")]
    for row, expected in zip(rows, answers_of(archive, photos)):
        assert row["error"] == expected.get("error", "")
        if "error" in expected:
            assert set(list(row.values())[1:-1]) == {""}
            continue
        assert row["label"] == expected["label"]
        for place, entry in enumerate(expected["top_k"], 1):
            suffix = "" if place == 1 else f"_{place}"
            assert row[f"label{suffix}"] == entry["label"]
            probability = pytest.approx(entry["probability"], abs=1e-6)
            assert float(row[f"probability{suffix}"]) == probability
        given = [float(row[f"p_{label}"]) for label in labels]
        assert given == pytest.approx(expected["probs"], abs=1e-6)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == ("allencv: out/answers.csv: 10 images, 2 errors")
    assert "Traceback" not in result.stderr


def test_json_lines_have_the_keys_of_the_predictor(archive: Path, photos: List[str]) -> None:
    classify(archive, "photos", "-o", "out.jsonl")
    records = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    for record, expected in zip(records, answers_of(archive, photos), strict=True):
        assert record.pop("path") == expected.get("metadata", {}).get("image")
        if "error" in record:
            assert record == {"error": expected["error"]}
        else:
            for given, wanted in zip(record["top_k"], expected["top_k"], strict=True):
                assert given == {**wanted, "probability": pytest.approx(wanted["probability"])}
            assert record == {"label": expected["label"], "top_k": record["top_k"]}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_all_but_the_last_bit_is_that_of_the_predictor(
    archive: Path, photos: List[str], batch_size: int
) -> None:
    """And all of it, where images are computed one by one as the predictor does."""
    classify(archive, "photos", "-o", "out.jsonl", "--probabilities", "--batch-size", batch_size)
    predictor = ImageClassifierPredictor.from_path(archive, import_plugins=False)
    for line in Path("out.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "error" not in record:
            given = list(record["probabilities"].values())
            expected = predictor.predict(record["path"])["probs"]
            assert given == (expected if batch_size == 1 else pytest.approx(expected, abs=1e-6))


def test_a_run_with_another_archive_does_not_go_on(
    archive: Path, cats_and_dogs: Path, photos: List[str], tmp_path: Path
) -> None:
    with full_disk(), pytest.raises(InputError, match="'out.csv' cannot be written: No space left"):
        classify(archive, "photos", "-o", "out.csv")
    other = trained(tmp_path / "run", cats_and_dogs, [{"type": "eval", "size": 24}])
    with pytest.raises(InputError, match=r"'out.csv.part' is of a run that has another model; "):
        classify(other, "photos", "-o", "out.csv")
    classify(archive.parent, "photos", "-o", "out.csv")  # the same model
    assert not Path("out.csv.part").exists()


def test_bad_arguments(archive: Path, photos: List[str]) -> None:
    for arguments, message in (
        ([archive, "photos", "--engine", "openvino"], "is an archive; --engine is for bundles"),
        ([archive, "photos", "--device", "cuda:97"], "device is 'cuda:97', which does not exist"),
        (["nowhere.tar.gz", "photos"], "no model archive at 'nowhere.tar.gz'"),
    ):
        with pytest.raises(InputError, match=message):
            classify(*arguments, "-o", "out.csv")
    assert not list(Path().glob("out*"))
