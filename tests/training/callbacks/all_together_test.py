"""The callbacks of AllenCV and of AllenNLP in one training, of two processes."""

import json
from pathlib import Path
from typing import Any, Dict

import pytest
import torch

from allencv.training.callbacks.checkpoint_averaging import average_states
from tests.configs import experiment
from tests.conftest import Run
from tests.training.callbacks.interruption import metrics_of, weights

OWN = """
import functools
import json

import torch.multiprocessing
from allennlp.training import TrainerCallback

# Forked processes need not import everything anew; distributed_test.py has new ones.
torch.multiprocessing.spawn = functools.partial(
    torch.multiprocessing.start_processes, start_method="fork"
)


@TrainerCallback.register("keep_records")
class KeepRecords(TrainerCallback):
    def on_start(self, trainer, is_primary=True, **kwargs):
        self.sizes = []
        self.rank = int(not is_primary)
        trainer.model._im2im_encoder.register_forward_hook(
            lambda module, images, output: self.sizes.append(images[0].shape[-1])
            if module.training
            else None
        )

    def on_end(self, trainer, **kwargs):
        state = trainer.model.state_dict()
        sums = {name: value.double().sum().item() for name, value in state.items()}
        records = {"sizes": self.sizes, "sums": sums, "epoch": trainer.model.epoch}
        with open(f"{self.serialization_dir}/rank_{self.rank}.json", "w") as file:
            json.dump(records, file)
"""


@pytest.fixture(scope="module")
def folder(cats_and_dogs: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    config = experiment(
        cats_and_dogs,
        distributed={"cuda_devices": [-1, -1]},
        trainer__num_epochs=4,
        trainer__patience=4,
        trainer__num_gradient_accumulation_steps=2,
        trainer__ddp_accelerator={"type": "torch", "find_unused_parameters": True},
        trainer__checkpointer={"keep_most_recent_by_count": 4},
        trainer__callbacks=[
            "track_epoch_callback",
            {"type": "tensorboard", "summary_interval": 1},
            "gradual_unfreezing",
            {
                **{"type": "progressive_resizing", "initial_size": 16, "final_size": 32},
                "multiple_of": 8,
            },
            {"type": "checkpoint_averaging", "count": 2},
            "keep_records",
        ],
    )
    (folder / "own.py").write_text(OWN)
    (folder / "config.json").write_text(json.dumps(config))
    run("allencv", "train", "config.json", "-s", "run", "--include-package", "own", cwd=folder)
    return folder / "run"


def rank(folder: Path, number: int) -> Dict[str, Any]:
    return json.loads((folder / f"rank_{number}.json").read_text())


def test_one_stage_more_is_trained_in_each_epoch(folder: Path) -> None:
    parts = ["_im2im_encoder.stages.1", "_im2im_encoder.stages.0", "_im2im_encoder.conv1"]
    for epoch in range(1, 4):
        before, after = weights(folder, epoch), weights(folder, epoch + 1)
        moved = {name for name in after if not before[name].equal(after[name])}
        for number, part in enumerate(parts, start=1):
            assert any(name.startswith(part) for name in moved) == (epoch >= number)


def test_images_grow(folder: Path) -> None:
    # 12 images are 3 batches; then once more to estimate the statistics of the averaged weights.
    expected = [16] * 3 + [16] * 3 + [24] * 3 + [32] * 3 + [32] * 3
    assert rank(folder, 0)["sizes"] == rank(folder, 1)["sizes"] == expected


def test_both_processes_end_with_the_average(folder: Path) -> None:
    assert rank(folder, 0)["sums"] == rank(folder, 1)["sums"]
    metrics = metrics_of(folder)
    assert metrics["averaged_epochs"] == [2, 3]
    is_used = metrics["averaged_validation_accuracy"] >= metrics["best_validation_accuracy"]
    assert metrics["averaged_weights_used"] == is_used
    best = torch.load(folder / "best.th")
    expected = average_states([weights(folder, 3), weights(folder, 4)])
    name = "_classification_layer.weight"
    assert best[name].equal(expected[name]) == is_used


def test_allennlps_callbacks_have_run(folder: Path) -> None:
    assert rank(folder, 0)["epoch"] == 4  # the epochs that were completed
    assert list(folder.glob("log/train/events.out.tfevents.*"))
