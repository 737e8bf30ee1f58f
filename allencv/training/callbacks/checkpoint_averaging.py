import logging
import os
from typing import Any, Dict, Iterator, List, Optional

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import is_distributed
from allennlp.data import TensorDict
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.common.checks import CheckedFromParams
from allencv.training.checkpointer import AtomicCheckpointer
from allencv.training.protocols import SeekableLoader
from allencv.training.running_losses import count_images
from allencv.training.trainer_access import (
    checkpointer_of,
    has_moving_average,
    num_epochs,
    reaches_best,
    save_as_best,
    validate,
    validation_loader_of,
)

logger = logging.getLogger(__name__)

State = Dict[str, torch.Tensor]


@TrainerCallback.register("checkpoint_averaging")
class CheckpointAveraging(CheckedFromParams, TrainerCallback):
    """
    Averages the weights of the last epochs when training ends: stochastic weight averaging (SWA,
    Izmailov et al. 2018, arXiv:1803.05407). This costs nothing while training. It helps most if the
    learning rate stays high to the end.

    The checkpoints of the last epochs are averaged. Their batch normalisation statistics do not fit
    the average, so one more pass over the training images estimates them. Frozen batch
    normalisation keeps its statistics. The average is validated like an epoch. It becomes the model
    of the run and is written to `best.th`, unless it is worse than the best epoch by the trainer's
    `validation_metric`. Without validation data it is always used.

    `metrics.json` has `averaged_epochs` (counted from 0), `averaged_weights_used`, and the
    average's metrics as `averaged_validation_...`; `best_validation_...` are still those of the
    best epoch. All are optimistic, because the same data decided between the weights.

    You can use this or a moving average (`trainer.moving_average`), but not both.

    Registered as a `TrainerCallback` with name "checkpoint_averaging".

    # Parameters

    serialization_dir : `str`
        This argument does not get an entry in a configuration file.
    count : `int`, optional (default = `5`)
        The number of final epochs to average, 2 or more. With fewer epochs, all are averaged. The
        trainer's checkpointer must keep as many
        (`"checkpointer": {"keep_most_recent_by_count": 5}`).

    # Raises

    `ConfigurationError` when training starts, if these checkpoints will not be kept.
    """

    _checkpointer: AtomicCheckpointer

    def __init__(self, serialization_dir: str, count: int = 5) -> None:
        super().__init__(serialization_dir)
        if count < 2:
            raise ConfigurationError(
                f"count of the callback 'checkpoint_averaging' is {count}; expected at least 2"
            )
        self.count = count

    def on_start(
        self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        self._checkpointer = self._find_checkpointer(trainer)

    def on_end(
        self,
        trainer: GradientDescentTrainer,
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if metrics is None or epoch is None:  # training has failed, or was interrupted
            return
        epochs = self._checkpointer.completed_epochs()[-self.count :]
        if len(epochs) < 2:
            logger.warning("Nothing is averaged: %d epochs have a checkpoint", len(epochs))
            return
        best = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        averaged = average_states([self._checkpointer.load_model_state(each) for each in epochs])
        trainer.model.load_state_dict(averaged)
        _estimate_statistics(trainer)
        metrics["averaged_epochs"] = [each - 1 for each in epochs]
        is_used = True
        if validation_loader_of(trainer) is not None:
            validated = validate(trainer, epoch)
            metrics |= {f"averaged_validation_{key}": value for key, value in validated.items()}
            is_used = reaches_best(trainer, validated)
        metrics["averaged_weights_used"] = is_used
        logger.info(
            "The average of epochs %s is %s",
            epochs,
            "used" if is_used else "worse than the best epoch, and not used",
        )
        if is_used:
            save_as_best(trainer, os.path.join(self.serialization_dir, "best.th"))
        else:
            trainer.model.load_state_dict(best)

    def _find_checkpointer(self, trainer: GradientDescentTrainer) -> AtomicCheckpointer:
        """Return the trainer's checkpointer. Raise unless it will keep the epochs to average."""
        if not isinstance(trainer, GradientDescentTrainer):
            raise ConfigurationError(
                f"trainer.type makes a {type(trainer).__name__}; expected 'image' or "
                "'gradient_descent', whose epochs the callback 'checkpoint_averaging' can average"
            )
        checkpointer = checkpointer_of(trainer)
        if has_moving_average(trainer):
            raise ConfigurationError(
                "trainer.moving_average and the callback 'checkpoint_averaging' both average the "
                "weights; expected one of them"
            )
        if checkpointer is not None and not isinstance(checkpointer, AtomicCheckpointer):
            raise ConfigurationError(
                f"trainer.checkpointer.type makes a {type(checkpointer).__name__}; expected "
                "'default', whose checkpoints the callback 'checkpoint_averaging' can average"
            )
        if checkpointer is None or not checkpointer.saves_completed_epochs:
            raise ConfigurationError(
                "trainer.checkpointer saves no checkpoint at the end of an epoch; expected one, "
                "because the callback 'checkpoint_averaging' averages them"
            )
        if checkpointer.state_is_sharded:
            raise ConfigurationError(
                "trainer.ddp_accelerator spreads the weights over the processes; expected one "
                "that does not, as the callback 'checkpoint_averaging' averages whole checkpoints"
            )
        if not checkpointer.keeps(self.count):
            raise ConfigurationError(
                "trainer.checkpointer.keep_most_recent_by_count is "
                f"{checkpointer.keep_most_recent_by_count}; expected at least {self.count}, the "
                "count of the callback 'checkpoint_averaging'"
            )
        return checkpointer


def average_states(states: List[State]) -> State:
    """Return the mean of each tensor over several state dicts, and the last of each counter."""
    return {
        name: sum(state[name] / len(states) for state in states)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }


def _estimate_statistics(trainer: GradientDescentTrainer) -> None:
    """
    Estimate the statistics of batch normalisation from the training images of one epoch: the mean
    of the batches' statistics, weighted by their images. Frozen statistics stay unchanged, and
    normalise the features that the others are estimated from.
    """
    model = trainer.model
    model.train()  # what is frozen stays in evaluation mode
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    is_cuda = trainer.cuda_device.type == "cuda"
    seen = 0
    with (
        torch.random.fork_rng([trainer.cuda_device] if is_cuda else []),
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),  # it would compile for each value of momentum
    ):
        torch.manual_seed(0)  # the same draws after an interruption
        for batch in _batches(trainer):
            images = count_images(batch)
            seen += images
            for norm in norms:
                norm.momentum = images / seen
            trainer.batch_outputs(batch, for_training=False)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.get_metrics(reset=True)
    if is_distributed():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def _batches(trainer: GradientDescentTrainer) -> Iterator[TensorDict]:
    if isinstance(trainer.data_loader, SeekableLoader):
        trainer.data_loader.seek(num_epochs(trainer))
    return filter(None, trainer.data_loader)  # a batch may be without images
