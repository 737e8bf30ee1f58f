from pathlib import Path
from typing import Any

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Archive
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.predictors import ImageClassifierPredictor
from allencv.reporting.explain import explain
from allencv.runtime import ImageError
from tests.configs import experiment


@pytest.fixture(scope="module")
def archive(trained_run: Path) -> Archive:
    return load_archive(trained_run)


def test_the_most_probable_label(archive: Archive, cats_and_dogs: Path) -> None:
    image = str(next((cats_and_dogs / "test" / "Cat").iterdir()))
    found = explain(archive, image)
    answer = ImageClassifierPredictor.from_archive(archive).predict(image)
    assert found.label == answer["label"]
    assert found.probability == pytest.approx(answer["top_k"][0]["probability"], abs=1e-6)
    other = explain(archive, image, answer["top_k"][1]["label"])
    assert other.label == answer["top_k"][1]["label"]
    assert other.probability == pytest.approx(1 - found.probability, abs=1e-6)
    # Two pictures of 320 pixels side by side, and a legend below.
    assert found.picture.size == other.picture.size == (2 * 320 + 36, 320 + 76)
    shown = archive.validation_dataset_reader.text_to_instance(image)["image"].as_tensor({})
    left = found.picture.crop((12, 12, 332, 332)).resize((32, 32), Image.Resampling.BOX)
    difference = np.asarray(left, dtype=float) - shown.permute(1, 2, 0).numpy()
    assert np.abs(difference).mean() < 8
    legend = np.asarray(found.picture.crop((0, 340, found.picture.width, found.picture.height)))
    assert (legend < 100).any()


def test_bad_input(archive: Archive, cats_and_dogs: Path, tmp_path: Path) -> None:
    image = str(next((cats_and_dogs / "test" / "Cat").iterdir()))
    with pytest.raises(ConfigurationError, match="--label is 'Cta'; expected one of Cat, Dog"):
        explain(archive, image, "Cta")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="empty.jpg"):
        explain(archive, str(tmp_path / "empty.jpg"))


def test_a_model_without_a_feature_image(cats_and_dogs: Path, tmp_path: Path) -> None:
    model: Any = {
        "type": "basic_image_classifier",
        "im2vec_encoder": {
            "type": "flatten",
            "input_channels": 3,
            "input_height": 32,
            "input_width": 32,
        },
    }
    config = experiment(cats_and_dogs, trainer__num_epochs=1)
    config["model"] = model
    train_model(Params(config), str(tmp_path / "run"))
    image = str(next((cats_and_dogs / "test" / "Cat").iterdir()))
    with pytest.raises(ConfigurationError, match="no feature map of more than one pixel"):
        explain(load_archive(tmp_path / "run"), image)
