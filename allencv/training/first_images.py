"""The first images of a data loader, for a model that computes something from them."""

from typing import Iterator

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader
from allennlp.models import Model

from allencv.training.protocols import LearnsFromFirstImages, SeekableLoader
from allencv.training.running_losses import count_images


def show_first_images(model: Model, loader: DataLoader) -> None:
    """
    Pass to a model as many images of the first epoch as it asks for, transformed as in training.
    The loader then begins again, and no random number of training changes.

    # Raises

    `ConfigurationError` if a model asks for images of a loader that cannot begin again.
    """
    if not isinstance(model, LearnsFromFirstImages) or not model.num_training_images:
        return
    if not isinstance(loader, SeekableLoader):
        raise ConfigurationError(
            f"the model computes something from {model.num_training_images} training images, but "
            f"data_loader.type makes a {type(loader).__name__}; expected 'image'"
        )
    model.see_training_images(_first_images(loader, model.num_training_images))
    loader.seek(0)


def _first_images(loader: SeekableLoader, num_images: int) -> Iterator[torch.Tensor]:
    """Yield this rank's images of the first batches, until all ranks have `num_images`."""
    loader.seek(0)
    ranks = dist.get_world_size() if is_distributed() else 1
    seen = 0
    for number, batch in enumerate(loader):
        if "image" in batch:
            yield batch["image"]
            seen += loader.count_images(number) or count_images(batch) * ranks
        if seen >= num_images:
            return
