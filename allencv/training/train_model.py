import inspect
import json
import logging
import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import torch.distributed as dist
from allennlp.commands import train as train_command
from allennlp.commands.train import TrainModel
from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import dump_metrics, is_distributed
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.training import GradientDescentTrainer

from allencv.common.data_paths import with_one_key
from allencv.common.label_text import same_looking, shown
from allencv.common.write_archive import archive_model
from allencv.runtime.errors import InputError
from allencv.runtime.plurals import numbered
from allencv.runtime.whole_files import write_text
from allencv.training.calibrator import Calibrator
from allencv.training.callbacks.write_predictions import WritePredictions
from allencv.training.evaluation import evaluate
from allencv.training.first_images import show_first_images
from allencv.training.image_trainer import ImageTrainer
from allencv.training.labels_of_run import labels_of_run
from allencv.training.next_commands import calibrate_command
from allencv.training.protocols import SeekableLoader, TrainableClassifier
from allencv.training.run_folder import has_checkpoint, locked
from allencv.training.trainer_access import begin_moving_average

logger = logging.getLogger(__name__)

train_command.archive_model = archive_model  # AllenNLP has no other way to choose it
_train_worker = train_command._train_worker


def train_worker(*args: Any, **kwargs: Any) -> Optional[Model]:
    """
    Be one of the processes that AllenNLP trains in. A process that it starts imports this module
    first, and so AllenCV, without which AllenNLP imports its packages for text.
    """
    return _train_worker(*args, **kwargs)


train_command._train_worker = train_worker

config_checks: List[Callable[[Dict[str, Any]], None]] = []
"""Functions that get a whole config before any data is read. `allencv.plugin` adds one."""


@contextmanager
def config_is_checked() -> Iterator[None]:
    """Do not check configs again inside."""
    checks = config_checks[:]
    config_checks.clear()
    try:
        yield
    finally:
        config_checks.extend(checks)


CALIBRATION = [
    inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation
    )
    for name, annotation in (
        ("calibration_dataset_reader", Optional[DatasetReader]),
        ("calibration_data_path", Any),
        ("calibration", Optional[Calibrator]),
    )
]
"""The keys that are not AllenNLP's."""


def with_calibration(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the parameters of AllenNLP's `from_partial_objects` and `CALIBRATION`."""
    original = getattr(TrainModel.from_partial_objects, "__func__")  # noqa: B009 - for mypy
    signature = inspect.signature(original)
    parameters = [*signature.parameters.values(), *CALIBRATION]
    setattr(function, "__signature__", signature.replace(parameters=parameters))  # noqa: B010
    return function


@TrainModel.register("default", constructor="from_partial_objects", exist_ok=True)
class TrainImageModel(TrainModel):
    """
    Runs `allennlp train` for all models, with repairs:

    * `evaluate_on_test` in distributed training: AllenNLP evaluates on the first rank alone, whose
      metrics then wait for the others forever, or crash (allennlp/commands/train.py,
      `TrainModel.finish`). Here every rank evaluates its share.
    * Labels of other splits that the training data lacks end the run at once, with their names.
    * A recovered run keeps its labels and their order, even if images were added. AllenNLP sorts
      the labels again by their numbers of images, and so gives weights to other labels.
    * Mistakes in the config are found before any data is read, if `allencv.plugin` is imported, as
      `--include-package allencv` and `.allennlp_plugins` do.
    * A second run in the same folder is refused while the first one trains.
    * A trained model is calibrated, if there is a `calibration_data_path`.
    * A model that tunes thresholds is refused if the trainer would not let it. A loss that compares
      views of an image is refused if the batches would not hold them.

    Registered as a `TrainModel` with name "default". The top-level keys of a config are AllenNLP's,
    and `calibration_dataset_reader`, `calibration_data_path` and `calibration`.

    # Parameters

    dataset_reader : `DatasetReader`, required
        Reads the training data, and those for validation and test unless there is a
        `validation_dataset_reader`, which you need with random transforms.
    train_data_path : `Any`, required
        What the reader reads: usually the path of a folder or a file.
    model : `Model`, required
        Built when the labels are known.
    data_loader : `DataLoader`, required
        Makes the batches of training, and those of validation and test unless there is a
        `validation_data_loader`.
    trainer : `Trainer`, required
        Trains the model.
    vocabulary : `Vocabulary`, optional
        The labels. By default those of all data in the config.
    datasets_for_vocab_creation : `List[str]`, optional (default = `None`)
        The data to take the labels from: "train", "validation", "test". `None` is all.
    validation_dataset_reader : `DatasetReader`, optional (default = `None`)
        Reads the data for validation and test, and later for predictions: without random
        transforms.
    validation_data_path : `Any`, optional (default = `None`)
        The images that decide the best epoch. Without them the last epoch is kept.
    validation_data_loader : `DataLoader`, optional (default = `None`)
        Makes the batches of validation and test.
    test_data_path : `Any`, optional (default = `None`)
        Images that are not used in training.
    calibration_dataset_reader : `DatasetReader`, optional (default = `None`)
        Says which images at `calibration_data_path` to take, and their labels. Their pixels are
        prepared as those of validation images. `None` is the reader for validation.
    calibration_data_path : `Any`, optional (default = `None`)
        Images on which the trained model is calibrated, as `allencv calibrate` does. They must be
        neither training nor validation images.
    calibration : `Calibrator`, optional (default = `None`)
        What to find out on these images. `None` is `{}`.
    evaluate_on_test : `bool`, optional (default = `False`)
        Whether to evaluate the model on the test images when training is over.
    batch_weight_key : `str`, optional (default = `""`)
        In that evaluation, the key of the model's output that says how much the loss of a batch
        counts. By default a batch counts as many images as it has.
    """

    calibrator: Optional[Calibrator] = None
    calibration_data: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        train = getattr(self.trainer, "data_loader", None)
        model = self.model if isinstance(self.model, TrainableClassifier) else None
        if model is not None and isinstance(train, SeekableLoader):
            model.set_class_counts(train.labels())
        if train is not None and not has_checkpoint(Path(self.serialization_dir)):
            show_first_images(self.model, train)
            if isinstance(self.trainer, GradientDescentTrainer):
                begin_moving_average(self.trainer)
        loaders = {
            "validation": getattr(self.trainer, "_validation_data_loader", None),
            "test": self.evaluation_data_loader,
        }
        for split, loader in loaders.items():
            if loader is not None:
                check_labels(train, loader, split)
        if model is not None:
            if model.tunes_thresholds:
                self._check_tuning(loaders["validation"])
            check_views(model.num_views, train)

    @classmethod
    def from_params(cls, params: Params, *args: Any, **extras: Any) -> Any:
        # In distributed training AllenNLP has added objects to the config, one for each rank.
        if is_distributed():
            check_one_machine(extras.get("local_rank", 0))
        else:
            for check in config_checks:
                check(params.as_dict(quiet=True))
        return super().from_params(params, *args, **extras)

    @classmethod
    @with_calibration
    def from_partial_objects(
        cls,
        serialization_dir: str,
        model: Lazy[Model],
        vocabulary: Lazy[Vocabulary] = Lazy(Vocabulary),
        calibration_dataset_reader: Optional[DatasetReader] = None,
        calibration_data_path: Any = None,
        calibration: Optional[Calibrator] = None,
        **others: Any,
    ) -> TrainModel:
        """Build what a config describes, with the labels of the run if it is recovered."""
        folder = Path(serialization_dir)
        if has_checkpoint(folder):
            may_lack = "start_from" in model._params  # whose labels need no images
            vocabulary = Lazy(
                labels_of_run, folder=folder, vocabulary=vocabulary, may_lack=may_lack
            )
        paths = {**others, "calibration_data_path": calibration_data_path}
        try:
            calibrator = calibrator_of(calibration_data_path, calibration)
            made: Any = super().from_partial_objects(
                serialization_dir=serialization_dir, model=model, vocabulary=vocabulary, **others
            )
            if calibrator is not None:
                reader = others.get("validation_dataset_reader") or others["dataset_reader"]
                reader = calibration_dataset_reader or reader
                made.set_calibrator(calibrator, reader, calibration_data_path)
        except ConfigurationError as error:
            error.message = with_one_key(error.message, paths)
            raise
        return made

    def set_calibrator(self, calibrator: Calibrator, reader: DatasetReader, data: Any) -> None:
        """Calibrate the model on these images when training is over. Check them at once."""
        train = getattr(self.trainer, "data_loader", None)
        labels = {*train.labels()} if isinstance(train, SeekableLoader) else set()
        calibrator.check(reader, data, labels or None)
        self.calibrator, self.calibration_data = calibrator, data

    def run(self) -> Dict[str, Any]:
        is_first = not is_distributed() or dist.get_rank() == 0
        with locked(self.serialization_dir) if is_first else nullcontext():
            return self._run()

    def _run(self) -> Dict[str, Any]:
        metrics = super().run()
        if self.evaluation_data_loader is None or not self.evaluate_on_test:
            return metrics
        logger.info("Evaluating the best epoch on the test images")
        test_metrics = evaluate(
            self.model,
            self.evaluation_data_loader,
            cuda_device=self.trainer.cuda_device,
            batch_weight_key=self.batch_weight_key,
        )
        for callback in getattr(self.trainer, "_callbacks", []):
            if isinstance(callback, WritePredictions):
                callback.write("test", self.model, self.evaluation_data_loader)
        return metrics | {f"test_{name}": value for name, value in test_metrics.items()}

    def _check_tuning(self, validation: Optional[DataLoader]) -> None:
        if not isinstance(self.trainer, ImageTrainer):
            raise ConfigurationError(
                f"model.thresholds is 'tune', but trainer.type makes a "
                f"{type(self.trainer).__name__}; expected 'image', which lets the model tune them"
            )
        if validation is None:
            raise ConfigurationError(
                "model.thresholds is 'tune', but the config has no validation_data_path; expected "
                "one, or thresholds that are numbers"
            )

    def finish(self, metrics: Dict[str, Any]) -> None:
        if self.evaluation_data_loader is not None and not self.evaluate_on_test:
            logger.info(
                "To evaluate on the test set after training, pass the "
                "'evaluate_on_test' flag, or use the 'allennlp evaluate' command."
            )
        of_test = {
            name.removeprefix("test_"): value
            for name, value in metrics.items()
            if name.startswith("test_") and isinstance(value, float)
        }
        if of_test:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in of_test.items())
            logger.info("Test images: %s", shown)
        dump_metrics(None, metrics, log=True)
        path = os.path.join(self.serialization_dir, "metrics.json")
        write_text(path, json.dumps(metrics, indent=2))
        if self.calibrator is not None:
            self._calibrate(self.calibrator)

    def _calibrate(self, calibrator: Calibrator) -> None:
        """Calibrate the model. If that fails, the trained model is kept all the same."""
        data = self.calibration_data
        logger.info("Calibrating the model on %s", data)
        try:
            calibrator.calibrate(Path(self.serialization_dir), data)
        except (ConfigurationError, InputError, OSError) as error:
            logger.error(
                "The model is trained, but not calibrated: %s. Calibrate it by: %s",
                error,
                calibrate_command(Path(self.serialization_dir), data),
            )


def calibrator_of(data: Any, calibration: Optional[Calibrator]) -> Optional[Calibrator]:
    """
    Return what a config says about calibration.

    # Raises

    `ConfigurationError` for a calibration without images, or if no `Calibrator` is registered.
    """
    if data is None:
        if calibration is not None:
            raise ConfigurationError(
                "the config has calibration, but no calibration_data_path; expected one"
            )
        return None
    if calibration is not None:
        return calibration
    if "default" not in Calibrator.list_available():
        raise ConfigurationError(
            f"calibration_data_path is '{data}', but no package is imported that calibrates; "
            "expected --include-package allencv.plugin"
        )
    return Calibrator.from_params(Params({}))


def check_one_machine(local_rank: int) -> None:
    """
    Check that `local_rank` is the number of this rank among all, as it is on one machine and where
    `allencv train` is used. `allennlp train` gives the number on the machine. Then the first rank
    of each machine would write the checkpoints of all. All ranks must call this.

    # Raises

    `ConfigurationError` on all ranks, if one of them has another number.
    """
    differs = [False] * dist.get_world_size()
    dist.all_gather_object(differs, local_rank != dist.get_rank())
    if any(differs):
        raise ConfigurationError(
            "distributed.num_nodes is above 1, which 'allennlp train' cannot do: the first process "
            "of each machine would write the run; expected 'allencv train' with the same arguments"
        )


def check_views(num_views: int, train: Optional[DataLoader]) -> None:
    """
    Check that training batches hold each image `num_views` times in a row.

    # Raises

    `ConfigurationError` with the key that prevents it.
    """
    if num_views == 1 or train is None:
        return
    batch_size = getattr(train, "batch_size", 0)
    for key, value, is_right, expected in (
        ("repeats", getattr(train, "repeats", 1), lambda it: it == num_views, num_views),
        ("batch_size", batch_size, lambda it: it % num_views == 0, f"a multiple of {num_views}"),
        ("drop_last", getattr(train, "drop_last", False), bool, "true"),
    ):
        if not is_right(value):
            raise ConfigurationError(
                f"data_loader.{key} is {value}, but model.loss.num_views is {num_views}; expected "
                f"{expected}, which keeps the views of an image together in one batch"
            )


def check_labels(train: DataLoader, other: DataLoader, split: str) -> None:
    """
    Compare the labels of the training data with those of another split, if the loaders know them
    without reading anything, as the "image" loader does unless it streams.

    # Raises

    `ConfigurationError` if the split has a label that training lacks. The reverse is a warning.
    """
    if not (isinstance(train, SeekableLoader) and isinstance(other, SeekableLoader)):
        return
    trained, found = set(train.labels()), set(other.labels())
    if not trained:
        return
    unseen = sorted(found - trained)
    if found and unseen:
        hints = same_looking(unseen, trained)
        raise ConfigurationError(
            f"{split}_data_path ({other.data_path}) has {numbered(len(unseen), 'label')} that "
            f"train_data_path ({train.data_path}) lacks: {', '.join(map(shown, unseen))}; "
            f"training knows {', '.join(map(shown, sorted(trained)))}{hints}"
        )
    missing = sorted(trained - found)
    if found and missing:
        logger.warning(
            "train_data_path has %s without an image in %s_data_path (%s): %s",
            numbered(len(missing), "label"),
            split,
            other.data_path,
            ", ".join(missing),
        )
