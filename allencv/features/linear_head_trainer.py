from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Union

import numpy as np
import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, TensorDict
from allennlp.models import Model
from allennlp.nn.parallel import DdpAccelerator
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.trainer import Trainer

from allencv.common.label_text import shown
from allencv.common.nearest_names import not_one_of
from allencv.features.heads import LinearHead, fit_head
from allencv.models.image_classifier import ImageClassifier
from allencv.runtime.errors import InputError
from allencv.training.apple_gpu import apple_gpu
from allencv.training.checkpointer import AtomicCheckpointer
from allencv.training.epoch_batches import skip_epoch
from allencv.training.frozen_features import FrozenFeatures
from allencv.training.image_trainer import ImageTrainer
from allencv.training.protocols import KeepsFeatures
from allencv.training.running_losses import RunningLosses, count_images
from allencv.training.trainer_access import validation_loader_of
from allencv.training.trainer_checks import check_gpu

LINEAR_KINDS = ("logistic_regression", "nearest_class_mean")
LABELS = ("label", "labels")
KEY = "trainer.type is linear_head"


class LabelledVectors(NamedTuple):
    """
    What a head is fitted on.

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`, float32.
    labels : `np.ndarray`
        Class indices `(n,)`; or 0 and 1 for each label, `(n, classes)`.
    """

    vectors: np.ndarray
    labels: np.ndarray


@Trainer.register("linear_head", constructor="from_partial_objects")
class LinearHeadTrainer(ImageTrainer):
    """
    Fits the last layer of a classifier to the vectors of a frozen encoder, without gradient steps.
    The encoder sees each image once, and its vectors are kept on disk (see `FrozenFeatures`). It
    takes seconds, and gives the same weights on each run.

    The run has one epoch, with metrics, predictions and an archive like any other. The loss of the
    model, its dropout and its `class_weights` do not take part in the fit.

    Registered as a `Trainer` with name "linear_head".

    # Example

    ```jsonnet
    { type: "linear_head", kind: "logistic_regression" }
    ```

    # Parameters

    kind : `str`, optional (default = `"logistic_regression"`)
        "logistic_regression", or "nearest_class_mean": the cosine to the mean vector of each class
        (see `allencv.features.heads.fit_head`).
    strength : `float`, optional (default = `None`)
        C of scikit-learn's logistic regression: smaller is more regularization. For class means it
        is the factor of the cosine. `None` chooses it by cross-validation.
    frozen_features : `FrozenFeatures`, optional
        Where the vectors are kept. It can have one view only.
    validation_metric, cuda_device, use_amp, callbacks, checkpointer, enable_default_callbacks
        As of the trainer "image".

    # Raises

    `ConfigurationError` if the encoder is not frozen, if its output is not a vector, if a class has
    no training image, or if the model has class weights.
    """

    takes_steps = False

    def __init__(
        self,
        model: Model,
        data_loader: DataLoader,
        kind: str = LINEAR_KINDS[0],
        strength: Optional[float] = None,
        frozen_features: Optional[FrozenFeatures] = None,
        **kwargs: Any,
    ) -> None:
        if kind not in LINEAR_KINDS:
            raise not_one_of("trainer.kind", kind, LINEAR_KINDS)
        if strength is not None and not strength > 0:
            raise ConfigurationError(f"trainer.strength is {strength}; expected a number above 0")
        if not isinstance(model, ImageClassifier):
            raise ConfigurationError(
                f"{KEY}, but model.type makes a {type(model).__name__}; expected "
                "'basic_image_classifier' or 'multilabel_image_classifier'"
            )
        if model.has_class_weights:
            raise ConfigurationError(
                f"{KEY}, which has no class weights; expected no model.class_weights"
            )
        features = frozen_features or FrozenFeatures()
        if features.views != 1:
            raise ConfigurationError(
                f"{KEY}, and trainer.frozen_features.views is {features.views}; expected 1"
            )
        # No step is made: the optimizer is there for the checkpoint.
        optimizer = torch.optim.SGD(model.parameters(), lr=0)
        super().__init__(
            model, optimizer, data_loader, frozen_features=features, num_epochs=1, **kwargs
        )
        self._classifier = model
        self._kind = kind
        self._strength = strength

    @classmethod
    def from_partial_objects(  # type: ignore[override]
        cls,
        model: Model,
        serialization_dir: str,
        data_loader: DataLoader,
        validation_data_loader: Optional[DataLoader] = None,
        local_rank: int = 0,
        kind: str = LINEAR_KINDS[0],
        strength: Optional[float] = None,
        frozen_features: Optional[FrozenFeatures] = None,
        validation_metric: Union[str, List[str]] = "-loss",
        cuda_device: Optional[Union[int, str]] = None,
        use_amp: Optional[bool] = None,
        distributed: bool = False,
        world_size: int = 1,
        checkpointer: Optional[Lazy[AtomicCheckpointer]] = Lazy(AtomicCheckpointer),
        callbacks: Optional[List[Lazy[TrainerCallback]]] = None,
        enable_default_callbacks: bool = True,
        ddp_accelerator: Optional[DdpAccelerator] = None,
    ) -> Trainer:
        """Build the trainer from a config. All arguments are listed, as these are its keys."""
        if distributed:
            raise ConfigurationError(
                f"{KEY}, but training has several processes; expected one, as the fit takes seconds"
            )
        device = None
        if isinstance(cuda_device, str):
            device, cuda_device = apple_gpu(cuda_device), -1
        elif cuda_device is None:
            cuda_device = 0 if torch.cuda.is_available() else -1
        else:
            check_gpu(cuda_device)
        model.to(device or (f"cuda:{cuda_device}" if cuda_device >= 0 else "cpu"))
        given = [each.construct(serialization_dir=serialization_dir) for each in callbacks or []]
        return cls(
            model,
            data_loader,
            kind,
            strength,
            frozen_features,
            serialization_dir=serialization_dir,
            validation_data_loader=validation_data_loader,
            validation_metric=validation_metric,
            cuda_device=cuda_device,
            device=device,
            use_amp=use_amp,
            callbacks=given,
            enable_default_callbacks=enable_default_callbacks,
            checkpointer=checkpointer
            and checkpointer.construct(serialization_dir=serialization_dir),
        )

    @contextmanager
    def vectors_in_place_of_images(self) -> Iterator[None]:
        """Let the data loaders give vectors in the block, which are computed when needed."""
        assert self._frozen_features is not None
        with self._frozen_features.in_place_of_images(
            self, self._autocast, self._amp_dtype, prepare=False
        ):
            yield

    def training_loader(self) -> KeepsFeatures:
        assert isinstance(self.data_loader, KeepsFeatures)
        return self.data_loader

    def validation_loader(self) -> Optional[KeepsFeatures]:
        loader = validation_loader_of(self)
        assert loader is None or isinstance(loader, KeepsFeatures)
        return loader

    def _train_epoch(self, epoch: int) -> Dict[str, float]:
        if epoch < self._start_after_epochs_completed:
            skip_epoch(self.data_loader)
            return {}
        batches = [batch for batch in self.data_loader if batch]
        found = labelled_vectors(batches)
        absent = classes_without_images(found.labels, self._classifier.num_labels)
        if absent:
            names = self._classifier.label_names()
            raise ConfigurationError(
                f"{KEY}, but the training data have no image that can be read of "
                f"{', '.join(shown(names[each]) for each in absent)}; expected one or more of each "
                "label"
            )
        try:
            head = fit_head(
                self._kind, *found, classes=self._classifier.num_labels, strength=self._strength
            )
        except InputError as error:
            raise ConfigurationError(f"{KEY}, but {error}") from None
        assert isinstance(head, LinearHead)
        self._classifier.set_last_layer(torch.from_numpy(head.weight), torch.from_numpy(head.bias))
        self._batches_in_epoch_completed = self._total_batches_completed = len(batches)
        losses = RunningLosses()
        self._pytorch_model.eval()
        with torch.no_grad():
            for batch in batches:
                outputs = self.batch_outputs(batch, for_training=False)
                losses.add([outputs], [count_images(batch)])
        return self.model.get_metrics(reset=True) | losses.read_all_ranks()


def classes_without_images(labels: np.ndarray, classes: int) -> List[int]:
    """Return the classes that no image has: none if images have several labels, `(n, classes)`."""
    if labels.ndim == 2:
        return []
    return np.flatnonzero(np.bincount(labels, minlength=classes) == 0).tolist()


def labelled_vectors(batches: List[TensorDict]) -> LabelledVectors:
    """
    Return the vectors and labels of batches. Raise `ConfigurationError` if they have no labels, or
    feature maps in place of vectors.
    """
    key = next((each for each in LABELS if each in batches[0]), None)
    if key is None:
        raise ConfigurationError(f"{KEY}, but the training images have no labels; expected labels")
    vectors = torch.cat([batch["features"] for batch in batches]).float().cpu().numpy()
    if vectors.ndim != 2:
        raise ConfigurationError(
            f"{KEY}, but im2vec_encoder is trained; expected one that is frozen or has no "
            "parameters, such as 'pooling', so that there is one vector for each image"
        )
    labels = torch.cat([batch[key] for batch in batches]).cpu().numpy()
    return LabelledVectors(vectors, labels)
