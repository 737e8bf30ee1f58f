from typing import Any, Dict, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from allencv.common.checks import CheckedFromParams
from allencv.training.protocols import TrainableClassifier
from allencv.training.trainer_access import epochs_before_start, num_epochs


@TrainerCallback.register("progressive_resizing")
class ProgressiveResizing(CheckedFromParams, TrainerCallback):
    """
    Trains on small images at first, which is faster, and on larger ones later: the progressive
    resizing of Howard and fastai (2018), and the progressive learning of EfficientNetV2 (Tan and Le
    2021, arXiv:2104.00298, section 4), which also augments more strongly as images grow. The model
    resizes the batches. Validation always uses the full size. With `compile` in the trainer, each
    new size is compiled.

    Registered as a `TrainerCallback` with name "progressive_resizing".

    # Parameters

    serialization_dir : `str`
        This argument does not get an entry in a configuration file.
    initial_size : `int`, required
        The shorter side in pixels of the first epoch's images.
    final_size : `int`, required
        The full size, which the training transforms produce.
    initial_epochs : `int`, optional (default = `1`)
        The number of epochs with the initial size. After them the size grows by about the same
        amount in each epoch.
    full_size_epochs : `int`, optional (default = `1`)
        The number of final epochs with full size, 1 or more.
    multiple_of : `int`, optional (default = `32`)
        Sizes are rounded down to a multiple of this, which should be the stride of the network.

    # Raises

    `ConfigurationError` when training starts, if the model has no `set_training_size`, or if there
    are too few epochs.
    """

    def __init__(
        self,
        serialization_dir: str,
        initial_size: int,
        final_size: int,
        initial_epochs: int = 1,
        full_size_epochs: int = 1,
        multiple_of: int = 32,
    ) -> None:
        super().__init__(serialization_dir)
        for key, value in (
            ("initial_epochs", initial_epochs),
            ("full_size_epochs", full_size_epochs),
            ("multiple_of", multiple_of),
        ):
            if value < 1:
                raise ConfigurationError(
                    f"{key} of the callback 'progressive_resizing' is {value}; expected at least 1"
                )
        if initial_size % multiple_of or not 0 < initial_size < final_size:
            raise ConfigurationError(
                f"initial_size of the callback 'progressive_resizing' is {initial_size}; expected "
                f"a multiple of {multiple_of} (multiple_of) below {final_size} (final_size)"
            )
        self.initial_size = initial_size
        self.final_size = final_size
        self.initial_epochs = initial_epochs
        self.full_size_epochs = full_size_epochs
        self.multiple_of = multiple_of

    def size(self, epoch: int, num_epochs: int) -> Optional[int]:
        """Return the size of images in an epoch of `num_epochs`; `None` is the full size."""
        # It grows after each epoch from the last of the initial size to the first of the full size.
        steps = num_epochs - self.full_size_epochs - self.initial_epochs + 1
        step = max(0, epoch - self.initial_epochs + 1)
        if step >= steps:
            return None
        size = self.initial_size + step * (self.final_size - self.initial_size) // steps
        return size // self.multiple_of * self.multiple_of

    def on_start(
        self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if not isinstance(trainer.model, TrainableClassifier):
            raise ConfigurationError(
                f"model is a {type(trainer.model).__name__}, which has no set_training_size(); "
                "expected a model whose images the callback 'progressive_resizing' can resize"
            )
        if num_epochs(trainer) < self.initial_epochs + self.full_size_epochs:
            raise ConfigurationError(
                f"trainer.num_epochs is {num_epochs(trainer)}; expected at least "
                f"{self.initial_epochs + self.full_size_epochs}, the initial_epochs and the "
                "full_size_epochs of the callback 'progressive_resizing'"
            )
        self._resize(trainer, epochs_before_start(trainer))

    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        self._resize(trainer, epoch + 1)

    def on_end(self, trainer: GradientDescentTrainer, *args: Any, **kwargs: Any) -> None:
        trainer.model.set_training_size(None)

    def _resize(self, trainer: GradientDescentTrainer, epoch: int) -> None:
        trainer.model.set_training_size(self.size(epoch, num_epochs(trainer)))
