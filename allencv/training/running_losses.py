import math
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from allennlp.data import TensorDict
from allennlp.training.util import get_batch_size

from allencv.predictions.all_ranks import gathered

Number = Union[int, float, torch.Tensor]

LOSS_WEIGHT = "loss_weight"
"""The key in a model's outputs for the weight of its loss, if not the number of images."""


class RunningLosses:
    """
    The mean loss of an epoch over its images, whatever the batch sizes. The weight of a batch is
    its number of images, or the model's output `weight_key`: with class weights, the sum of the
    weights of its images.

    The losses stay on their device until they are read, so that no step waits for the one before.
    The sums are in float64, on any number of ranks. A sum depends on its order only in its last
    digits; a batch's loss, in float32, depends on which images are in the batch.
    """

    def __init__(self, weight_key: str = LOSS_WEIGHT) -> None:
        self._weight_key = weight_key
        self.steps = 0
        self.total = 0.0
        """The sum of loss times weight, of what has been read."""
        self.weight = 0.0
        self.first_bad: Optional[int] = None
        """The first step whose loss is not finite, of what has been read."""
        self.bad_value = 0.0
        self._reg_total: Optional[float] = None
        self._last: Dict[str, float] = {}
        # The loss of each step, its weight, and the penalty in the loss
        self._unread: List[Tuple[torch.Tensor, Number, Optional[torch.Tensor]]] = []

    def add(self, outputs: List[Dict[str, Any]], images: List[int]) -> None:
        """
        Add the batches of one step.

        # Parameters

        outputs : `List[Dict[str, Any]]`
            The model's outputs for each batch. The loss of the step is the mean of their losses,
            by their weights.
        images : `List[int]`
            The number of images of each batch.
        """
        weights: List[Number] = [
            each.get(self._weight_key, number) for each, number in zip(outputs, images)
        ]
        loss, weight = outputs[0]["loss"].detach(), weights[0]
        if len(outputs) > 1:
            loss, weight = self._mean([each["loss"].detach() for each in outputs], weights)
        penalty = outputs[-1]["reg_loss"].detach() if "reg_loss" in outputs[-1] else None
        self._unread.append((loss, weight, penalty))
        self.steps += 1

    @staticmethod
    def _mean(of_batches: List[torch.Tensor], weights: List[Number]) -> Tuple[torch.Tensor, Number]:
        """Return the weighted mean of the losses of some batches, and the sum of the weights."""
        # Shape: (batches,)
        losses = torch.stack(of_batches).float()
        # A number is filled in on the device: to copy it there would wait for the device.
        on_device = torch.stack(
            [w if isinstance(w, torch.Tensor) else losses.new_full((), w) for w in weights]
        )
        weight = on_device.sum()
        return (losses * on_device).sum() / torch.where(weight == 0, 1, weight), weight

    def read(self) -> Dict[str, float]:
        """Return the mean loss so far and the last step's. Wait for the device."""
        if self._unread:
            first = self.steps - len(self._unread)
            steps = zip(*(_numbers(values) for values in zip(*self._unread)))
            for number, (loss, weight, penalty) in enumerate(steps, start=first):
                self.total += loss * weight
                self.weight += weight
                last = {"batch_loss": loss}
                if penalty is not None:
                    self._reg_total = penalty * weight + (self._reg_total or 0.0)
                    last["batch_reg_loss"] = penalty
                if weight or not self._last:  # not of a batch that does not count
                    self._last = last
                if self.first_bad is None and not math.isfinite(loss):
                    self.first_bad, self.bad_value = number, loss
            self._unread = []
        if self.steps == 0:
            return {}
        return self._last | self._means(self.total, self._reg_total, self.weight)

    def state_dict(self) -> Dict[str, Any]:
        """Return the losses so far, for a checkpoint. Wait for the device."""
        self.read()
        return dict(vars(self))

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        vars(self).update(state_dict)

    def read_all_ranks(self) -> Dict[str, float]:
        """
        Return the mean losses over all ranks, without those of the last step. All ranks must call
        this, also one without a step.
        """
        self.read()
        of_ranks = gathered((self.steps, self.total, self._reg_total, self.weight))
        if not any(steps for steps, *_ in of_ranks):
            return {}
        penalties = [penalty for _, _, penalty, _ in of_ranks if penalty is not None]
        total, weight = (sum(each[index] or 0.0 for each in of_ranks) for index in (1, 3))
        return self._means(total, sum(penalties) if penalties else None, weight)

    @staticmethod
    def _means(total: float, reg_total: Optional[float], weight: float) -> Dict[str, float]:
        totals = {"loss": total} if reg_total is None else {"loss": total, "reg_loss": reg_total}
        # Images whose classes all weigh 0 have no loss.
        return {name: each / weight if weight else 0.0 for name, each in totals.items()}


def _numbers(values: Sequence[Any]) -> List[Any]:
    """Return the numbers in tensors, which are read together. Others stay."""
    tensors = [each.float() for each in values if isinstance(each, torch.Tensor)]
    read = iter(torch.stack(tensors).tolist() if tensors else [])
    return [next(read) if isinstance(each, torch.Tensor) else each for each in values]


def count_images(batch: TensorDict) -> int:
    """Return the images of a batch: the length of its first tensor, or 1 without tensors."""
    return next(filter(None, map(get_batch_size, batch.values())), 1)
