import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.configs import experiment
from tests.conftest import Run, write_images

pytestmark = pytest.mark.slow

CALLBACK = """
import json

from allennlp.training import TrainerCallback


@TrainerCallback.register("report_rank")
class ReportRank(TrainerCallback):
    'Writes how many steps this process has made, and the sum of each weight at the end.'

    steps = 0

    def on_batch(self, *args, is_training, **kwargs):
        self.steps += is_training

    def on_end(self, trainer, is_primary, **kwargs):
        weights = [weight.detach().double().sum().item() for weight in trainer.model.parameters()]
        report = {"steps": self.steps, "weights": weights}
        with open(f"{self.serialization_dir}/rank_{int(not is_primary)}.json", "w") as file:
            json.dump(report, file)
"""


@dataclass
class DistributedRun:
    folder: Path
    data: Path

    def read(self, name: str) -> Dict[str, Any]:
        return json.loads((self.folder / name).read_text())


@pytest.fixture(scope="module")
def distributed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> DistributedRun:
    """
    A run of two processes, each on its share of the data, whose numbers of images are all odd.

    Started as `allencv`, in a folder with nothing but a config and a part of the user's: the new
    processes have to find AllenCV's parts and the user's by themselves.
    """
    data = tmp_path_factory.mktemp("data")
    write_images(data / "train", {"Cat": 9, "Dog": 8}, seed=0)
    write_images(data / "val", {"Cat": 4, "Dog": 3}, seed=1)
    write_images(data / "test", {"Cat": 4, "Dog": 3}, seed=2)
    # A cat among the dogs and a dog among the cats (each in the other's colour): no model gets all
    # of the 9 right, or all wrong.
    write_images(data / "test", {"Dog": 1, "Cat": 1}, suffix=".png", seed=3)
    config = experiment(
        data,
        test_data_path=str(data / "test"),
        evaluate_on_test=True,
        distributed={"cuda_devices": [-1, -1]},
        # In their order, the 17 images are 9 in 3 batches for one process, 8 in 2 for the other.
        data_loader__shuffle=False,
        trainer__num_epochs=2,
        trainer__callbacks=["report_rank"],
    )
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "callbacks.py").write_text(CALLBACK)
    (folder / "config.json").write_text(json.dumps(config))
    arguments = ["config.json", "-s", "run", "--include-package", "callbacks"]
    run("allencv", "train", *arguments, cwd=folder)
    return DistributedRun(folder / "run", data)


def test_all_processes_make_the_same_steps(distributed: DistributedRun) -> None:
    ranks: List[Dict[str, Any]] = [distributed.read(f"rank_{rank}.json") for rank in (0, 1)]
    assert [rank["steps"] for rank in ranks] == [4, 4]  # twice the 2 batches that both have
    assert ranks[0]["weights"] == ranks[1]["weights"]


def test_every_test_image_counts_once(
    distributed: DistributedRun, run: Run, tmp_path: Path
) -> None:
    run(
        *("allencv", "evaluate", distributed.folder / "model.tar.gz", distributed.data / "test"),
        *("--output-file", "metrics.json"),
        cwd=tmp_path,
    )
    alone = json.loads((tmp_path / "metrics.json").read_text())["accuracy"]
    metrics = distributed.read("metrics.json")
    assert metrics["test_accuracy"] == pytest.approx(alone, abs=1e-6)
    assert 0 < metrics["test_accuracy"] < 1
    # They are shares of all images, not of the 5 or the 4 that one process has.
    for accuracy, images in ((metrics["test_accuracy"], 9), (metrics["validation_accuracy"], 7)):
        assert accuracy * images == pytest.approx(round(accuracy * images), abs=1e-6)
