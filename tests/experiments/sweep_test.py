import math
import re
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.experiments.sweep import as_table, check_folds, summarize, with_fold, with_seed
from tests.conftest import write_images


def test_a_single_run_has_no_deviation() -> None:
    summary = summarize([{"metrics": {"best_validation_accuracy": 0.5, "epoch": 3}}])
    row = {"n": 1, "mean": 0.5, "std": None, "min": 0.5, "max": 0.5}
    assert summary == {"best_validation_accuracy": row}
    assert as_table(summary, "of 1 seeds").splitlines() == [
        "metric                        mean       std       min       max  n",
        "best_validation_accuracy    0.5000         -    0.5000    0.5000  1 of 1 seeds",
    ]


def test_what_is_no_measurement_of_the_model_is_not_summed_up() -> None:
    metrics = {
        **{"best_epoch": 2, "training_duration": "0:01", "training_loss": 1.5, "epoch": 1},
        **{"averaged_weights_used": True, "peak_worker_0_memory_MB": 3.5},
    }
    assert list(summarize([{"metrics": metrics}])) == ["training_loss"]
    metrics["test_accuracy"] = 0.5
    assert list(summarize([{"metrics": metrics}, {"error": "?"}])) == ["test_accuracy"]
    assert math.isclose(summarize([{"metrics": metrics}])["test_accuracy"]["mean"], 0.5)


def test_seeds_replace_those_of_the_config() -> None:
    config = with_seed({"random_seed": 5, "model": {}}, 3)
    assert config == {"random_seed": 3, "numpy_seed": 3, "pytorch_seed": 3, "model": {}}


def test_a_split_says_by_what_folds_are_made() -> None:
    split = {"part": "train", "fraction": 0.1, "by": "hash", "seed": 4, "group": "([a-z]+)"}
    reader = {"type": "image_folder", "split": split}
    config = with_fold({"dataset_reader": reader, "train_data_path": "pets"}, 1, 5)
    kept = {"by": "hash", "seed": 4, "group": "([a-z]+)", "fold": 1, "folds": 5}
    assert config["dataset_reader"]["split"] == {**kept, "part": "train"}
    assert config["validation_dataset_reader"]["split"] == {**kept, "part": "validation"}
    assert config["validation_data_path"] == "pets"


def test_calibration_and_test_data_are_left_out_of_folds() -> None:
    """They are other parts of the same folder, which the folds divide."""
    config = {
        "dataset_reader": {"type": "image_folder"},
        "train_data_path": "pets",
        "test_data_path": "pets",
        "calibration_data_path": "pets",
        "calibration_dataset_reader": {"type": "image_folder"},
        "calibration": {},
    }
    expected = {"dataset_reader", "train_data_path"}
    expected |= {"validation_dataset_reader", "validation_data_path"}
    assert set(with_fold(config, 0, 5)) == expected


def test_a_reader_that_does_not_divide_is_named() -> None:
    config = {"dataset_reader": "torchvision_dataset", "train_data_path": "pets"}
    with pytest.raises(ConfigurationError, match="'torchvision_dataset', which cannot divide"):
        with_fold(config, 0, 5)
    with pytest.raises(ConfigurationError, match="no train_data_path"):
        with_fold({"dataset_reader": "image_folder"}, 0, 5)


def test_a_class_without_an_image_in_a_fold_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_images(tmp_path, {"Cat": 4, "Dog": 4, "Yak": 2})
    config = {"dataset_reader": "image_folder", "train_data_path": str(tmp_path)}
    check_folds([with_fold(config, fold, 2) for fold in range(2)])
    assert "warning" not in capsys.readouterr().out
    check_folds([with_fold(config, fold, 3) for fold in range(3)])
    warning = r"warning: fold \d of 3 has no image of Yak"
    assert len(re.findall(warning, capsys.readouterr().out)) == 1
    (tmp_path / "Yak" / "000.jpg").unlink()
    with pytest.raises(ConfigurationError, match=r"fold \d of 2 has all images of Yak, and none"):
        check_folds([with_fold(config, fold, 2) for fold in range(2)])
