"""Tell the user what to do about an error that ends training."""

import os
import traceback
from typing import Any, Dict, List, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from allencv.training.acceleration import is_out_of_memory
from allencv.training.checkpointer import save_state
from allencv.training.errors import TrainingError

NEEDS_SEVERAL = "Expected more than 1 value per channel when training"
"""torch's error for a single image with batch normalisation over 1 x 1 features."""
OF_LIBRARIES = ("allennlp.", "torch.", "timm.")
"""The packages whose classes a user does not debug: an error in one comes from its values."""


def explain(error: Exception, trainer: GradientDescentTrainer) -> Optional[TrainingError]:
    """
    Return an error that tells the user what to do, such as change a key of the config, or `None`
    for an error in the code and for one that says so already.
    """
    if isinstance(error, (ConfigurationError, TrainingError, OSError)):
        return None
    size = getattr(trainer.data_loader, "batch_size", "unknown")
    if is_out_of_memory(error):
        steps = trainer._num_gradient_accumulation_steps
        return TrainingError(
            f"not enough {trainer.cuda_device.type} memory for data_loader.batch_size "
            f"{size}: lower it, and raise trainer.num_gradient_accumulation_steps (now {steps})"
            " as much, so that a step has as many images as before; batch normalisation and "
            f"class weights will see the smaller batches ({str(error).splitlines()[0]})"
        )
    if isinstance(error, ValueError) and NEEDS_SEVERAL in str(error):
        return TrainingError(
            "a batch has a single image, but batch normalisation over 1 x 1 features "
            f"needs two images or more (data_loader.batch_size is {size}): expected a larger "
            "batch_size, larger images, or more images"
        )
    key = _key_at_fault(error, trainer)
    if key is None:
        return None
    first, *_ = str(error).splitlines() or [""]
    reason = f"{type(error).__name__}: {first}".removesuffix(": ")
    return TrainingError(f"{key} fails ({reason}); expected other values there, or another type")


def not_finite(
    trainer: GradientDescentTrainer, loss: float, step: int, metadata: List[Any]
) -> TrainingError:
    """
    Save the model and the optimizer after a `loss` that is not finite, in `not_finite.th`. Return
    an error with the images of the step, from the `metadata` of its batches.
    """
    images = [str(each["image"]) for each in metadata if isinstance(each, dict)]
    saved = "the model is not saved, as there is no serialization_dir"
    if trainer._serialization_dir is not None and trainer._primary:
        file = os.path.join(trainer._serialization_dir, "not_finite.th")
        saved = f"the model is saved in {file}"
        state = {
            "epoch": trainer._epochs_completed,
            "step": step,
            "images": images,
            "model": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
        }
        save_state(state, file)
    named = ", ".join(images[:3]) + (f" and {len(images) - 3} more" if images[3:] else "")
    return TrainingError(
        f"the loss is {loss} at step {step} of epoch {trainer._epochs_completed + 1} "
        f"({named or 'unnamed images'}): try a lower trainer.optimizer.lr, trainer.grad_norm 1.0, "
        f"or trainer.use_amp false; {saved}"
    )


def _key_at_fault(error: Exception, trainer: GradientDescentTrainer) -> Optional[str]:
    """Return the config key of the library part whose method raised an error."""
    keys: Dict[int, str] = {
        id(trainer.data_loader): "data_loader",
        id(trainer._validation_data_loader): "validation_data_loader",
        id(getattr(trainer.data_loader, "batch_sampler", None)): "data_loader.batch_sampler",
        id(trainer.optimizer): "trainer.optimizer",
        id(trainer._learning_rate_scheduler): "trainer.learning_rate_scheduler",
        id(trainer._momentum_scheduler): "trainer.momentum_scheduler",
        id(trainer._moving_average): "trainer.moving_average",
        **{id(each): "trainer.callbacks" for each in trainer._callbacks},
    }
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        part = frame.f_locals.get("self")
        if part is None or id(part) not in keys:
            continue
        kind = type(part)
        is_library = frame.f_globals.get("__name__", "").startswith(OF_LIBRARIES)
        found = f"{keys[id(part)]} ({kind.__name__})" if is_library else None
    return found
