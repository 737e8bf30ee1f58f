"""Training on the kept features of a frozen encoder gives what training without them gives."""

import math
import shutil
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
import torch.distributed as dist
from allennlp.commands.train import TrainModel
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.common.feature_store import ROOT_VARIABLE, FeatureStore
from allencv.data.data_loaders import ImageDataLoader
from allencv.experiments.learning_rate_search import learning_rates_and_losses
from allencv.modules.im2im_encoders import Im2ImEncoder, SmallResnetEncoder
from allencv.training.evaluation import evaluate
from allencv.training.frozen_features import FrozenFeatures
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.models.multilabel_data import multilabel_experiment, write_tables
from tests.training.callbacks.interruption import metrics_of, train, train_interrupted


@Im2ImEncoder.register("rounded")
class Rounded(SmallResnetEncoder):
    """
    A frozen encoder whose output is 1 by 1 and has 9 binary digits, so that float16 holds all of
    it, and other batches do not change it.
    """

    images = 0
    """How many images all of them have seen."""

    def __init__(self, widths: List[int]) -> None:
        super().__init__(widths, zero_init_residual=False)
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Rounded.images += len(images)
        features = super().forward(images).mean((2, 3), keepdim=True)
        return (features.clamp(-1.9, 1.9) * 256).round() / 256


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "features"))
    return tmp_path / "features"


def frozen(data: Path, **overrides: Any) -> Dict[str, Any]:
    changed = {
        "model__im2im_encoder": {"type": "rounded", "widths": [4, 8]},
        "model__im2vec_encoder": {"type": "pooling", "input_channels": 8},
        "trainer__use_amp": False,  # archives compute in float32
    }
    return experiment(data, **{**changed, **overrides})


def with_features(config: Dict[str, Any], **values: Any) -> Dict[str, Any]:
    return {**config, "trainer": {**config["trainer"], "frozen_features": values}}


FIXED = [{"type": "eval", "size": 32}]
FEEDFORWARD = {
    "input_dim": 8,
    "num_layers": 1,
    "hidden_dims": 6,
    "activations": "relu",
    "dropout": 0.1,
}
ALL_ELSE = {
    "dataset_reader__transforms": FIXED,
    "model__im2vec_encoder": {
        "type": "feedforward",
        "im2vec_encoder": {"type": "pooling", "input_channels": 8},
        "feedforward": FEEDFORWARD,
    },
    "model__class_weights": {"Cat": 3.0},
    "model__metrics": {"f1": {"type": "f1_score", "average": "macro"}},
    "data_loader__class_weighting": "balanced",
    "data_loader__drop_last": True,
    "data_loader__batch_size": 5,
    "data_loader__num_workers": 0,
    "trainer__num_gradient_accumulation_steps": 2,
    "trainer__learning_rate_scheduler": {"type": "warmup_cosine", "warmup_epochs": 1},
    "trainer__callbacks": ["freeze", {"type": "checkpoint_averaging", "count": 2}],
    "trainer__checkpointer": {"keep_most_recent_by_count": 2},
}
"""What must work on features as on images. The vectors are trained, so feature maps are kept."""


def figures(folder: Path) -> Dict[str, Any]:
    return {
        key: value
        for key, value in metrics_of(folder).items()
        if key != "training_duration" and not key.endswith("_memory_MB")
    }


def test_weights_and_metrics_are_those_without_the_key_even_after_an_interruption(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many views as epochs, random transforms draw as without the key."""
    config = frozen(
        cats_and_dogs,
        trainer__callbacks=["power_cut"],
        trainer__moving_average={"type": "exponential", "decay": 0.9},
        trainer__checkpointer={"save_every_num_batches": 1},
    )
    expected = train(config, tmp_path / "without").state_dict()
    kept = with_features(config, views=3)
    recovered = train_interrupted(kept, tmp_path / "interrupted", (1, 3), monkeypatch)
    assert same_tensors(recovered.state_dict(), expected)
    assert same_tensors(train(kept, tmp_path / "straight").state_dict(), expected)
    for run in ("interrupted", "straight"):
        assert figures(tmp_path / run) == figures(tmp_path / "without")


def test_all_else_is_as_without_the_key(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = frozen(cats_and_dogs, **ALL_ELSE)
    expected = train(config, tmp_path / "without")
    model = train(with_features(config), tmp_path / "with")
    assert same_tensors(model.state_dict(), expected.state_dict())
    assert figures(tmp_path / "with") == figures(tmp_path / "without")


def quick(data: Path, **overrides: Any) -> Dict[str, Any]:
    """One epoch without pictures, which use the encoder."""
    callback = {"type": "write_predictions", "pictures": 0}
    overrides = {
        "dataset_reader__transforms": FIXED,
        "trainer__num_epochs": 1,
        "trainer__callbacks": [callback],
        **overrides,
    }
    return frozen(data, **overrides)


def test_the_encoder_sees_each_image_once_and_the_archive_holds_it(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = with_features(quick(cats_and_dogs, trainer__num_epochs=3))
    Rounded.images = 0
    train(config, tmp_path / "first")
    assert Rounded.images == 24 + 10 + 2  # and one of each split, for the shape
    Rounded.images = 0
    train(config, tmp_path / "second")
    assert Rounded.images == 2

    archive = load_archive(tmp_path / "second" / "model.tar.gz")
    loader = ImageDataLoader(archive.validation_dataset_reader, str(cats_and_dogs / "val"))
    loader.index_with(archive.model.vocab)
    metrics = metrics_of(tmp_path / "second")
    for name, value in evaluate(archive.model, loader).items():
        assert value == pytest.approx(metrics[f"best_validation_{name}"])
    assert Rounded.images == 12


def test_other_weights_of_the_encoder_are_other_features(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = with_features(quick(cats_and_dogs))
    train(config, tmp_path / "first")
    Rounded.images = 0
    train({**config, "pytorch_seed": 7}, tmp_path / "second")
    assert Rounded.images == 36


def test_several_labels_are_trained_on_features(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = multilabel_experiment(
        write_tables(cats_and_dogs, tmp_path), trainer__no_grad=["_im2im_encoder"]
    )
    expected = train(config, tmp_path / "without").state_dict()
    model = train(with_features(config, views=3), tmp_path / "with").state_dict()
    for name, value in model.items():
        assert torch.allclose(value, expected[name], atol=5e-3), name


def test_mixup_mixes_features(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = with_features(quick(cats_and_dogs, model__batch_transforms=["mixup"]))
    train(config, tmp_path)
    assert math.isfinite(metrics_of(tmp_path)["training_loss"])


@TrainerCallback.register("secretly_unfreeze")
class SecretlyUnfreeze(TrainerCallback):
    def on_epoch(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        trainer.model._im2im_encoder.conv1.weight.requires_grad_(True)


TRAINED = {"type": "small_resnet", "widths": [4, 8]}
REFUSED: Dict[str, Dict[str, Any]] = {
    "_im2im_encoder.conv1.weight is trained": {"model__im2im_encoder": TRAINED},
    "_im2im_encoder.bn1.weight is trained": {
        "model__im2im_encoder": TRAINED,
        "trainer__no_grad": ["_im2im_encoder.conv1", "_im2im_encoder.stages"],
    },
    "_im2im_encoder.conv1.weight is trained; ": {
        "trainer__callbacks": ["secretly_unfreeze"],
        "trainer__num_epochs": 2,
    },
    "trainer.callbacks has FreezeUnfreeze, which trains the encoder; ": {
        "model__im2im_encoder": TRAINED,
        "trainer__callbacks": [{"type": "freeze_unfreeze", "unfreeze_epoch": 1}],
        "trainer__num_epochs": 2,
    },
    "trainer.callbacks has ProgressiveResizing, which resizes the images": {
        "trainer__callbacks": [
            {"type": "progressive_resizing", "initial_size": 32, "final_size": 64}
        ],
        "trainer__num_epochs": 2,
    },
    "model.batch_transforms has a RandomChoice, which needs the images": {
        "model__batch_transforms": [{"type": "random_choice", "transforms": ["mixup", "cutmix"]}]
    },
    "model.test_time_augmentation needs the images": {
        "model__test_time_augmentation": ["horizontal_flip"]
    },
    "data_loader.type makes a MultiProcessDataLoader; expected 'image'": {
        "data_loader": {"type": "multiprocess", "batch_size": 4}
    },
    "frozen_features.max_gb is 1e-07, but 24 features of the shape .8,. take 3.8e-07 GB": {
        "trainer__frozen_features": {"max_gb": 1e-7}
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_needs_the_images_is_refused(
    cats_and_dogs: Path, tmp_path: Path, message: str
) -> None:
    overrides = {"trainer__frozen_features": {}, **REFUSED[message]}
    with pytest.raises(ConfigurationError, match=message):
        train(quick(cats_and_dogs, **overrides), tmp_path / "run")


def test_distillation_is_refused(cats_and_dogs: Path, trained_run: Path, tmp_path: Path) -> None:
    teacher = {"teacher": str(trained_run / "model.tar.gz")}
    config = with_features(quick(cats_and_dogs, model__distillation=teacher))
    with pytest.raises(ConfigurationError, match=r"^model.distillation needs the images, but"):
        train(config, tmp_path / "run")


def test_a_learning_rate_is_searched_on_features(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = with_features(quick(cats_and_dogs))
    Rounded.images = 0
    rates, _ = learning_rates_and_losses(Params(config), str(tmp_path), num_batches=30)
    assert len(rates) == 31  # of 4 images
    assert Rounded.images == 24 + 10 + 2


def test_several_processes_are_refused(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = with_features(quick(cats_and_dogs))
    config["trainer"] |= {"distributed": True, "world_size": 2}  # as AllenNLP adds them
    dist.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        with pytest.raises(ConfigurationError, match="training has several processes; expected o"):
            TrainModel.from_params(
                params=Params(config), serialization_dir=str(tmp_path), local_rank=0
            )
    finally:
        dist.destroy_process_group()


def test_the_store_may_be_removed_while_features_are_computed(
    cats_and_dogs: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = frozen(cats_and_dogs)
    expected = train(config, tmp_path / "without").state_dict()
    add, removed = FeatureStore.add, []

    def add_and_lose(store: FeatureStore, *args: Any) -> None:
        add(store, *args)
        if not removed:
            removed.append(shutil.rmtree(root))

    monkeypatch.setattr(FeatureStore, "add", add_and_lose)
    model = train(with_features(config, views=3), tmp_path / "with")
    assert removed
    assert same_tensors(model.state_dict(), expected)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="frozen_features.views is 0; expected at least 1"):
        FrozenFeatures(views=0)
    with pytest.raises(ConfigurationError, match="max_gb is -1; expected a number above 0"):
        FrozenFeatures(max_gb=-1)
    with pytest.raises(ConfigurationError, match="frozen_features.folder is '~no.such.user', but"):
        FrozenFeatures(folder="~no.such.user")
