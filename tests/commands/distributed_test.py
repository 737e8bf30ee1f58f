"""
Two processes train one model: started by `allencv train`, by `torchrun`, and on two machines, which
are simulated by two commands that share no folder.
"""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.common.util import find_open_port

from tests.configs import experiment
from tests.conftest import Run, same_tensors, write_images

pytestmark = pytest.mark.slow

CALLBACK = """
import json
import os
import signal
from pathlib import Path

import torch.distributed as dist
from allennlp.training import TrainerCallback


@TrainerCallback.register("report_rank")
class ReportRank(TrainerCallback):
    'Writes what this process has trained on. With KILLED set, it kills itself once.'

    def on_start(self, trainer, **kwargs):
        self.epochs = [[]]

    def on_batch(self, trainer, batches, *args, is_training, **kwargs):
        killed = os.environ.get("KILLED")
        if killed and dist.get_rank() == 1 and trainer._epochs_completed == 1:
            if not Path(killed).exists():
                Path(killed).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if is_training:
            names = [each["image"] for batch in batches for each in batch["metadata"]]
            self.epochs[-1].append([name.split("/", 1)[-1] for name in names])

    def on_epoch(self, trainer, **kwargs):
        self.epochs.append([])

    def on_end(self, trainer, **kwargs):
        weights = [weight.detach().double().sum().item() for weight in trainer.model.parameters()]
        report = {"epochs": self.epochs[:-1], "weights": weights}
        with open(f"{self.serialization_dir}/rank_{dist.get_rank()}.json", "w") as file:
            json.dump(report, file)
"""
TORCHRUN = ["python", "-m", "torch.distributed.run", "--nproc-per-node"]


@dataclass
class Experiment:
    folder: Path
    data: Path

    def command(self, launcher: List[str], config: str, run: str) -> List[str]:
        """The command that trains, without its `allencv`."""
        arguments = ["train", config, "-s", run, "--include-package", "callbacks"]
        return [*launcher, *arguments]

    def read(self, name: str) -> Dict[str, Any]:
        return json.loads((self.folder / name).read_text())


@pytest.fixture(scope="module")
def trained(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """
    A run of two processes, whose images cannot be divided evenly, and whose second class is on one
    of them only in some batches.

    Started as `allencv`, in a folder with nothing but a config and a part of the user's: the new
    processes have to find AllenCV's parts and the user's by themselves.
    """
    data = tmp_path_factory.mktemp("data")
    write_images(data / "train", {"Cat": 19, "Dog": 2}, seed=0)
    write_images(data / "val", {"Cat": 4, "Dog": 3}, seed=1)
    write_images(data / "test", {"Cat": 4, "Dog": 3}, seed=2)
    # A cat among the dogs and a dog among the cats (each in the other's colour): no model gets all
    # of the 9 right, or all wrong.
    write_images(data / "test", {"Dog": 1, "Cat": 1}, suffix=".png", seed=3)
    config = experiment(
        data,
        test_data_path=str(data / "test"),
        evaluate_on_test=True,
        trainer__num_epochs=2,
        trainer__callbacks=["report_rank"],
    )
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "callbacks.py").write_text(CALLBACK)
    nodes = {"num_nodes": 2, "primary_address": "127.0.0.2", "primary_port": find_open_port()}
    for name, block in {
        "one": {"cuda_devices": [-1, -1], "timeout_s": 300},
        "torchrun": None,
        "nodes": {"cuda_devices": [-1], "timeout_s": 300, **nodes},
    }.items():
        changed = {**config, **({"distributed": block} if block else {})}
        (folder / f"{name}.json").write_text(json.dumps(changed))
    experiment_ = Experiment(folder, data)
    run(*experiment_.command(["allencv"], "one.json", "one"), cwd=folder)
    return experiment_


def test_every_image_is_used_once_in_each_epoch(trained: Experiment) -> None:
    ranks: List[Dict[str, Any]] = [trained.read(f"one/rank_{rank}.json") for rank in (0, 1)]
    for epoch in range(2):
        # 21 images are 2 batches of 4 for each rank, and 5 for both together.
        sizes = [[len(step) for step in rank["epochs"][epoch]] for rank in ranks]
        assert sizes == [[4, 4, 3], [4, 4, 2]]
        used = Counter(name for rank in ranks for step in rank["epochs"][epoch] for name in step)
        assert len(used) == 21
        assert set(used.values()) == {1}
    assert ranks[0]["weights"] == ranks[1]["weights"]


def test_the_first_rank_alone_writes(trained: Experiment) -> None:
    logs = [trained.folder / "one" / f"out_worker{rank}.log" for rank in range(2)]
    assert "archiving weights" in logs[0].read_text()
    assert "archiving weights" not in logs[1].read_text()


def test_every_test_image_counts_once(trained: Experiment, run: Run, tmp_path: Path) -> None:
    run(
        *("allencv", "evaluate", trained.folder / "one" / "model.tar.gz", trained.data / "test"),
        *("--output-file", "metrics.json"),
        cwd=tmp_path,
    )
    alone = json.loads((tmp_path / "metrics.json").read_text())["accuracy"]
    metrics = trained.read("one/metrics.json")
    assert metrics["test_accuracy"] == pytest.approx(alone, abs=1e-6)
    assert 0 < metrics["test_accuracy"] < 1
    # They are shares of all images, not of the 5 or the 4 that one process has.
    for accuracy, images in ((metrics["test_accuracy"], 9), (metrics["validation_accuracy"], 7)):
        assert accuracy * images == pytest.approx(round(accuracy * images), abs=1e-6)


def test_torchrun_goes_on_after_a_rank_was_killed(trained: Experiment, run: Run) -> None:
    """It ends with the weights of the run that nobody killed."""
    launcher = [*TORCHRUN, "2", "--max-restarts", "1", "-m", "allencv"]
    run(
        *trained.command(launcher, "torchrun.json", "torchrun"),
        cwd=trained.folder,
        env={"KILLED": "killed"},
        fresh=True,
    )
    assert (trained.folder / "killed").exists()
    assert_same_run(trained, "torchrun")


def test_an_error_of_an_evaluation_is_shown_once(
    trained: Experiment, run: Run, tmp_path: Path
) -> None:
    """The first rank finds it, and the other is ended while it waits for the first."""
    result = run(
        *("allencv", "evaluate", trained.folder / "one" / "model.tar.gz", trained.data / "test"),
        *("--cuda-device", "-1,-1", "--output-file", "a,b"),
        cwd=tmp_path,
        fails=True,
    )
    assert result.returncode == 1
    line = "allencv: --output-file is 'a,b', the names of 2 files; expected 1, one for each input,"
    assert (result.stdout, result.stderr) == ("", f"{line} separated by commas\n")


@pytest.fixture
def second_address() -> str:
    """An address of this machine that stands for another machine."""
    address = "127.0.0.2"
    try:
        with socket.create_server((address, 0)):
            return address
    except OSError as error:
        pytest.skip(f"{address} is no address of this machine ({error.strerror})")


@pytest.mark.parametrize("how", ["allencv", "torchrun"])
def test_two_machines(trained: Experiment, how: str, second_address: str) -> None:
    """They share no folder, and the second has only a log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    python, port = Path(sys.executable).parent, str(find_open_port())
    processes = []
    for node in (1, 0):
        launcher, number = [str(python / "allencv")], ["--node-rank", str(node)]
        if how == "torchrun":
            address = ["--master-addr", second_address, "--master-port", port]
            nodes = ["1", "--nnodes", "2", *number, *address, "-m", "allencv"]
            launcher, number = [sys.executable, *TORCHRUN[1:], *nodes], []
        config = {"allencv": "nodes.json", "torchrun": "torchrun.json"}[how]
        command = [*trained.command(launcher, config, f"{how}_{node}"), *number]
        pipe = subprocess.PIPE
        processes.append(
            subprocess.Popen(
                command, cwd=trained.folder, env=environment, stdout=pipe, stderr=pipe, text=True
            )
        )
    for process in processes:
        output = process.communicate(timeout=400)
        assert process.returncode == 0, output
    assert_same_run(trained, f"{how}_0")
    second = {path.name for path in (trained.folder / f"{how}_1").iterdir()}
    assert second == {"out_worker1.log", "rank_1.json"}


def assert_same_run(trained: Experiment, name: str) -> None:
    folders = [trained.folder / "one", trained.folder / name]
    for file in ("best.th", "model_state_e2_b0.th"):
        assert same_tensors(*(torch.load(folder / file) for folder in folders)), file
