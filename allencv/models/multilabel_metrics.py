import logging
from typing import Any, Dict, List, Optional, Tuple

import torch
from allennlp.nn.util import dist_reduce_sum

from allencv.predictions.all_ranks import gathered, in_order
from allencv.training.metric_counts import KeepsCounts

logger = logging.getLogger(__name__)


class MultiLabelMetrics(KeepsCounts):
    """
    Metrics for any number of labels per image. A label is predicted if its probability is above a
    threshold:

    * `micro_f1`: the F1 of all decisions together;
    * `macro_f1`: the mean F1 over the labels;
    * `hamming_loss`: the share of decisions that are wrong;
    * `subset_accuracy`: the share of images without a wrong decision.

    In evaluation, from the probabilities of all images:

    * `mAP`: the mean average precision over the labels, as in scikit-learn.

    A label that no image has is left out of `mAP` and `macro_f1`, with a warning. If no image has a
    label, both are 0. Nothing is read from the device before `get_metric`.
    """

    NAMES = ("mAP", "micro_f1", "macro_f1", "hamming_loss", "subset_accuracy")

    def __init__(self, labels: List[str]) -> None:
        self._labels = labels
        self.by_label: Dict[str, Dict[str, float]] = {}
        """
        For each label, of the images up to the last reset: `support` (how many have it),
        `precision`, `recall`, `f1`, `threshold`, and `average_precision` if known.
        """
        self._has_warned = False
        self._counts: Optional[torch.Tensor] = None
        self._kept: List[Optional[Tuple[torch.Tensor, torch.Tensor]]] = []

    def __call__(
        self,
        probs: torch.Tensor,
        targets: torch.Tensor,
        thresholds: torch.Tensor,
        keep: bool,
    ) -> None:
        """
        Count a batch: `probs` and `targets` (0 or 1) are `(batch, labels)`, `thresholds`
        `(labels,)`. If `keep`, the probabilities are kept until the next reset.
        """
        probs = probs.detach()
        counts = _count(probs, targets, thresholds)
        self._counts = counts if self._counts is None else self._counts + counts
        if keep:
            self._kept.append((probs, targets))

    def pass_turn(self) -> None:
        """Keep the turn of a batch in evaluation that has no image."""
        self._kept.append(None)

    def kept(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """
        Return the kept probabilities and targets of all ranks, in the order of a single process.
        All ranks must call this.
        """
        mine = [each and (each[0].cpu(), each[1].cpu().long()) for each in self._kept]
        none = torch.empty(0, len(self._labels))
        batches = [(none, none.long()), *in_order(gathered(mine))]
        return torch.cat([each[0] for each in batches]), torch.cat([each[1] for each in batches])

    def get_metric(self, thresholds: torch.Tensor, reset: bool = False) -> Dict[str, float]:
        """
        Return the metrics since the last reset. With `reset` they cover all ranks, each of which
        must call this. Kept probabilities then add `mAP` and use `thresholds`. Without `reset`
        they cover this process, with the thresholds of each call.
        """
        if not reset:
            return {} if self._counts is None else _summarize(self._counts.cpu())[0]
        probs, targets = self.kept()
        counts = self._all_counts() if len(probs) == 0 else _count(probs, targets, thresholds.cpu())
        self.reset()
        if counts is None:
            return {}
        metrics, by_label = _summarize(counts)
        by_label["threshold"] = thresholds.cpu()
        present = by_label["support"] > 0
        if len(probs):
            by_label["average_precision"] = _average_precisions(probs, targets, present)
            total = by_label["average_precision"].sum().item()
            metrics = {"mAP": total / max(int(present.sum()), 1), **metrics}
        self._warn_of_absent(present)
        columns = {name: values.tolist() for name, values in by_label.items()}
        self.by_label = {
            label: {name: values[index] for name, values in columns.items()}
            for index, label in enumerate(self._labels)
        }
        return metrics

    def reset(self) -> None:
        self._counts = None
        self._kept = []

    def state_dict(self) -> Dict[str, Any]:
        """Return what has been counted since the last reset, for a checkpoint."""
        return {"counts": self._counts, "kept": self._kept, "has_warned": self._has_warned}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._counts, self._kept = state_dict["counts"], state_dict["kept"]
        self._has_warned = state_dict["has_warned"]

    def _all_counts(self) -> Optional[torch.Tensor]:
        counts = torch.zeros(3 * len(self._labels) + 2, dtype=torch.long)
        if self._counts is not None:
            counts = self._counts.cpu()
        counts = dist_reduce_sum(counts).cpu()
        return counts if counts[-1] > 0 else None

    def _warn_of_absent(self, present: torch.Tensor) -> None:
        absent = [label for label, is_there in zip(self._labels, present.tolist()) if not is_there]
        if absent and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "No image has %s: left out of mAP and macro_f1", ", ".join(map(repr, absent))
            )


def _count(probs: torch.Tensor, targets: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """
    Count how often each label is predicted correctly, is predicted, and is true; then the images
    without a mistake, and all images. Return one tensor `(3 * labels + 2,)`.
    """
    predicted, there = probs > thresholds, targets.bool()
    rows = torch.stack([predicted & there, predicted, there]).sum(1).flatten()
    exact = (predicted == there).all(-1).sum()
    return torch.cat([rows, exact.view(1), rows.new_full((1,), len(probs))])


def _summarize(counts: torch.Tensor) -> Tuple[Dict[str, float], Dict[str, torch.Tensor]]:
    """Return the metrics, and those of each label `(labels,)`."""
    exact, images = counts[-2:].tolist()
    right, predicted, there = counts[:-2].double().view(3, -1)
    f1 = 2 * right / (predicted + there).clamp(min=1)
    present = there > 0
    wrong = (predicted + there - 2 * right).sum().item()
    metrics = {
        "micro_f1": (2 * right.sum() / (predicted + there).sum().clamp(min=1)).item(),
        "macro_f1": f1[present].mean().item() if present.any() else 0.0,
        "hamming_loss": wrong / max(images * len(there), 1),
        "subset_accuracy": exact / max(images, 1),
    }
    by_label = {
        "support": there.long(),
        "precision": right / predicted.clamp(min=1),
        "recall": right / there.clamp(min=1),
        "f1": f1,
    }
    return metrics, by_label


def _average_precisions(
    probs: torch.Tensor, targets: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Return `(labels,)`, with 0 for a label that no image has."""
    from sklearn.metrics import average_precision_score

    precisions = torch.zeros(len(present), dtype=torch.float64)
    for index in present.nonzero().flatten().tolist():
        precisions[index] = average_precision_score(targets[:, index], probs[:, index])
    return precisions
