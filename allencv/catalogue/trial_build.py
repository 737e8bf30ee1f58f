"""Find values that a constructor refuses: build the part, if that is cheap and safe."""

import copy
import logging
from typing import Any, Dict, FrozenSet, Iterable, List, Optional

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.checkpointer import Checkpointer
from allennlp.training.metrics import Metric
from allennlp.training.moving_average import MovingAverage
from allennlp.training.optimizers import MultiOptimizer, Optimizer

from allencv.catalogue.parts import Part
from allencv.common.quiet import quiet
from allencv.data.class_weightings import ClassWeighting
from allencv.data.data_loaders import ImageDataLoader
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.transforms import BatchTransform, ImageTransform
from allencv.models import BasicImageClassifier, MultiLabelImageClassifier
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from allencv.modules.losses import ClassificationLoss
from allencv.modules.pretrained_weights import without_pretrained_weights
from allencv.training.calibrator import Calibrator
from allencv.training.callbacks import CheckpointAveraging, FineTuning, WritePredictions
from allencv.training.trainer_checks import metric_names_of

SMALL = (ImageTransform, BatchTransform, ClassificationLoss, ClassWeighting, Metric, DatasetReader)
NETWORKS = (Im2ImEncoder, Im2VecEncoder)
MODELS = (BasicImageClassifier, MultiLabelImageClassifier)
WITHOUT_LABELS = frozenset(
    [
        *("type", "im2im_encoder", "im2vec_encoder", "dropout"),
        *("pixel_mean", "pixel_std", "test_time_augmentation"),
    ]
)
"""The keys with which a model is built: the others depend on the labels, so on the data."""
OF_TRAINING = (
    Calibrator,
    MovingAverage,
    Checkpointer,
    FineTuning,
    CheckpointAveraging,
    WritePredictions,
)
KNOWN = ("allencv.", "allennlp.nn.", "allennlp.modules.feedforward", "allennlp.training.")
"""Modules whose classes read no data and download nothing when built."""
_ASK_THE_DATA = frozenset(["class_weighting", "drop_last"])
_ASK_THE_MODEL = frozenset(["layer_decay", "weight_decay_on_norm_and_bias"])
OF_GROUPS = _ASK_THE_MODEL | {"parameter_groups"}
"""The keys of an optimizer that split the model's parameters into groups."""


class _OneImage(ImageDatasetReader):
    """Replaces the reader of a config, whose data are not read."""

    def read_samples(self, file_path: Any) -> Iterable[Sample]:
        return [Sample("image.png", "label")]


def keys_to_build(part: Part) -> Optional[FrozenSet[str]]:
    """Return the keys with which to build a part as a test, or `None` not to build it."""
    if issubclass(part.cls, MODELS):
        return WITHOUT_LABELS
    if issubclass(part.cls, ImageDataLoader):
        return frozenset(part.arguments) - _ASK_THE_DATA | {"type"}
    if issubclass(part.cls, Optimizer) and not issubclass(part.cls, MultiOptimizer):
        return frozenset(part.arguments) - _ASK_THE_MODEL | {"type"}
    if issubclass(part.cls, (*NETWORKS, *SMALL, *OF_TRAINING)):
        return frozenset(part.arguments) | {"type"}
    return None


def refusal(
    cls: type, part: Part, config: Dict[str, Any], classes: Iterable[type]
) -> Optional[str]:
    """
    Return the constructor's error for a config that has no other mistakes and names `classes`.
    Return `None` if there is no error, or if one of `classes` is not in `KNOWN`, so that building
    it may read data or download files.
    """
    if not all(is_known(each) for each in classes):
        return None
    extras: Dict[str, Any] = {}
    if issubclass(part.cls, MODELS):
        config = {**config, "num_labels": 2}
        extras["vocab"] = Vocabulary.empty()
    if issubclass(part.cls, ImageDataLoader):
        extras.update(reader=_OneImage(), data_path=None)
    parameters = [("weight", torch.nn.Parameter(torch.zeros(2, 2)))]
    if issubclass(part.cls, Optimizer):
        extras["model_parameters"] = parameters
    if issubclass(part.cls, MovingAverage):
        extras["parameters"] = parameters
    if issubclass(part.cls, (Checkpointer, TrainerCallback)):
        extras["serialization_dir"] = "no_such_folder"  # only checked for existence
    # A network takes no memory and no time on the device "meta". An error there may be due to
    # "meta" itself, so try the CPU too.
    devices = ("meta", "cpu") if issubclass(part.cls, (*NETWORKS, *MODELS)) else ("cpu",)
    error: Optional[Exception] = None
    for device in devices:
        try:
            with without_pretrained_weights(), torch.device(device), quiet(logging.ERROR):
                cls.from_params(Params(copy.deepcopy(config)), **extras)  # type: ignore[attr-defined]
            return None
        except Exception as refused:
            error = refused
    first, *_ = str(error).splitlines() or [""]
    return first if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {first}"


def optimizer_of(trainer: Dict[str, Any]) -> Optional[Optimizer]:
    """
    Build the optimizer of a trainer's config for a single parameter, without keys that depend on
    the model. Return `None` if it cannot be built.
    """
    config = trainer.get("optimizer", {})
    config = {"type": config} if isinstance(config, str) else config
    config = {key: value for key, value in config.items() if key not in OF_GROUPS}
    try:
        with quiet(logging.ERROR):
            return Optimizer.from_params(
                Params(copy.deepcopy(config)),
                model_parameters=[("weight", torch.nn.Parameter(torch.zeros(2, 2)))],
            )
    except Exception:  # this mistake is reported elsewhere
        return None


def metric_names(model: Dict[str, Any], classes: Iterable[type]) -> Optional[List[str]]:
    """
    Return the `metric_names` of one of our models for validation, or `None` if they are not known.
    A name that depends on the labels, and so on the data, ends in "*". `classes` are those of the
    config's metrics.
    """
    if model.get("distillation") is not None or not all(map(is_known, classes)):
        return None
    top_k = model.get("top_k") or 1
    found = [_metric_names(model, top_k + 1, "a"), _metric_names(model, top_k + 2, "b")]
    first, second = (set(names or []) for names in found)
    if not (first and second):
        return None
    keys = model.get("metrics") or {}
    changing = [key for key in keys if any(name.startswith(key) for name in first ^ second)]
    return sorted((first & second) | {f"{key}*" for key in changing})


def _metric_names(model: Dict[str, Any], num_labels: int, label: str) -> Optional[List[str]]:
    """Return the names of metrics for labels made of `label` and a number."""
    vocab = Vocabulary(non_padded_namespaces=["labels"])
    for number in range(num_labels):
        vocab.add_token_to_namespace(f"{label}{number}", "labels")
    config: Dict[str, Any] = {"im2vec_encoder": {"type": "pooling", "input_channels": 3}}
    config |= {key: model[key] for key in ("type", "metrics", "top_k") if key in model}
    try:
        with quiet(logging.ERROR):
            built = Model.from_params(Params(copy.deepcopy(config)), vocab=vocab)
            return metric_names_of(built)
    except Exception:  # such as a metric that needs a certain number of labels
        return None


def is_known(cls: type) -> bool:
    return cls.__module__.startswith(KNOWN)
