import logging
from typing import Any, Dict

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from torch.optim.lr_scheduler import OneCycleLR

from allencv.common.nearest_names import not_one_of
from allencv.training.learning_rate_schedulers.schedule import Schedule

logger = logging.getLogger(__name__)


@LearningRateScheduler.register("one_cycle")
class OneCycle(Schedule):
    """
    The one-cycle policy (Smith and Topin 2018, https://arxiv.org/abs/1708.07120), by torch's
    `OneCycleLR`. The learning rate rises from a small part of the optimizer's to the full value,
    and falls to almost 0.

    Meanwhile the momentum of the optimizer falls from `max_momentum` to `base_momentum`, and rises
    again. It is the first of the `betas`, or the `momentum` of an optimizer without them (SGD).
    Unless `cycle_momentum` is false, the value in the config is replaced, even if it is 0.

    Registered as a `LearningRateScheduler` with name "one_cycle".

    # Parameters

    pct_start : `float`, optional (default = `0.3`)
        The part of training in which the learning rate rises, from 0 to 1.
    anneal_strategy : `str`, optional (default = `"cos"`)
        The shape of rise and fall: "cos" or "linear".
    cycle_momentum : `bool`, optional (default = `True`)
        Whether the momentum falls while the learning rate rises, and the other way round.
    base_momentum : `float`, optional (default = `0.85`)
        The momentum when the learning rate is highest.
    max_momentum : `float`, optional (default = `0.95`)
        The momentum at the beginning and at the end.
    div_factor : `float`, optional (default = `25.0`)
        The first learning rate is that of the optimizer divided by this.
    final_div_factor : `float`, optional (default = `1e4`)
        The last learning rate is the first divided by this.
    three_phase : `bool`, optional (default = `False`)
        Whether to fall to the first learning rate in the time that the rise took, and to the last
        one in the remaining time. Then `pct_start` is at most 0.5.

    The others are those of `Schedule`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_epochs, **kwargs)
        if anneal_strategy not in ("cos", "linear"):
            raise not_one_of(
                "learning_rate_scheduler.anneal_strategy", anneal_strategy, ("cos", "linear")
            )
        highest = 0.5 if three_phase else 1
        # A rise that ends with the first update has no length, by which torch would divide.
        if not 0 <= pct_start <= highest or pct_start * self.num_updates == 1:
            raise ConfigurationError(
                f"learning_rate_scheduler.pct_start is {pct_start}; expected a number from 0 to "
                f"{highest}, but not exactly 1 of the {self.num_updates} updates"
            )
        for key, value, is_right, expected in (
            ("div_factor", div_factor, div_factor > 0, "a number above 0"),
            ("final_div_factor", final_div_factor, final_div_factor > 0, "a number above 0"),
            ("base_momentum", base_momentum, 0 <= base_momentum < 1, "a number in [0, 1)"),
            ("max_momentum", max_momentum, 0 <= max_momentum < 1, "a number in [0, 1)"),
        ):
            if not is_right:
                raise ConfigurationError(
                    f"learning_rate_scheduler.{key} is {value}; expected {expected}"
                )
        momentum = "betas" if "betas" in optimizer.defaults else "momentum"
        if cycle_momentum and momentum not in optimizer.defaults:
            raise ConfigurationError(
                "learning_rate_scheduler.cycle_momentum is true, and trainer.optimizer has neither "
                "momentum nor betas; expected false"
            )
        if cycle_momentum:
            logger.info(
                "The learning rate schedule moves the momentum from %s to %s and back, and "
                "replaces the optimizer's %s %s",
                max_momentum,
                base_momentum,
                momentum,
                optimizer.defaults[momentum],
            )
        self._is_stale = False
        self._cycle = OneCycleLR(
            optimizer,
            max_lr=self.base_values,
            total_steps=self.num_updates,
            pct_start=float(pct_start),
            anneal_strategy=anneal_strategy,  # type: ignore[arg-type]
            cycle_momentum=cycle_momentum,
            base_momentum=base_momentum,
            max_momentum=max_momentum,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            three_phase=three_phase,
        )

    def set_update(self, update: int) -> None:
        # When the cycle is over, its last learning rate stays.
        update = min(update, self.num_updates - 1)
        if update != self._cycle.last_epoch or self._is_stale:
            self._is_stale = False
            self._cycle.last_epoch = update - 1
            self._cycle.step()

    def state_dict(self) -> Dict[str, Any]:
        state = super().state_dict()
        return {**state, "_cycle": self._cycle.state_dict()}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        state = dict(state_dict)
        self._cycle.load_state_dict(state.pop("_cycle"))
        self._is_stale = self.by_epoch  # the cycle may have another length now
        super().load_state_dict(state)
