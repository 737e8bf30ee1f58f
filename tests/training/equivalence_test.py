"""Training on two ranks gives the weights of one process with twice the batch size."""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from allennlp.common import Params
from allennlp.common.params import with_overrides
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.training import Trainer
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.data.transforms.batch_transforms import BatchTransform, as_shares
from allencv.training.distributed import ImageDdpAccelerator
from tests.ranks import on_ranks

BATCH = 8
STEPS_PER_EPOCH, EPOCHS = 5, 4  # 20 steps
CONFIG: Dict[str, Any] = {
    "reader": {"type": "image_folder"},
    "loader": {"type": "image", "shuffle": True, "seed": 1, "num_workers": 0},
    "model": {
        "type": "basic_image_classifier",
        "im2im_encoder": {
            "type": "feedforward",
            "input_channels": 3,
            "num_layers": 2,
            "hidden_channels": [6, 8],
            "activations": "relu",
            "strides": 2,
            "batch_norm": False,
        },
        "im2vec_encoder": {"type": "pooling", "input_channels": 8},
    },
    "trainer": {
        "type": "image",
        "num_epochs": EPOCHS,
        "use_amp": False,
        "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9},
    },
}
CASES: Dict[str, Dict[str, Any]] = {
    "plain": {},
    "class weights": {"model.class_weights": {"a": 0.1, "c": 7.0}},
    "accumulation": {"trainer.num_gradient_accumulation_steps": 2},
    "moving average": {"trainer.moving_average": {"type": "exponential", "decay": 0.9}},
    "penalty": {"model.regularizer": {"regexes": [["weight", {"type": "l2", "alpha": 0.01}]]}},
    "clipped": {"trainer.grad_norm": 0.5},
    "schedule": {"trainer.learning_rate_scheduler": {"type": "warmup_cosine", "warmup_epochs": 1}},
    "soft labels": {
        "model.batch_transforms": ["mixed_in_halves"],
        "model.class_weights": {"a": 0.1, "c": 7.0},
    },
    "batch norm of all ranks": {
        "model.im2im_encoder.batch_norm": True,
        "trainer.moving_average": {"type": "exponential", "decay": 0.9},
        "ddp_accelerator": {"sync_batch_norm": True},
    },
    "static graph": {"ddp_accelerator": {"static_graph": True}},
    "all": {
        "model.class_weights": {"a": 0.1, "c": 7.0},
        "model.loss": {"type": "focal"},
        "trainer.num_gradient_accumulation_steps": 2,
        "trainer.moving_average": {"type": "exponential", "decay": 0.9},
        "trainer.optimizer": {"type": "adamw", "lr": 0.003},
    },
}


@BatchTransform.register("mixed_in_halves")
class MixedInHalves(BatchTransform):
    """
    Mixup as one process would have to do it to get the images that two ranks get: each rank mixes
    its own. The weight is always the same; the ranks' own mixup also draws it separately.
    """

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        halves = 1 if dist.get_world_size() == 2 else 2
        shares = as_shares(labels, num_classes)
        mixed = [
            torch.cat([0.7 * half + 0.3 * half.roll(1, 0) for half in each.tensor_split(halves)])
            for each in (images, shares)
        ]
        return mixed[0], mixed[1]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    37 images in five batches of 8, the last of which has 5. Most are of the class "a", so that a
    rank's batch may have no image of another.
    """
    root, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(37):
        label = "b" if number % 5 == 0 else "c" if number % 7 == 0 else "a"
        pixels = noise.integers(0, 200, (8, 8, 3), dtype=np.uint8)
        pixels[:, :, "abc".index(label)] += 20
        (root / label).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / label / f"{number:02d}.png")
    return root


def trained(
    images: Path, overrides: Dict[str, Any], batch_size: int, folder: Path, device: str = "cpu"
) -> Dict[str, Any]:
    """The weights, and their moving averages if there are any, after 20 steps on each rank."""
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if ranks > 1 else 0
    overrides = dict(overrides)
    of_accelerator = overrides.pop("ddp_accelerator", {})
    config = with_overrides(deepcopy(CONFIG), overrides)
    assert config.keys() == CONFIG.keys()  # nothing else is read
    loader = DataLoader.from_params(
        Params({**config["loader"], "batch_size": batch_size}),
        reader=DatasetReader.from_params(Params(config["reader"])),
        data_path=str(images),
    )
    vocab = Vocabulary.from_instances(loader.iter_instances())
    loader.index_with(vocab)
    torch.manual_seed(0)
    model = Model.from_params(Params(config["model"]), vocab=vocab)
    number = rank if device == "cuda" else -1
    if number >= 0:
        model.cuda(number)
    places: Dict[str, Any] = {"local_rank": rank, "world_size": ranks, "distributed": True}
    if ranks > 1:
        wrapper = {"local_rank": rank, "world_size": ranks, "cuda_device": number}
        places["ddp_accelerator"] = ImageDdpAccelerator(**of_accelerator, **wrapper)
    trainer = Trainer.from_params(
        Params({**config["trainer"], "cuda_device": number}),
        model=model,
        serialization_dir=str(folder / str(ranks)),
        data_loader=loader,
        **(places if ranks > 1 else {}),
    )
    metrics = trainer.train()
    return {
        "steps": trainer._total_batches_completed,
        "loss": metrics["training_loss"],
        "accuracy": metrics["training_accuracy"],
        "rate": trainer.optimizer.param_groups[0]["lr"],
        "others": {key: metrics[f"training_{key}"] for key in config["model"].get("metrics", {})},
        "weights": {name: each.cpu() for name, each in model.state_dict().items()},
    }


def assert_same(found: Dict[str, Any], expected: Dict[str, Any]) -> None:
    assert found["steps"] == expected["steps"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["accuracy"] == expected["accuracy"]
    assert found["others"] == expected["others"]
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-3, atol=1e-5)


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            torch.cuda.device_count() < 2, reason="NCCL needs two GPUs for two ranks"
        ),
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_as_one_with_twice_the_batch(
    images: Path, case: str, device: str, tmp_path: Path
) -> None:
    backend = "nccl" if device == "cuda" else "gloo"
    (alone,) = on_ranks(1, trained, images, CASES[case], BATCH, tmp_path, device, backend=backend)
    arguments = (images, CASES[case], BATCH // 2, tmp_path, device)
    for found in on_ranks(2, trained, *arguments, backend=backend):
        assert_same(found, alone)


@pytest.mark.parametrize("case", ["plain", "class weights"])
def test_three_ranks_train_as_one_with_three_times_the_batch(
    images: Path, case: str, tmp_path: Path
) -> None:
    (alone,) = on_ranks(1, trained, images, CASES[case], 3 * 5, tmp_path)
    for found in on_ranks(3, trained, images, CASES[case], 5, tmp_path):
        assert_same(found, alone)


def test_each_rank_normalises_its_own_images_without_sync_batch_norm(
    images: Path, tmp_path: Path
) -> None:
    case = {"model.im2im_encoder.batch_norm": True}
    (alone,) = on_ranks(1, trained, images, case, BATCH, tmp_path)
    first, second = on_ranks(2, trained, images, case, BATCH // 2, tmp_path)
    torch.testing.assert_close(first["weights"], second["weights"], rtol=0, atol=0)
    with pytest.raises(AssertionError):
        assert_same(first, alone)


def test_what_ranks_refuse(images: Path, tmp_path: Path) -> None:
    case = {
        "ddp_accelerator": {"static_graph": True},
        "trainer.num_gradient_accumulation_steps": 2,
    }
    message = "ddp_accelerator.static_graph is true, but trainer.num_gradient_accumulation_steps is"
    with pytest.raises(AssertionError, match=f"ConfigurationError: distributed.{message}"):
        on_ranks(2, trained, images, case, 4, tmp_path)
    for name in ("a/01.png", "b/00.png"):
        (tmp_path / "few" / name).parent.mkdir(parents=True)
        shutil.copy(images / name, tmp_path / "few" / name)
    message = "few has 2 images, but distributed training has 3 ranks; expected as many images"
    with pytest.raises(AssertionError, match=f"ConfigurationError: .*{message}"):
        on_ranks(3, trained, tmp_path / "few", {}, 4, tmp_path)


def test_a_run_is_resumed_by_another_number_of_processes(images: Path, tmp_path: Path) -> None:
    """If a step has as many images as before: after an epoch, and in the middle of one."""
    every_step = {"save_every_num_batches": 1, "keep_most_recent_by_count": 99}
    case = {"trainer.checkpointer": every_step}
    straight, _ = on_ranks(2, trained, images, case, 6, tmp_path)
    accumulated = {**case, "trainer.num_gradient_accumulation_steps": 2}
    for point in ("e2_b0", "e1_b2"):
        for number, (ranks, overrides, batch_size) in enumerate(
            [(1, case, 12), (3, case, 4), (1, accumulated, 6)]
        ):
            folder = tmp_path / f"{point} {number}"
            interrupted_at(point, tmp_path / "2", folder / str(ranks))
            for found in on_ranks(ranks, trained, images, overrides, batch_size, folder):
                assert_same(found, straight)
    folder = tmp_path / "refused"
    interrupted_at("e2_b0", tmp_path / "2", folder / "1")
    message = "trained with 2 processes and 12 images per step, and would resume with 1 process and"
    with pytest.raises(AssertionError, match=f"ConfigurationError: the run was {message} 6; expe"):
        on_ranks(1, trained, images, case, 6, folder)


def test_a_schedule_ends_with_training_on_another_number_of_processes(
    images: Path, tmp_path: Path
) -> None:
    """19 images are 8, 8 and 3 for one process, and 8 and 11 for two."""
    case = {**CASES["schedule"], "reader.max_instances": 19, "model.num_labels": 3}
    case["trainer.checkpointer"] = {"keep_most_recent_by_count": 99}
    (alone,) = on_ranks(1, trained, images, case, 8, tmp_path)
    straight, _ = on_ranks(2, trained, images, case, 4, tmp_path)
    assert (alone["steps"], straight["steps"]) == (3 * EPOCHS, 2 * EPOCHS)
    interrupted_at("e2_b0", tmp_path / "1", tmp_path / "resumed" / "2")
    for found in on_ranks(2, trained, images, case, 4, tmp_path / "resumed"):
        assert found["steps"] == 2 * 3 + 2 * 2
        assert found["rate"] == straight["rate"] > 0


def interrupted_at(point: str, run: Path, folder: Path) -> None:
    """Make the folder of a run with a single checkpoint."""
    folder.mkdir(parents=True)
    for state in ("model_state", "training_state"):
        shutil.copy(run / f"{state}_{point}.th", folder)
