import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from allennlp.commands import train as train_command
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import ImageFolderReader
from allencv.data.transforms import ImageTransform
from allencv.models.pixel_normalization import PixelNormalization
from allencv.modules.im2im_encoders import ConvGroupsEncoder, WhiteningEncoder
from allencv.training import evaluate
from allencv.training.calibrator import Calibrator
from allencv.training.train_model import calibrator_of, check_one_machine
from tests.configs import experiment
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment, write_tables
from tests.ranks import on_ranks


def test_evaluate_on_test_writes_the_metrics_of_evaluate(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = experiment(
        cats_and_dogs,
        test_data_path=str(cats_and_dogs / "test"),
        evaluate_on_test=True,
        validation_data_loader={"type": "image", "batch_size": 3},
    )
    model = train_model(Params(config), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    reader = load_archive(tmp_path / "model.tar.gz").validation_dataset_reader
    loader = ImageDataLoader(reader, cats_and_dogs / "test", batch_size=8)
    loader.index_with(model.vocab)
    for name, value in evaluate(model, loader).items():
        assert metrics[f"test_{name}"] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_training_lacks_is_explained_at_once(tmp_path: Path, split: str) -> None:
    for name in ("train", "val"):
        write_images(tmp_path / name, {"Cat": 2, "Dog": 2})
    other = write_images(tmp_path / "other", {"Cat": 2, "Bird": 2})
    config = experiment(tmp_path, **{f"{split}_data_path": str(other)})
    with pytest.raises(ConfigurationError) as error:
        train_model(Params(config), tmp_path / "run")
    assert f"{split}_data_path ({other}) has 1 label that train_data_path" in str(error.value)
    assert "Bird; training knows Cat, Dog" in str(error.value)


def test_the_key_of_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"Cat": 2, "Dog": 2})
    with pytest.raises(
        ConfigurationError, match=r"'.*/val' \(validation_data_path\) does not exist"
    ):
        train_model(Params(experiment(tmp_path)), tmp_path / "run")


def test_a_label_without_validation_images_is_a_warning(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"Cat": 2, "Dog": 2, "Bird": 2})
    write_images(tmp_path / "val", {"Cat": 2, "Dog": 2})
    train_model(Params(experiment(tmp_path, trainer__num_epochs=1)), tmp_path / "run")
    log = (tmp_path / "run" / "out.log").read_text()
    assert "train_data_path has 1 label without an image in validation_data_path" in log


def test_a_label_outside_of_the_given_vocabulary_is_explained_at_once(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"Cat": 2, "Dog": 2})
    write_images(tmp_path / "val", {"Cat": 2, "Bird": 2})
    config = experiment(tmp_path, datasets_for_vocab_creation=["train"])
    with pytest.raises(ConfigurationError, match=r"label 'Bird' of .*/val/Bird/000.jpg is not in"):
        train_model(Params(config), tmp_path / "run")


def test_one_class_is_refused(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_images(tmp_path / name, {"Cat": 2})
    with pytest.raises(ConfigurationError, match=r"two classes or more.*\(Cat\)"):
        train_model(Params(experiment(tmp_path)), tmp_path / "run")


def test_class_weights_are_computed_from_the_training_data_and_kept(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"Cat": 6, "Dog": 2})
    write_images(tmp_path / "val", {"Cat": 2, "Dog": 2})
    config = experiment(tmp_path, model__class_weights={"type": "balanced"}, trainer__num_epochs=1)
    model = train_model(Params(config), tmp_path / "run")
    expected = {"Cat": 8 / (2 * 6), "Dog": 8 / (2 * 2)}
    for kept in (model, load_archive(tmp_path / "run" / "model.tar.gz").model):
        labels = kept.vocab.get_token_to_index_vocabulary("labels")
        for label, weight in expected.items():
            assert kept._class_weights[labels[label]].item() == pytest.approx(weight)


def test_thresholds_are_tuned_by_the_image_trainer_on_validation_data(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    folder = write_tables(cats_and_dogs, tmp_path)
    config = multilabel_experiment(folder, model__thresholds="tune", trainer__num_epochs=1)
    other = {key: config["trainer"][key] for key in ("num_epochs", "cuda_device", "optimizer")}
    for changed, message in (
        ({"validation_data_path": None}, "'tune', but the config has no validation_data_path"),
        ({"trainer": other}, "trainer.type makes a GradientDescentTrainer; expected 'image'"),
    ):
        params = Params(copy.deepcopy({**config, **changed}))
        with pytest.raises(ConfigurationError, match=message):
            train_model(params, tmp_path / "run", force=True)


def test_a_loss_of_views_needs_them_in_its_batches(cats_and_dogs: Path, tmp_path: Path) -> None:
    def config(**overrides: Any) -> Params:
        loader = {"repeats": 2, "drop_last": True, "batch_size": 4, **overrides}
        overrides = {f"data_loader__{key}": value for key, value in loader.items()}
        overrides |= {"model__loss": {"type": "jsd", "num_views": 2}, "trainer__num_epochs": 1}
        return Params(experiment(cats_and_dogs, **overrides))

    assert train_model(config(), tmp_path / "fitting") is not None
    for key, value in {"repeats": 1, "drop_last": False, "batch_size": 5}.items():
        message = f"data_loader.{key} is {value}, but model.loss.num_views is 2; expected"
        with pytest.raises(ConfigurationError, match=message):
            train_model(config(**{key: value}), tmp_path / key)


def test_an_unknown_key_is_refused(cats_and_dogs: Path, tmp_path: Path) -> None:
    for key in ("model.dropuot", "trainer.num_epoch", "data_loader.batchsize"):
        config = experiment(cats_and_dogs, **{key.replace(".", "__"): 1})
        with pytest.raises(ConfigurationError, match=key.split(".")[1]):
            train_model(Params(config), tmp_path / key)


def test_the_whole_config_is_checked_before_data_is_read(tmp_path: Path) -> None:
    """As `allennlp train` does, whose command knows no check."""
    schedule = {"type": "step", "step_size": 0}
    config = experiment(tmp_path / "nowhere", trainer__learning_rate_scheduler=schedule)
    with pytest.raises(ConfigurationError) as refused:
        train_model(Params(config), tmp_path / "run")
    message = "trainer.learning_rate_scheduler.step_size is 0; expected 1 or more"
    assert str(refused.value) == message


def test_processes_of_allennlp_import_allencv_first() -> None:
    """They find the function by its module, which imports AllenNLP after AllenCV."""
    assert train_command._train_worker.__module__ == "allencv.training.train_model"


def all_agree_on(local_ranks: "list[int]") -> None:
    check_one_machine(local_ranks[dist.get_rank()])


def test_allennlp_cannot_train_on_several_machines() -> None:
    on_ranks(2, all_agree_on, [0, 1])
    message = "num_nodes is above 1, which 'allennlp train' cannot do: .*; expected 'allencv train'"
    with pytest.raises(AssertionError, match=message) as error:
        on_ranks(2, all_agree_on, [0, 0])
    assert str(error.value).count("ConfigurationError: ") == 2  # no rank waits for another


# What a model computes from the first images.

PYTORCH_SEED = 133
"""AllenNLP's default, which is the loader's."""
WHITENING = {
    "type": "whitening",
    "num_images": 6,
    "encoder": {"type": "conv_groups", "widths": [8, 16], "input_channels": 24},
}


def test_filters_are_computed_from_the_first_batches_and_kept(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(cats_and_dogs, trainer__num_epochs=2, model__im2im_encoder=WHITENING)
    model = train_model(Params(copy.deepcopy(config)), tmp_path / "run")

    reader = ImageFolderReader(
        transforms=[
            ImageTransform.from_params(Params(dict(each)))
            for each in config["dataset_reader"]["transforms"]
        ]
    )
    loader = ImageDataLoader(reader, cats_and_dogs / "train", 4, True, seed=PYTORCH_SEED)
    loader.index_with(model.vocab)
    images = [batch["image"] for batch in itertools.islice(loader, 2)]
    expected = WhiteningEncoder(ConvGroupsEncoder([8], input_channels=24))
    expected.see_training_images([PixelNormalization()(each) for each in images])
    assert torch.equal(model._im2im_encoder.filters, expected.filters)

    # Nothing else reads training images: the archive holds the filters.
    monkeypatch.setattr(ImageDataLoader, "__iter__", None)
    archived = load_archive(tmp_path / "run" / "model.tar.gz").model
    assert torch.equal(archived._im2im_encoder.filters, expected.filters)
    assert archived.num_training_images == 0


def test_a_moving_average_begins_with_what_was_computed(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    without_warm_up = {"type": "exponential", "numerator": 10}
    biases = []
    for average in (None, without_warm_up):
        config = experiment(
            cats_and_dogs,
            model__im2im_encoder=WHITENING,
            trainer__num_epochs=1,
            trainer__optimizer={"type": "sgd", "lr": 0.0},
            trainer__moving_average=average,
        )
        model = train_model(Params(config), tmp_path / str(len(biases)))
        biases.append(model._im2im_encoder.bias)
    torch.testing.assert_close(*biases)


def test_the_first_epoch_is_the_same_after_images_were_shown(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    shown: list[list[str]] = []

    @TrainerCallback.register("note_images", exist_ok=True)
    class NoteImages(TrainerCallback):
        def on_batch(self, trainer: Any, batch_inputs: Any, *args: Any, **kwargs: Any) -> None:
            if kwargs["is_training"]:
                shown[-1] += [each["image"] for each in batch_inputs[0]["metadata"]]

    plain = WHITENING["encoder"] | {"input_channels": 3}
    for number, encoder in enumerate((WHITENING, plain)):
        shown.append([])
        config = experiment(
            cats_and_dogs,
            trainer__num_epochs=1,
            trainer__callbacks=["note_images"],
            model__im2im_encoder=encoder,
        )
        train_model(Params(config), tmp_path / str(number))
    assert shown[0] == shown[1]
    assert len(shown[0]) == len(set(shown[0])) > 6


def test_weights_of_a_trained_model_are_not_computed_again(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = experiment(cats_and_dogs, trainer__num_epochs=1, model__im2im_encoder=WHITENING)
    trained = train_model(Params(copy.deepcopy(config)), tmp_path / "first")
    config["pytorch_seed"] = 5
    config["model"] = {"type": "from_archive", "archive_file": str(tmp_path / "first")}
    again = train_model(Params(config), tmp_path / "second")
    assert torch.equal(again._im2im_encoder.filters, trained._im2im_encoder.filters)


def test_loaders_that_cannot_begin_again_are_refused(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(
        cats_and_dogs,
        model__im2im_encoder=WHITENING,
        data_loader={"type": "simple", "batch_size": 4},
        trainer__type="gradient_descent",
    )
    with pytest.raises(
        ConfigurationError, match="from 6 training images, but .* a SimpleDataLoader; expected"
    ):
        train_model(Params(config), tmp_path)


def test_calibration_needs_a_package_that_calibrates(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `allennlp train` with other packages than `allencv.plugin`."""
    monkeypatch.setattr(Calibrator, "list_available", lambda: [])
    assert calibrator_of(None, None) is None
    with pytest.raises(ConfigurationError, match="'pets', but no package .*allencv.plugin"):
        calibrator_of("pets", None)
