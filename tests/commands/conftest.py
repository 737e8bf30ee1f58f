import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

import pytest

from tests.configs import experiment
from tests.conftest import ROOT, Run

JSONNET = """
local data = std.extVar("DATA");
%s + {
  train_data_path: data + "/train",
  validation_data_path: data + "/val",
}
"""


@dataclass
class Clone:
    """
    A folder to run commands in, as a clone of the repository is one: it holds `.allennlp_plugins`,
    so that `allennlp` knows AllenCV's parts without `--include-package`.
    """

    folder: Path
    env: Dict[str, str]

    config = "config.jsonnet"

    def train(self, serialization_dir: Path) -> List[str]:
        """The command that trains for the tests here; the config itself says 50 epochs."""
        overrides = {"trainer.num_epochs": 5, "trainer.optimizer": {"type": "adamw", "lr": 0.02}}
        directory = str(serialization_dir)
        return ["allennlp", "train", self.config, "-s", directory, "-o", json.dumps(overrides)]


@pytest.fixture(scope="session")
def clone(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """
    Its config, in jsonnet, has nearly everything at once that may disturb a run, or be lost when it
    is interrupted: random transforms made by two workers, dropout, mixed precision, accumulated
    gradients, a schedule, moving averages, and TensorBoard.
    """
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / ".allennlp_plugins", folder)
    config = experiment(
        cats_and_dogs,
        data_loader__batch_size=2,
        trainer__num_epochs=50,
        trainer__validation_metric="-loss",
        trainer__use_amp=True,
        trainer__num_gradient_accumulation_steps=2,
        trainer__learning_rate_scheduler={"type": "cosine", "t_initial": 10},
        trainer__moving_average={"type": "exponential", "decay": 0.8},
        trainer__callbacks=[{"type": "tensorboard", "summary_interval": 1}],
        trainer__checkpointer={"save_every_num_batches": 1, "keep_most_recent_by_count": 3},
    )
    (folder / Clone.config).write_text(JSONNET % json.dumps(config, indent=2))
    return Clone(folder, {"DATA": str(cats_and_dogs)})


@pytest.fixture(scope="session")
def finished(clone: Clone, run: Run) -> Path:
    """The folder of a run that was trained to its end by `clone.train`."""
    folder = clone.folder / "runs" / "finished"
    run(*clone.train(folder), cwd=clone.folder, env=clone.env)
    return folder
