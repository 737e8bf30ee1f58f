from typing import Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics.metric import Metric


@Metric.register("top_k_accuracy")
class TopKAccuracy(Metric):
    """
    The share of predictions whose gold label is among the `top_k` highest scores.

    The counts stay on the device of the predictions until `get_metric` reads them, so a call never
    makes the host wait for the device. For the same reason labels are not checked: one outside the
    classes (such as -100) counts as wrong, unless it is masked.

    Ties are resolved as in `torch.argmax` (for `top_k` 1) or `torch.topk`.

    Registered as a `Metric` with name "top_k_accuracy".

    # Parameters

    top_k : `int`, optional (default = `1`)
        At least 1 and at most the number of classes.
    """

    supports_distributed = True

    def __init__(self, top_k: int = 1) -> None:
        if top_k < 1:
            raise ConfigurationError(f'top_k is {top_k}; expected at least 1 (key "top_k")')
        self._top_k = top_k
        self._correct: Union[int, torch.Tensor] = 0
        self._total: Union[int, torch.Tensor] = 0

    def __call__(
        self,
        predictions: torch.Tensor,
        gold_labels: torch.Tensor,
        mask: Optional[torch.Tensor] = None,
    ) -> None:
        """
        # Parameters

        predictions : `torch.Tensor`
            Scores of shape `(batch_size, ..., num_classes)`.
        gold_labels : `torch.Tensor`
            Class numbers of shape `(batch_size, ...)`, or soft labels: floats of the shape of
            `predictions`, where the largest is the gold label.
        mask : `torch.Tensor`, optional (default = `None`)
            Booleans of shape `(batch_size, ...)`: predictions count where it is true.
        """
        predictions = predictions.detach()
        num_classes = predictions.size(-1)
        if self._top_k > num_classes:
            raise ConfigurationError(
                f"top_k is {self._top_k}; expected at most the number of classes, "
                f'{num_classes} (key "top_k")'
            )
        if gold_labels.is_floating_point() and gold_labels.shape == predictions.shape:
            gold_labels = gold_labels.argmax(-1)
        if gold_labels.shape != predictions.shape[:-1] or gold_labels.is_floating_point():
            raise ConfigurationError(
                f"gold_labels are {gold_labels.dtype} of shape {tuple(gold_labels.shape)}; "
                f"expected integers of shape {tuple(predictions.shape[:-1])} or floats of shape "
                f"{tuple(predictions.shape)}"
            )
        if mask is not None and mask.shape != gold_labels.shape:
            raise ConfigurationError(
                f"mask is of shape {tuple(mask.shape)}; expected {tuple(gold_labels.shape)}"
            )

        if self._top_k == 1:
            hits = predictions.argmax(-1) == gold_labels
        else:
            top = predictions.topk(self._top_k, dim=-1).indices
            hits = (top == gold_labels.unsqueeze(-1)).any(-1)
        if mask is None:
            self._total = self._total + hits.numel()
        else:
            hits = hits & mask
            self._total = self._total + mask.sum()
        self._correct = self._correct + hits.sum()

    def get_metric(self, reset: bool = False) -> float:
        """
        Return the accuracy since the last reset, 0 before any prediction.

        In distributed training `reset=True` sums the counts of all processes, so every process must
        call it, as the trainer does at the end of an epoch. With `reset=False` this is the accuracy
        of this process alone: in the middle of an epoch the processes may have seen different
        numbers of batches, and one that waited for the others could wait forever.
        """
        counts = torch.tensor([int(self._correct), int(self._total)])
        if reset:
            counts = dist_reduce_sum(counts)
            self.reset()
        correct, total = counts.tolist()
        return correct / total if total > 0 else 0.0

    def reset(self) -> None:
        self._correct = 0
        self._total = 0
