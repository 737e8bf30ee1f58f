from contextlib import contextmanager
from typing import ContextManager, Iterator, Optional, Tuple

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader
from allennlp.models import Model
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from allencv.common.checks import CheckedFromParams
from allencv.common.feature_store import (
    GB,
    MAX_GB,
    ROOT_VARIABLE,
    FeatureStore,
    default_root,
    encoder_checksum,
    store_folder,
    without_tilde,
)
from allencv.training.callbacks.fine_tuning import FineTuning, backbone_stages
from allencv.training.callbacks.progressive_resizing import ProgressiveResizing
from allencv.training.protocols import FrozenNetwork, HasFrozenEncoder, KeepsFeatures
from allencv.training.trainer_access import (
    callbacks_of,
    epochs_before_start,
    num_epochs,
    validation_loader_of,
)

KEY = "trainer.frozen_features"
BYTES = np.dtype(np.float16).itemsize
SEVERAL_PROCESSES = (
    f"{KEY} is set, but training has several processes; expected one, as the features are computed "
    "once and a step on them takes little time"
)


class FrozenFeatures(CheckedFromParams):
    """
    Trains what follows a frozen encoder on its features: the encoder sees each image once, not in
    each epoch. Features are kept on disk for later runs. They are found by the content of the image
    file, the transforms, and the encoder's config and weights: whatever changes is computed anew.

    What is kept is the vector of the `im2vec_encoder` if that is frozen or has no parameters, or
    else the feature map of the `im2im_encoder`, in `float16`. Frozen encoders compute in evaluation
    mode, without dropout and stochastic depth. All else is as without this key: order of the
    images, loss, metrics, callbacks, schedules, checkpoints. The archive holds the whole network.

    "mixup" mixes features in place of images. Refused are other batch transforms, `distillation`,
    `test_time_augmentation`, progressive resizing, callbacks that unfreeze the encoder, images of
    several sizes, streamed or repeated images, and training with several processes.

    # Example

    ```jsonnet
    { views: 8 }
    ```

    # Parameters

    views : `int`, optional (default = `1`)
        How many random views of each training image are kept, if the transforms of the
        `dataset_reader` draw random numbers. Epoch `e` uses the views that epoch `e % views` would
        have without this key. Each costs the time of one epoch of the encoder. Validation images
        have one.
    folder : `str`, optional (default = `None`)
        Where to keep the features. `None` is the folder in the environment variable
        `ALLENCV_FEATURES`, or else `~/.cache/allencv/features`.
    max_gb : `float`, optional (default = `None`)
        The most GB (10^9 bytes) that all features in the folder may take; `None` is 20. Those used
        least recently are removed first.
    """

    def __init__(
        self, views: int = 1, folder: Optional[str] = None, max_gb: Optional[float] = None
    ) -> None:
        if views < 1:
            raise ConfigurationError(f"{KEY}.views is {views}; expected at least 1")
        if max_gb is not None and not max_gb > 0:
            raise ConfigurationError(f"{KEY}.max_gb is {max_gb}; expected a number above 0")
        self.views = views
        self.folder = default_root() if folder is None else without_tilde(folder, f"{KEY}.folder")
        self.max_gb = MAX_GB if max_gb is None else max_gb

    def frozen_part(self, model: Model) -> FrozenNetwork:
        """Return the frozen part of a model. Raise `ConfigurationError` if it has none."""
        if not isinstance(model, HasFrozenEncoder):
            raise ConfigurationError(
                f"{KEY} is set, but model.type makes a {type(model).__name__}; expected an image "
                "classifier with a frozen encoder"
            )
        return model.frozen_encoder()

    @contextmanager
    def in_place_of_images(
        self,
        trainer: GradientDescentTrainer,
        autocast: ContextManager[object],
        precision: Optional[torch.dtype],
        prepare: bool = True,
    ) -> Iterator[None]:
        """
        Let the data loaders of a trainer give features in place of images in the block.

        # Parameters

        autocast : `ContextManager`
            The context in which the model computes.
        precision : `torch.dtype`, optional
            The type in which it then computes, `None` for that of the weights.
        prepare : `bool`, optional (default = `True`)
            Whether to compute the features of all epochs first.

        # Raises

        `ConfigurationError` if anything of the trainer needs the images.
        """
        check_callbacks(trainer)
        part = self.frozen_part(trainer.model)
        folder = store_folder(self.folder, encoder_checksum(part.network, precision))

        def encode(images: torch.Tensor) -> torch.Tensor:
            with autocast:
                return part(images)

        def open_store(shape: Tuple[int, ...], count: int) -> FeatureStore:
            self._check_size(shape, count)
            try:
                return FeatureStore(folder, shape, self.max_gb)
            except OSError as error:
                raise ConfigurationError(
                    f"features cannot be kept in '{self.folder}' ({error.strerror or error}); "
                    f"expected another folder in the environment variable {ROOT_VARIABLE}, or in "
                    f"{KEY}.folder"
                ) from error

        train = _with_features("data_loader", trainer.data_loader)
        start = epochs_before_start(trainer)
        epochs = range(start, num_epochs(trainer))
        used = [(train, self.views, epochs[: self.views])]
        if (loader := validation_loader_of(trainer)) is not None:
            used.append((_with_features("validation_data_loader", loader), 1, epochs[:1]))
        try:
            for each, views, to_prepare in used:
                each.keep_features(encode, open_store, views)
                for epoch in to_prepare if prepare else ():
                    each.prepare_features(epoch)
            yield
        finally:
            for each, _, _ in used:
                each.release_features()

    def _check_size(self, shape: Tuple[int, ...], count: int) -> None:
        needed = count * int(np.prod(shape)) * BYTES / GB
        if needed > self.max_gb:
            raise ConfigurationError(
                f"{KEY}.max_gb is {self.max_gb:g}, but {count:,} features of the shape {shape} "
                f"take {needed:.2g} GB; expected a larger one, fewer views, or an im2vec_encoder "
                "without parameters, such as 'pooling', whose vectors are kept"
            )


def check_callbacks(trainer: GradientDescentTrainer) -> None:
    """Raise `ConfigurationError` for a callback that changes the encoder, or needs the images."""
    for callback in callbacks_of(trainer):
        what = None
        if isinstance(callback, ProgressiveResizing):
            what = "resizes the images"
        elif isinstance(callback, FineTuning):
            stages = len(backbone_stages(trainer.model))
            if callback.num_trained_stages(num_epochs(trainer) - 1, stages) > 0:
                what = "trains the encoder"
        if what is not None:
            raise ConfigurationError(
                f"{KEY} is set, but trainer.callbacks has {type(callback).__name__}, which {what}; "
                "expected one of them"
            )


def _with_features(key: str, loader: DataLoader) -> KeepsFeatures:
    if not isinstance(loader, KeepsFeatures):
        raise ConfigurationError(
            f"{KEY} is set, but {key}.type makes a {type(loader).__name__}; expected 'image'"
        )
    return loader
