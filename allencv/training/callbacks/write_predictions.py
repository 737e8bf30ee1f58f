import json
import logging
import platform
from pathlib import Path
from typing import Any, Dict, Optional

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader
from allennlp.models import Model
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from allencv.common.checks import CheckedFromParams
from allencv.common.versions import installed_versions
from allencv.predictions.predict import Forward, LabelledModel, save_predictions
from allencv.predictions.predictions_file import FOLDER
from allencv.runtime.whole_files import write_text
from allencv.training.protocols import SeekableLoader
from allencv.training.trainer_access import validation_loader_of

logger = logging.getLogger(__name__)

PACKAGES = ("allencv", "allennlp", "torch", "torchvision", "timm", "numpy")


@TrainerCallback.register("write_predictions")
class WritePredictions(CheckedFromParams, TrainerCallback):
    """
    Saves what `allencv report` needs to the folder of the run, so that you can make the report on
    another machine, without the images:

    * `predictions/run.json`, when training starts: the versions, the device, and the number of
      training images of each label.
    * `predictions/validation.npz`, when training ends: for each validation image its path, its true
      labels and the probabilities of the best weights (4 bytes for each image and label), and
      pictures of some images with Grad-CAM maps (see `allencv.predictions`). This takes one more
      pass over the validation images.

    A failure is logged as a warning and does not end the run. In a list of callbacks, put this one
    after any that changes the weights when training ends, such as "checkpoint_averaging".

    Registered as a `TrainerCallback` with name "write_predictions".

    # Parameters

    serialization_dir : `str`
        This argument does not get an entry in a configuration file.
    pictures : `int`, optional (default = `12`)
        The number of pictures of each kind: mistakes, close hits, and likely label errors.
    """

    def __init__(self, serialization_dir: str, pictures: int = 12) -> None:
        super().__init__(serialization_dir)
        if pictures < 0:
            raise ConfigurationError(
                f"pictures of the callback 'write_predictions' is {pictures}; expected at least 0"
            )
        self.pictures = pictures

    def on_start(
        self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if is_primary and self.serialization_dir is not None:
            folder = Path(self.serialization_dir) / FOLDER
            folder.mkdir(exist_ok=True)
            facts = describe_run(trainer.cuda_device, trainer.data_loader)
            write_text(folder / "run.json", json.dumps(facts, indent=2) + "\n")

    def on_end(
        self,
        trainer: GradientDescentTrainer,
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        loader = validation_loader_of(trainer)
        if metrics is not None and loader is not None:  # else training has failed
            self.write(
                "validation",
                trainer.model,
                loader,
                lambda batch: trainer.batch_outputs(batch, for_training=False),
            )

    def write(
        self, split: str, model: Model, loader: DataLoader, forward: Optional[Forward] = None
    ) -> None:
        """
        Write the predictions of a model for a split (see `save_predictions`). Do nothing for models
        that do not name their labels.
        """
        if self.serialization_dir is None or not isinstance(model, LabelledModel):
            return
        try:
            save_predictions(self.serialization_dir, split, model, loader, self.pictures, forward)
        except Exception:
            logger.warning("The %s predictions could not be written", split, exc_info=True)


def describe_run(device: torch.device, loader: DataLoader) -> Dict[str, Any]:
    """Return facts about a run that its other files do not have."""
    name = platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "versions": {"python": platform.python_version(), **installed_versions(PACKAGES)},
        "device": f"{device.type} ({name})",
        "processes": dist.get_world_size() if is_distributed() else 1,
        "threads": torch.get_num_threads(),
        "train": {"images": _count_images(loader), "labels": _labels(loader)},
    }


def _count_images(loader: DataLoader) -> Optional[int]:
    """Return the number of images of a data loader on all ranks; `None` if unknown."""
    instances = getattr(getattr(loader, "images", None), "instances", None)
    try:
        return len(instances)  # type: ignore[arg-type]
    except TypeError:
        return None


def _labels(loader: DataLoader) -> Dict[str, int]:
    return loader.labels() if isinstance(loader, SeekableLoader) else {}
