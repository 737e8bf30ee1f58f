"""
Ask a trainer what AllenNLP has no public names for. It works for AllenNLP's trainer
"gradient_descent" and for "image". Callbacks use these functions, and no private attributes.
"""

from functools import partial
from typing import Dict, List, Optional

import torch
import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader
from allennlp.nn.util import dist_reduce_sum
from allennlp.training import util as training_util
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.checkpointer import Checkpointer
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.metric_tracker import MetricTracker

from allencv.training.checkpointer import save_state
from allencv.training.metric_tracker import MetricTrackerWithTies


def num_epochs(trainer: GradientDescentTrainer) -> int:
    """Return the number of epochs to train, with those before an interruption."""
    return trainer._num_epochs


def epochs_before_start(trainer: GradientDescentTrainer) -> int:
    """Return the number of epochs that were completed before an interruption."""
    return trainer._start_after_epochs_completed


def callbacks_of(trainer: GradientDescentTrainer) -> List[TrainerCallback]:
    return trainer._callbacks


def checkpointer_of(trainer: GradientDescentTrainer) -> Optional[Checkpointer]:
    return trainer._checkpointer


def validation_loader_of(trainer: GradientDescentTrainer) -> Optional[DataLoader]:
    return trainer._validation_data_loader


def ran_out_of_patience(trainer: GradientDescentTrainer) -> bool:
    """Return whether training has ended because no epoch was better for a while."""
    tracker = trainer._metric_tracker
    is_over = isinstance(tracker, MetricTrackerWithTies) and tracker.is_over
    return tracker.should_stop_early() and not is_over


def has_moving_average(trainer: GradientDescentTrainer) -> bool:
    return trainer._moving_average is not None


def begin_moving_average(trainer: GradientDescentTrainer) -> None:
    """Let the moving average, if there is one, begin with the current weights."""
    average = trainer._moving_average
    if average is not None:
        for name, parameter in average._parameters:
            average._shadows[name].copy_(parameter.detach())


def needs_all_gradients(trainer: GradientDescentTrainer) -> bool:
    """Return whether a step fails if a trainable parameter has no gradient, in DDP training."""
    wrapped = trainer._ddp_wrapped_model
    return wrapped is not None and not getattr(wrapped.model, "find_unused_parameters", False)


def validate(trainer: GradientDescentTrainer, epoch: int) -> Dict[str, float]:
    """
    Return the validation metrics of the current weights, as at the end of an epoch. In distributed
    training all ranks must call this.
    """
    with torch.no_grad():
        loss, penalty, count = trainer._validation_loss(epoch)
    return training_util.get_metrics(
        trainer.model,
        dist_reduce_sum(loss),
        None if penalty is None else dist_reduce_sum(penalty),
        batch_loss=None,
        batch_reg_loss=None,
        num_batches=dist_reduce_sum(count),
        reset=True,
    )


def best_metrics(trainer: GradientDescentTrainer) -> Dict[str, float]:
    """Return the validation metrics of the best epoch; nothing without validation data."""
    return trainer._metric_tracker.best_epoch_metrics


def score_of(trainer: GradientDescentTrainer, metrics: Dict[str, float]) -> float:
    """Return the score that decides which epoch is the best: the higher the better."""
    return float(trainer._metric_tracker.combined_score(metrics))


def reaches_best(trainer: GradientDescentTrainer, metrics: Dict[str, float]) -> bool:
    """Return whether validation metrics are as good as those of the best epoch, or better."""
    tracker = trainer._metric_tracker
    best = tracker.best_epoch_metrics
    # Not the tracker's own score, which depends on the loss too: it only breaks ties.
    score = partial(MetricTracker.combined_score, tracker)
    return not best or bool(score(metrics) >= score(best))


def save_as_best(trainer: GradientDescentTrainer, path: str) -> None:
    """
    Write the weights to `path` and make them the result of the run. In distributed training all
    ranks must call this; the first writes.
    """
    if trainer._primary:
        save_state(trainer.model.state_dict(), path)
    if is_distributed():
        dist.barrier()
    trainer._best_model_filename = path
