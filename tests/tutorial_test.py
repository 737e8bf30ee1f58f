"""The published tutorial: its command, its mistakes, and its classes in plain Python."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
import torch
import torchvision
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.training.optimizers import AdamOptimizer

from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import ImageFolderReader
from allencv.data.transforms import EvalTransform, RandomHorizontalFlip, RandomResizedCrop
from allencv.models import BasicImageClassifier
from allencv.modules.im2im_encoders import ResnetEncoder
from allencv.modules.im2vec_encoders import FlattenEncoder
from allencv.training import ImageTrainer
from tests.conftest import ROOT, write_images
from tests.forking.commands import forked_commands
from tests.recipes import SMALL_IMAGES

pytestmark = pytest.mark.slow

# As it is printed there.
COMMAND = r"""
TRAIN_PATH=$ALLENCV_DIR/data/PetImages/train \
VALIDATION_PATH=$ALLENCV_DIR/data/PetImages/val \
allennlp train $ALLENCV_DIR/training_config/image_classifier.jsonnet \
--include-package allencv.data.dataset_readers \
--include-package allencv.modules.im2im_encoders \
--include-package allencv.models.basic_classifier \
--include-package allencv.modules.im2vec_encoders \
-s path/to/serialization/dir
""".strip()


@pytest.fixture(scope="module")
def allencv_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tutorial calls `$ALLENCV_DIR`, with a few cats and dogs."""
    folder = tmp_path_factory.mktemp("allencv")
    (folder / "training_config").symlink_to(ROOT / "training_config")
    for seed, (split, count) in enumerate({"train": 4, "val": 2}.items()):
        images = folder / "data" / "PetImages" / split
        write_images(images, {"Cat": count, "Dog": count}, seed=seed)
    return folder


def run_command(
    command: str, allencv_dir: Path, cwd: Path, **env: str
) -> "subprocess.CompletedProcess[str]":
    path = f"{forked_commands()}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env={**os.environ, "PATH": path, "ALLENCV_DIR": str(allencv_dir), **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[Path]:
    """A file like the one that torchvision downloads, with its 1,000 classes."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    yield tmp_path / "resnet50.pth"
    shutil.rmtree(tmp_path)  # the file, the checkpoints and the archive are half a gigabyte


def test_the_command_trains_from_the_given_weights(
    allencv_dir: Path, weights: Path, tmp_path: Path
) -> None:
    overrides = {
        "model.im2im_encoder.weights": str(weights),
        "trainer.num_epochs": 1,
        **SMALL_IMAGES["image_classifier"],
    }
    result = run_command(f"{COMMAND} -o '{json.dumps(overrides)}'", allencv_dir, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    run = tmp_path / "path" / "to" / "serialization" / "dir"
    assert (run / "model.tar.gz").is_file()
    assert "validation_accuracy" in json.loads((run / "metrics.json").read_text())

    # Adam at 1e-5 moves each weight by at most that in the one step that 8 images are.
    trained = torch.load(run / "best.th")
    for name, before in torch.load(weights).items():
        if name.endswith(("weight", "bias")) and not name.startswith("fc."):
            after = trained[f"_im2im_encoder.{name}"]
            assert (after - before).abs().max() < 2e-5, name
            assert not after.equal(before), name


def test_the_tutorials_folder_that_is_not_there_is_answered_with_the_one_that_is(
    allencv_dir: Path, tmp_path: Path
) -> None:
    """Its text says `val` in one place and `valid` in another."""
    images = allencv_dir / "data" / "PetImages"
    result = run_command(COMMAND.replace("/val ", "/valid "), allencv_dir, tmp_path)
    assert result.returncode != 0
    reason = result.stderr.splitlines()[-1]
    assert f"'{images / 'valid'}'" in reason
    assert f"did you mean '{images / 'val'}'?" in reason


def test_without_network_the_weights_are_asked_for(allencv_dir: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    cut_off = {"TORCH_HOME": str(tmp_path / "torch"), "https_proxy": nowhere, "no_proxy": ""}
    result = run_command(COMMAND, allencv_dir, tmp_path, **cut_off)
    assert result.returncode != 0
    reason = result.stderr.splitlines()[-1]
    assert f"could not load resnet50-11ad3fa6.pth from {tmp_path}/torch/hub/checkpoints" in reason
    assert "set weights to a local file" in reason


def test_the_config_has_the_tutorials_model() -> None:
    variables = {"TRAIN_PATH": "train", "VALIDATION_PATH": "val"}
    config = Params.from_file(ROOT / "training_config" / "image_classifier.jsonnet", "", variables)
    assert config["dataset_reader"]["type"] == "image_classification_directory"
    assert config["model"].as_dict() == {
        "type": "basic_image_classifier",
        "im2im_encoder": {
            "type": "pretrained_resnet",
            "resnet_model": "resnet50",
            "requires_grad": True,
        },
        "im2vec_encoder": {
            "type": "flatten",
            "input_channels": 2048,
            "input_height": 1,
            "input_width": 1,
        },
    }


def test_the_parts_train_in_plain_python(allencv_dir: Path) -> None:
    """The same, without a config, a folder for the run, or a name from a registry."""
    reader = ImageFolderReader(transforms=[RandomResizedCrop(size=64), RandomHorizontalFlip()])
    train = ImageDataLoader(
        reader, allencv_dir / "data/PetImages/train", batch_size=4, shuffle=True, num_workers=1
    )
    validation = ImageDataLoader(
        ImageFolderReader(transforms=[EvalTransform(size=64)]), allencv_dir / "data/PetImages/val"
    )
    vocab = Vocabulary.from_instances(train.iter_instances())
    train.index_with(vocab)
    validation.index_with(vocab)

    im2im_encoder = ResnetEncoder("resnet50", weights=None)
    im2vec_encoder = FlattenEncoder(input_channels=2048, input_height=1, input_width=1)
    model = BasicImageClassifier(vocab, im2vec_encoder, im2im_encoder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = ImageTrainer(
        model,
        AdamOptimizer(list(model.named_parameters()), lr=1e-5),
        train,
        validation_data_loader=validation,
        num_epochs=1,
        cuda_device=-1,
    )
    metrics = trainer.train()

    assert model.state_dict()["_im2im_encoder.bn1.num_batches_tracked"] == 2
    for name, parameter in model.named_parameters():
        assert not parameter.equal(before[name]), name
    assert metrics["training_loss"] > 0
    assert metrics["validation_accuracy"] in (0, 0.25, 0.5, 0.75, 1)
