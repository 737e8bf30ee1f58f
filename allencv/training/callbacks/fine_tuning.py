import logging
from typing import Any, Dict, List, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.training.callbacks import TrainerCallback
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.common.checks import CheckedFromParams
from allencv.training.protocols import StagedModel

logger = logging.getLogger(__name__)


class FineTuning(CheckedFromParams, TrainerCallback):
    """
    The base of the callbacks that freeze the first stages of a pretrained backbone, and train the
    head with the others. A subclass says how many stages are trained in each epoch. Epochs count
    from 0, as in AllenNLP's logs.

    The stages are those of the model's `get_stages()`, from the input to the output; the last is
    the head, which is always trained. Freezing takes away `requires_grad` when training starts, and
    unfreezing gives it back: the optimizer, which has been built before, holds all parameters, and
    passes over those that have no gradient; neither momentum nor weight decay moves them. An
    interrupted run goes on with the stages of its epoch.

    In distributed training torch has to be told that the gradients of some parameters will not
    come: `"ddp_accelerator": {"type": "torch", "find_unused_parameters": true}` in the trainer.

    # Parameters

    serialization_dir : `str`
        This argument does not get an entry in a configuration file.
    train_bn : `bool`, optional (default = `False`)
        Whether the batch normalisation of frozen stages is trained all the same. If not, it
        normalises with its running statistics and leaves them as they are.

    # Raises

    `ConfigurationError` when training starts, if the model has no `get_stages`, or if a stage that
    is to be trained was frozen before the optimizer was built, which then does not know of it.
    """

    def __init__(self, serialization_dir: str, train_bn: bool = False) -> None:
        super().__init__(serialization_dir)
        self.train_bn = train_bn
        self._num_trained: Optional[int] = None

    def num_trained_stages(self, epoch: int, num_stages: int) -> int:
        """How many of the backbone's `num_stages` are trained in an epoch: the last so many."""
        raise NotImplementedError

    def on_start(self, trainer: Any, is_primary: bool = True, **kwargs: Any) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        self._num_trained = None
        self._check(trainer)
        self._freeze(trainer, trainer._start_after_epochs_completed)

    def on_epoch(
        self,
        trainer: Any,
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        self._freeze(trainer, epoch + 1)

    def _freeze(self, trainer: Any, epoch: int) -> None:
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
            epoch,
            num_trained,
            len(stages),
        )

    def _check(self, trainer: Any) -> None:
        name = type(self).__name__
        others = [each for each in trainer._callbacks if isinstance(each, FineTuning)]
        if len(others) > 1:
            raise ConfigurationError(
                f"trainer.callbacks has {' and '.join(type(each).__name__ for each in others)}; "
                "expected one that freezes stages"
            )
        wrapped = trainer._ddp_wrapped_model
        if wrapped is not None and not getattr(wrapped.model, "find_unused_parameters", False):
            raise ConfigurationError(
                f"trainer.callbacks has {name}, and training is distributed; expected "
                'trainer.ddp_accelerator to be {"type": "torch", "find_unused_parameters": true}'
            )
        stages = backbone_stages(trainer.model)
        optimized = optimized_parameters(trainer)
        num_trained = self.num_trained_stages(trainer._num_epochs - 1, len(stages))
        for stage in stages[len(stages) - num_trained :]:
            if optimized.isdisjoint(stage.values()):
                raise ConfigurationError(
                    f"trainer.callbacks has {name}, which is to train {next(iter(stage))}, but it "
                    "is frozen already; expected nothing else that freezes stages, such as "
                    "trainer.no_grad, or requires_grad and trainable_layers of an encoder"
                )


def backbone_stages(model: Model) -> List[Dict[str, torch.nn.Parameter]]:
    """The parameters of each stage of the model but the last, which is its head, by name."""
    if not isinstance(model, StagedModel):
        raise ConfigurationError(
            f"model is a {type(model).__name__}, which has no get_stages(); expected a model that "
            "says what its stages are, for trainer.callbacks to freeze"
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


def optimized_parameters(trainer: Any) -> "set[torch.nn.Parameter]":
    """The parameters that the optimizer holds."""
    return {each for group in trainer.optimizer.param_groups for each in group["params"]}


def batch_norm_parameters(model: Model) -> "set[torch.nn.Parameter]":
    """The weights and biases of the batch normalisations."""
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return {parameter for norm in norms for parameter in norm.parameters(recurse=False)}
