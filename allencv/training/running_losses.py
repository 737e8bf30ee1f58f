import math
from typing import Any, Dict, List, Optional

import torch
from allennlp.nn.util import dist_reduce_sum


class RunningLosses:
    """
    The losses of an epoch. They stay on their device until somebody reads them, so that no step
    waits for one before it.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.first_bad: Optional[int] = None
        """The number of the first step whose loss is not finite, as far as has been read."""
        self.bad_value = 0.0
        self._reg_total: Optional[float] = None
        self._last: Dict[str, float] = {}
        # Shape of each: () or (2,), the loss and the penalty in it
        self._unread: List[torch.Tensor] = []

    def add(self, outputs: List[Dict[str, Any]]) -> None:
        """Adds the batches of one step, whose losses are shares of the step's."""
        losses = [each["loss"].detach() for each in outputs]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        if "reg_loss" in outputs[-1]:
            loss = torch.stack([loss, outputs[-1]["reg_loss"].detach()])
        self._unread.append(loss)
        self.count += 1

    def read(self) -> Dict[str, float]:
        """The mean loss so far, and the loss of the last step. Waits for the device."""
        if self._unread:
            first = self.count - len(self._unread)
            for number, values in enumerate(torch.stack(self._unread).tolist(), start=first):
                loss, *penalty = values if isinstance(values, list) else [values]
                self.total += loss
                self._last = {"batch_loss": loss}
                for each in penalty:
                    self._reg_total = each + (self._reg_total or 0.0)
                    self._last["batch_reg_loss"] = each
                if self.first_bad is None and not math.isfinite(loss):
                    self.first_bad, self.bad_value = number, loss
            self._unread = []
        if self.count == 0:
            return {}
        metrics = {**self._last, "loss": self.total / self.count}
        if self._reg_total is not None:
            metrics["reg_loss"] = self._reg_total / self.count
        return metrics

    def state_dict(self) -> Dict[str, Any]:
        """Return the losses so far, for a checkpoint. Waits for the device."""
        self.read()
        return dict(vars(self))

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        vars(self).update(state_dict)

    def read_all_ranks(self) -> Dict[str, float]:
        """The mean losses over all ranks, without those of the last step."""
        self.read()
        count = dist_reduce_sum(self.count)
        if count == 0:
            return {}
        metrics = {"loss": float(dist_reduce_sum(self.total) / count)}
        if self._reg_total is not None:
            metrics["reg_loss"] = float(dist_reduce_sum(self._reg_total) / count)
        return metrics
