import logging
import os
from typing import Any, Dict

from allennlp.commands.train import TrainModel
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import dump_metrics
from allennlp.data import DataLoader
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.util import evaluate

logger = logging.getLogger(__name__)


@TrainModel.register("default", constructor="from_partial_objects", exist_ok=True)
class TrainImageModel(TrainModel):
    """
    What `allennlp train` runs, with two repairs, for all models:

    * `evaluate_on_test` in distributed training: AllenNLP evaluates on the first rank alone, whose
      metrics then wait for the others for ever, or crash (allennlp/commands/train.py,
      `TrainModel.finish`). Here every rank evaluates its share.
    * Labels that the training data lacks end the run at once, with their names, and not as
      images that can never be right.

    Registered as a `TrainModel` with name "default". The top-level keys of a config are AllenNLP's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        train = getattr(self.trainer, "data_loader", None)
        if (
            train is not None
            and hasattr(train, "labels")
            and hasattr(self.model, "set_class_counts")
        ):
            self.model.set_class_counts(train.labels())
        loaders = {
            "validation": getattr(self.trainer, "_validation_data_loader", None),
            "test": self.evaluation_data_loader,
        }
        for split, loader in loaders.items():
            if loader is not None:
                check_labels(train, loader, split)

    def run(self) -> Dict[str, Any]:
        metrics = super().run()
        if self.evaluation_data_loader is None or not self.evaluate_on_test:
            return metrics
        logger.info("The model will be evaluated using the best epoch weights.")
        test_metrics = evaluate(
            self.model,
            self.evaluation_data_loader,
            cuda_device=self.trainer.cuda_device,
            batch_weight_key=self.batch_weight_key,
        )
        if "loss" in test_metrics:
            batches = len(self.evaluation_data_loader)
            total = dist_reduce_sum(test_metrics["loss"] * batches)
            test_metrics["loss"] = float(total / dist_reduce_sum(batches))
        return metrics | {f"test_{name}": value for name, value in test_metrics.items()}

    def finish(self, metrics: Dict[str, Any]) -> None:
        if self.evaluation_data_loader is not None and not self.evaluate_on_test:
            logger.info(
                "To evaluate on the test set after training, pass the "
                "'evaluate_on_test' flag, or use the 'allennlp evaluate' command."
            )
        dump_metrics(os.path.join(self.serialization_dir, "metrics.json"), metrics, log=True)


def check_labels(train: DataLoader, other: DataLoader, split: str) -> None:
    """
    Compares the labels of the training data with those of another split, where the loaders know
    them without reading anything, as the "image" loader does.

    # Raises

    `ConfigurationError` if the split has a label that training lacks. The reverse is a warning.
    """
    if not (hasattr(train, "labels") and hasattr(other, "labels")):
        return
    trained, found = set(train.labels()), set(other.labels())
    unseen = sorted(found - trained)
    if found and unseen:
        raise ConfigurationError(
            f"{len(unseen)} labels of {split}_data_path ({other.data_path}) are not in "
            f"train_data_path ({train.data_path}): {', '.join(unseen)}; training knows "
            f"{', '.join(sorted(trained))}"
        )
    missing = sorted(trained - found)
    if found and missing:
        logger.warning(
            "%d labels of train_data_path have no image in %s_data_path (%s): %s",
            len(missing),
            split,
            other.data_path,
            ", ".join(missing),
        )
