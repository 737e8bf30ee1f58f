import json
import logging
from pathlib import Path
from typing import Any, Dict, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

from allencv.common.checks import CheckedFromParams
from allencv.runtime.whole_files import write_text
from allencv.training.predicting import Forward, describe_run, write_predictions
from allencv.training.predictions import FOLDER

logger = logging.getLogger(__name__)


@TrainerCallback.register("write_predictions")
class WritePredictions(CheckedFromParams, TrainerCallback):
    """
    Leaves in the run's folder what `allencv report` is made from, so that it can be made on another
    machine, without the images:

    * `predictions/run.json`, when training starts: the versions, the device, and how many images of
      each label there are to learn from.
    * `predictions/validation.npz`, when training ends: for each validation image its path, what is
      true and the probabilities of the best weights (4 bytes for each image and label), and the
      pictures of some images with the maps of Grad-CAM over them (see
      `allencv.training.predictions`). The network sees the validation images once more for that.

    Should this fail, that is logged as a warning: it is no reason to lose a trained model.
    In a list of callbacks it has to stand behind one that changes the weights when training ends,
    as "checkpoint_averaging" does.

    Registered as a `TrainerCallback` with name "write_predictions".

    # Parameters

    serialization_dir : `str`
        This argument does not get an entry in a configuration file.
    pictures : `int`, optional (default = `12`)
        How many pictures are kept of each kind: mistakes, hits that were close, and labels that are
        likely to be wrong.
    """

    def __init__(self, serialization_dir: str, pictures: int = 12) -> None:
        super().__init__(serialization_dir)
        if pictures < 0:
            raise ConfigurationError(
                f"pictures of the callback 'write_predictions' is {pictures}; expected at least 0"
            )
        self.pictures = pictures

    def on_start(self, trainer: Any, is_primary: bool = True, **kwargs: Any) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if is_primary and self.serialization_dir is not None:
            folder = Path(self.serialization_dir) / FOLDER
            folder.mkdir(exist_ok=True)
            facts = describe_run(trainer.cuda_device, trainer.data_loader)
            write_text(folder / "run.json", json.dumps(facts, indent=2) + "\n")

    def on_end(
        self,
        trainer: Any,
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        loader = trainer._validation_data_loader
        if metrics is not None and loader is not None:  # else training has failed
            self.write(
                "validation",
                trainer.model,
                loader,
                lambda batch: trainer.batch_outputs(batch, for_training=False),
            )

    def write(self, split: str, model: Any, loader: Any, forward: Optional[Forward] = None) -> None:
        """
        Writes the predictions of a model for a split (see `write_predictions`). Other models than
        ours, which do not say what their labels are, are left alone.
        """
        if self.serialization_dir is None or not hasattr(model, "label_names"):
            return
        try:
            write_predictions(self.serialization_dir, split, model, loader, self.pictures, forward)
        except Exception:
            logger.warning("The %s predictions could not be written", split, exc_info=True)
