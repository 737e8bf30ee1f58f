import logging
import os
from typing import Any, Dict, Iterator, List, Optional

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.nn.util import dist_reduce_sum
from allennlp.training import util as training_util
from allennlp.training.callbacks import TrainerCallback
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.common.checks import CheckedFromParams
from allencv.training.checkpointer import load_state, save_state
from allencv.training.protocols import SeekableLoader
from allencv.training.running_losses import count_images

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

    def __init__(self, serialization_dir: str, count: int = 5) -> None:
        super().__init__(serialization_dir)
        if count < 2:
            raise ConfigurationError(
                f"count of the callback 'checkpoint_averaging' is {count}; expected at least 2"
            )
        self.count = count

    def on_start(self, trainer: Any, is_primary: bool = True, **kwargs: Any) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        checkpointer = trainer._checkpointer
        if trainer._moving_average is not None:
            raise ConfigurationError(
                "trainer.moving_average and the callback 'checkpoint_averaging' both average the "
                "weights; expected one of them"
            )
        if checkpointer is None or not checkpointer._save_completed_epochs:
            raise ConfigurationError(
                "trainer.checkpointer saves no checkpoint at the end of an epoch; expected one, "
                "because the callback 'checkpoint_averaging' averages them"
            )
        if checkpointer.state_is_sharded:
            raise ConfigurationError(
                "trainer.ddp_accelerator spreads the weights over the processes; expected one "
                "that does not, as the callback 'checkpoint_averaging' averages whole checkpoints"
            )
        kept = checkpointer._keep_most_recent_by_count
        unlimited = kept is None and checkpointer._keep_most_recent_by_age is None
        if not unlimited and (kept or 0) < self.count:
            raise ConfigurationError(
                f"trainer.checkpointer.keep_most_recent_by_count is {kept}; expected at least "
                f"{self.count}, the count of the callback 'checkpoint_averaging'"
            )

    def on_end(
        self,
        trainer: Any,
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if metrics is None:  # training has failed, or was interrupted
            return
        checkpointer = trainer._checkpointer
        points = sorted(point for point in checkpointer._find_all_checkpoints() if point[1] == 0)
        points = points[-self.count :]
        if len(points) < 2:
            logger.warning("Nothing is averaged: %d epochs have a checkpoint", len(points))
            return
        best = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        averaged = average_states(
            [load_state(checkpointer._model_state_path(*point)) for point in points]
        )
        trainer.model.load_state_dict(averaged)
        _estimate_statistics(trainer)
        metrics["averaged_epochs"] = [completed - 1 for completed, _ in points]
        is_used = True
        if trainer._validation_data_loader is not None:
            validated = _validate(trainer, epoch)
            metrics |= {f"averaged_validation_{key}": value for key, value in validated.items()}
            tracker = trainer._metric_tracker
            is_used = bool(tracker.combined_score(validated) >= tracker._best_so_far)
        metrics["averaged_weights_used"] = is_used
        logger.info(
            "The average of epochs %s is %s",
            [completed for completed, _ in points],
            "used" if is_used else "worse than the best epoch, and not used",
        )
        if not is_used:
            trainer.model.load_state_dict(best)
            return
        path = os.path.join(self.serialization_dir, "best.th")
        if is_primary:
            save_state(trainer.model.state_dict(), path)
        if trainer._distributed:
            dist.barrier()
        trainer._best_model_filename = path


def average_states(states: List[State]) -> State:
    """Return the mean of each tensor over several state dicts, and the last of each counter."""
    return {
        name: sum(state[name] / len(states) for state in states)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }


def _estimate_statistics(trainer: Any) -> None:
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
    if trainer._distributed:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def _batches(trainer: Any) -> Iterator[Any]:
    if isinstance(trainer.data_loader, SeekableLoader):
        trainer.data_loader.seek(trainer._num_epochs)
    return iter(trainer.data_loader)


def _validate(trainer: Any, epoch: Optional[int]) -> Dict[str, float]:
    with torch.no_grad():
        loss, reg_loss, batches = trainer._validation_loss(epoch)
    return training_util.get_metrics(
        trainer.model,
        dist_reduce_sum(loss),
        None if reg_loss is None else dist_reduce_sum(reg_loss),
        batch_loss=None,
        batch_reg_loss=None,
        num_batches=dist_reduce_sum(batches),
        reset=True,
    )
