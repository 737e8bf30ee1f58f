"""Callbacks that freeze the first stages of a pretrained backbone, and unfreeze them later."""

import logging
from itertools import pairwise
from typing import Any, Dict, List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.common.checks import CheckedFromParams
from allencv.training.protocols import StagedModel
from allencv.training.trainer_access import (
    callbacks_of,
    epochs_before_start,
    needs_all_gradients,
    num_epochs,
)

logger = logging.getLogger(__name__)

ALL = -1
"""The number that means all stages."""


class FineTuning(CheckedFromParams, TrainerCallback):
    """
    The base of the callbacks that freeze the first stages of a pretrained backbone, and train the
    head with the others. Subclasses define how many stages are trained in each epoch. Their keys
    count epochs from 0; the log counts from 1.

    The model's `get_stages()` lists the stages from the input to the output. The last is the head,
    which is always trained. Freezing and unfreezing set the `requires_grad` of parameters. The
    optimizer holds all parameters, and skips those without a gradient: neither momentum nor weight
    decay moves them. An interrupted run resumes with the stages of its epoch.

    In distributed training, frozen parameters have no gradients to exchange. The trainer then needs
    `"ddp_accelerator": {"type": "torch", "find_unused_parameters": true}`.

    # Parameters

    serialization_dir : `str`
        This argument does not get an entry in a configuration file.
    train_bn : `bool`, optional (default = `False`)
        Whether to train the batch normalisation of frozen stages. If not, it normalises with its
        running statistics and does not change them.

    # Raises

    `ConfigurationError` when training starts, if the model has no `get_stages`, or if the optimizer
    lacks a stage to be trained, because it was frozen before.
    """

    def __init__(self, serialization_dir: str, train_bn: bool = False) -> None:
        super().__init__(serialization_dir)
        self.train_bn = train_bn
        self._num_trained: Optional[int] = None

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        """Return how many of the backbone's `num_stages`, from the last, an epoch trains."""
        raise NotImplementedError

    def on_start(
        self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        self._num_trained = None
        self._check(trainer)
        self._freeze(trainer, epochs_before_start(trainer))

    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        self._freeze(trainer, epoch + 1)

    def _freeze(self, trainer: GradientDescentTrainer, epoch: int) -> None:
        stages = backbone_stages(trainer.model)
        num_trained = self.num_trained_stages(epoch, len(stages))
        if num_trained == self._num_trained:
            return
        self._num_trained = num_trained
        always_trained = batch_norm_parameters(trainer.model) if self.train_bn else set()
        optimized = optimized_parameters(trainer)
        for number, stage in enumerate(stages, start=1):
            is_trained = number > len(stages) - num_trained
            for parameter in stage.values():
                if parameter in optimized:
                    parameter.requires_grad_(is_trained or parameter in always_trained)
        logger.info(
            "From epoch %d on: training the head and the last %d of the backbone's %d stages",
            epoch + 1,
            num_trained,
            len(stages),
        )

    def _check(self, trainer: GradientDescentTrainer) -> None:
        name = type(self).__name__
        others = [each for each in callbacks_of(trainer) if isinstance(each, FineTuning)]
        if len(others) > 1:
            raise ConfigurationError(
                f"trainer.callbacks has {' and '.join(type(each).__name__ for each in others)}; "
                "expected one that freezes stages"
            )
        if needs_all_gradients(trainer):
            raise ConfigurationError(
                f"trainer.callbacks has {name}, and training is distributed; expected "
                'trainer.ddp_accelerator to be {"type": "torch", "find_unused_parameters": true}'
            )
        stages = backbone_stages(trainer.model)
        optimized = optimized_parameters(trainer)
        num_trained = self.num_trained_stages(num_epochs(trainer) - 1, len(stages))
        for stage in stages[len(stages) - num_trained :]:
            if optimized.isdisjoint(stage.values()):
                raise ConfigurationError(
                    f"trainer.callbacks has {name}, which is to train {next(iter(stage))}, but it "
                    "is frozen already; expected nothing else that freezes stages, such as "
                    "trainer.no_grad, or requires_grad and trainable_layers of an encoder"
                )


@TrainerCallback.register("freeze")
class Freeze(FineTuning):
    """
    Freezes the backbone, or its first stages, and trains the rest. This is fast and hard to overfit
    with few images.

    Registered as a `TrainerCallback` with name "freeze".

    # Parameters

    stages : `int`, optional (default = `None`)
        The number of stages to freeze, from the input; `None` freezes the whole backbone.
    train_bn
        See `FineTuning`.
    """

    def __init__(
        self, serialization_dir: str, stages: Optional[int] = None, train_bn: bool = False
    ) -> None:
        super().__init__(serialization_dir, train_bn)
        self.stages = stages

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        if self.stages is None:
            return 0
        if not 1 <= self.stages <= num_stages:
            raise ConfigurationError(
                f"stages of the callback 'freeze' is {self.stages}; expected 1 to {num_stages}, "
                "the number of the backbone's stages"
            )
        return num_stages - self.stages


@TrainerCallback.register("freeze_unfreeze")
class FreezeUnfreeze(FineTuning):
    """
    Trains the head alone at first, and the whole network from an epoch on. The gradients of an
    untrained head would damage the pretrained backbone (Kumar et al. 2022, arXiv:2202.10054).

    Registered as a `TrainerCallback` with name "freeze_unfreeze".

    # Parameters

    unfreeze_epoch : `int`, required
        The first epoch to train the backbone too, from 0; 1 or more.
    train_bn
        See `FineTuning`.
    """

    def __init__(self, serialization_dir: str, unfreeze_epoch: int, train_bn: bool = False) -> None:
        super().__init__(serialization_dir, train_bn)
        if unfreeze_epoch < 1:
            raise ConfigurationError(
                f"unfreeze_epoch of the callback 'freeze_unfreeze' is {unfreeze_epoch}; expected "
                "at least 1, as the first epoch is 0"
            )
        self.unfreeze_epoch = unfreeze_epoch

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        return 0 if epoch < self.unfreeze_epoch else num_stages


@TrainerCallback.register("gradual_unfreezing")
class GradualUnfreezing(FineTuning):
    """
    Trains the head alone at first, then one more stage every `epochs_per_stage` epochs, from the
    last to the first (Howard and Ruder 2018, "Universal Language Model Fine-tuning",
    arXiv:1801.06146, section 3.3). With too few epochs, the first stages stay frozen.

    Registered as a `TrainerCallback` with name "gradual_unfreezing".

    # Parameters

    epochs_per_stage : `int`, optional (default = `1`)
        The number of epochs before the next stage.
    train_bn
        See `FineTuning`.
    """

    def __init__(
        self, serialization_dir: str, epochs_per_stage: int = 1, train_bn: bool = False
    ) -> None:
        super().__init__(serialization_dir, train_bn)
        if epochs_per_stage < 1:
            raise ConfigurationError(
                f"epochs_per_stage of the callback 'gradual_unfreezing' is {epochs_per_stage}; "
                "expected at least 1"
            )
        self.epochs_per_stage = epochs_per_stage

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        return min(epoch // self.epochs_per_stage, num_stages)


@TrainerCallback.register("unfreeze_milestones")
class UnfreezeMilestones(FineTuning):
    """
    Trains the head alone at first, and more of the last stages from given epochs on.

    Registered as a `TrainerCallback` with name "unfreeze_milestones".

    # Parameters

    milestones : `List[Tuple[int, int]]`, required
        Pairs of an epoch, counted from 0, and the number of final stages to train from then on;
        -1 is all. `[[5, 1], [10, -1]]` trains the last stage from epoch 5 on, and the whole
        backbone from epoch 10 on. Both numbers rise.
    train_bn
        See `FineTuning`.
    """

    def __init__(
        self,
        serialization_dir: str,
        milestones: List[Tuple[int, int]],
        train_bn: bool = False,
    ) -> None:
        super().__init__(serialization_dir, train_bn)
        self.milestones = milestones
        rising = [(0, 0), *((e, float("inf") if n == ALL else n) for e, n in milestones)]
        if not milestones or any(
            not (before[0] < after[0] and before[1] < after[1])
            for before, after in pairwise(rising)
        ):
            raise ConfigurationError(
                f"milestones of the callback 'unfreeze_milestones' is {milestones}; expected pairs "
                "of an epoch and a number of stages (-1: all), both 1 or more and rising"
            )

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        trained = 0
        for milestone, stages in self.milestones:
            if stages > num_stages:
                raise ConfigurationError(
                    f"milestones of the callback 'unfreeze_milestones' has {stages} stages; "
                    f"expected at most {num_stages}, the number of the backbone's stages"
                )
            if epoch >= milestone:
                trained = num_stages if stages == ALL else stages
        return trained


def backbone_stages(model: Model) -> List[Dict[str, torch.nn.Parameter]]:
    """Return the parameters by name of each stage of the model, without the head."""
    if not isinstance(model, StagedModel):
        raise ConfigurationError(
            f"model is a {type(model).__name__}, which has no get_stages(); expected a model with "
            "stages for trainer.callbacks to freeze"
        )
    stages = [
        {
            name: parameter
            for name, parameter in model.named_parameters()
            if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
        }
        for prefixes in model.get_stages()[:-1]
    ]
    if not stages:
        raise ConfigurationError(
            f"model is a {type(model).__name__} without a backbone; expected one for "
            "trainer.callbacks to freeze"
        )
    return stages


def optimized_parameters(trainer: GradientDescentTrainer) -> "set[torch.nn.Parameter]":
    """Return the parameters of the optimizer."""
    return {each for group in trainer.optimizer.param_groups for each in group["params"]}


def batch_norm_parameters(model: Model) -> "set[torch.nn.Parameter]":
    """Return the weights and biases of batch normalisation."""
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return {parameter for norm in norms for parameter in norm.parameters(recurse=False)}
