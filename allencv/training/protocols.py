"""What the trainer needs from models and data loaders, AllenCV's own or others."""

import os
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Union,
    runtime_checkable,
)

import torch
from allennlp.data import Instance, TensorDict

from allencv.common.feature_store import FeatureStore
from allencv.predictions.predict import LabelledModel


@runtime_checkable
class StagedModel(Protocol):
    """A model that can be frozen in parts, and trained with a learning rate for each part."""

    def named_parameters(self) -> Iterator[Tuple[str, torch.nn.Parameter]]:
        """Yield the names and parameters, as any `torch.nn.Module` does."""

    def get_stages(self) -> List[List[str]]:
        """Return the prefixes of the parameter names of each stage, from the input to the head."""


@runtime_checkable
class TrainableClassifier(LabelledModel, StagedModel, Protocol):
    """An image classifier that training prepares, resizes and tunes."""

    tunes_thresholds: bool
    """Whether `on_validation_end` sets the thresholds, so that validation data are needed."""

    @property
    def num_views(self) -> int:
        """How many times in a row a training batch must hold each image."""

    def set_class_counts(self, counts: Dict[str, int]) -> None:
        """Take the number of training images of each label."""

    def set_training_size(self, size: Optional[int]) -> None:
        """Resize training images to `size` pixels a side; `None` leaves them as they are."""

    def on_validation_end(self) -> None:
        """Use what the metrics have seen, before they are reset."""


@runtime_checkable
class StandsIn(Protocol):
    """A model that is told which images it must not count."""

    stands_in: bool
    """Whether training images only stand in for those that this rank lacks."""


@runtime_checkable
class LearnsFromFirstImages(Protocol):
    """A model that computes something from training images before training."""

    @property
    def num_training_images(self) -> int:
        """How many training images `see_training_images` must get; 0 if none."""

    def see_training_images(self, images: Iterable[torch.Tensor]) -> None:
        """Take batches of training images."""


class FrozenNetwork(Protocol):
    """The part of a model that training does not change, from images to features."""

    @property
    def network(self) -> torch.nn.Module:
        """All that decides the features of an image."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images, as the model takes them in their place."""


@runtime_checkable
class HasFrozenEncoder(Protocol):
    """A model that can be trained on the features of its frozen encoder."""

    def frozen_encoder(self) -> FrozenNetwork:
        """
        Return its frozen part. Raises `ConfigurationError` if training changes the encoder, or if
        the model needs the images themselves.
        """


@runtime_checkable
class LabelledMetric(Protocol):
    """A metric that reports a number for each label."""

    def set_labels(self, names: List[str]) -> None:
        """Take the names of the labels, in the order of the scores."""


@runtime_checkable
class SeekableLoader(Protocol):
    """A data loader that can start at any batch of any epoch without reading what is before it."""

    data_path: Union[str, os.PathLike[str]]
    batches_left_out: int
    """How many batches of the epoch held no image that could be read."""
    another_epoch_follows: bool
    """Whether to prepare the first batches of the next epoch at the end of this one."""

    def __iter__(self) -> Iterator[TensorDict]: ...

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Make the next iteration that of `epoch`, from `batch` on."""

    def keep_pace(self) -> None:
        """
        From now on, yield `{}` for a batch without an image that can be read: other ranks count on
        it. Raises `ConfigurationError` for fewer images than ranks.
        """

    def count_images(self, batch: int) -> Optional[int]:
        """
        Return the number of images of a batch on all ranks together, or `None` if it is known only
        when they are read.
        """

    def identity(self) -> Dict[str, object]:
        """Return what differs if another loader has other images or labels."""

    def labels(self) -> Dict[str, int]:
        """Return the number of images of each label; empty if unknown without reading."""

    def iter_instances(self) -> Iterator[Instance]:
        """Read the instances, without the transforms of an epoch."""


@runtime_checkable
class KeepsFeatures(Protocol):
    """A data loader that can give features in place of images."""

    def keep_features(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        open_store: Callable[[Tuple[int, ...], int], FeatureStore],
        views: int,
    ) -> None:
        """
        From now on, yield batches with `features` in place of `image`.

        # Parameters

        encode : `Callable[[torch.Tensor], torch.Tensor]`
            Computes the features of a batch of images.
        open_store : `Callable[[Tuple[int, ...], int], FeatureStore]`
            Opens the store for a number of features of a shape.
        views : `int`
            Epoch `e` has the images that epoch `e % views` would have, in the order of epoch `e`.

        # Raises

        `ConfigurationError` for data that have no features to keep.
        """

    def prepare_features(self, epoch: int) -> None:
        """Compute the features of an epoch that are not kept yet."""

    def feature_fields(self) -> TensorDict:
        """Return the other fields of all images, such as their labels."""

    def some_features(self, images: Sequence[int]) -> TensorDict:
        """Return one batch of the features of some images, without those that cannot be read."""

    def num_computed_features(self) -> int:
        """Return how many features were computed since `keep_features`: the others were kept."""

    def release_features(self) -> None:
        """From now on, yield batches with images again."""
