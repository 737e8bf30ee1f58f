import logging
from typing import Any, Dict, List, Optional, Union

import torch
from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError
from allennlp.nn.util import dist_reduce_sum
from torch.nn import functional as F

from allencv.common.archives import load_archive
from allencv.models.teacher import Teacher
from allencv.training.metric_counts import KeepsCounts
from allencv.training.running_losses import LOSS_WEIGHT

logger = logging.getLogger(__name__)


class Distillation(FromParams, KeepsCounts):
    """
    Trains a model, the student, on the labels of the data and on the predictions of a trained
    model, the teacher: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural
    Network", arXiv:1503.02531. In training the loss becomes

        (1 - alpha) * loss + alpha * temperature ** 2 * divergence

    where `divergence` is the Kullback-Leibler divergence of the student's distribution over labels
    from the teacher's, both softened: the softmax of the logits divided by `temperature`. With
    several labels per image, the divergence of the sigmoids is averaged over the labels. The
    teacher sees the same transformed images as the student. It is not trained. The student's
    archive does not contain it and opens without it.

    # Parameters

    teacher : `str`, required
        The archive of a model of the same kind (`model.tar.gz`, a URL, or the folder of a run),
        with the same labels in any order. It is opened without running code of its own.
    temperature : `float`, optional (default = `2.0`)
        Above 0. A higher value gives the teacher's small probabilities more weight.
    alpha : `float`, optional (default = `0.5`)
        The weight of the teacher against the labels, above 0 and at most 1.
    """

    def __init__(self, teacher: str, temperature: float = 2.0, alpha: float = 0.5) -> None:
        if temperature <= 0:
            raise ConfigurationError(
                f"model.distillation.temperature is {temperature}; expected a number above 0"
            )
        if not 0 < alpha <= 1:
            raise ConfigurationError(
                f"model.distillation.alpha is {alpha}; expected a number in (0, 1]"
            )
        self.teacher = teacher
        self.temperature = temperature
        self.alpha = alpha
        # Not a module of the student: the student's state must not hold it.
        self._model: Optional[Teacher] = None
        self._order: Optional[torch.Tensor] = None
        self._means = {"label_loss": _Mean(), "distillation_loss": _Mean()}

    def load(self, student: Teacher) -> None:
        """
        Open the teacher, if it is not open yet.

        # Raises

        `ConfigurationError` if the teacher is missing or does not fit this student.
        """
        if self._model is not None:
            return
        # The student begins with the same weights as without a teacher.
        with torch.random.fork_rng(devices=[]):
            teacher = load_archive(self.teacher).model
        if not isinstance(teacher, Teacher) or teacher.multi_label is not student.multi_label:
            raise ConfigurationError(
                f"model.distillation.teacher '{self.teacher}' is a {type(teacher).__name__}; "
                f"expected the same kind as its student, a {type(student).__name__}"
            )
        order = self._find_order(student.label_names(), teacher.label_names())
        self._order = None if order == sorted(order) else torch.tensor(order)
        teacher.requires_grad_(False).eval()
        self._model = teacher
        logger.info("The teacher is the %s of %s", type(teacher).__name__, self.teacher)

    def __call__(
        self,
        student: Teacher,
        images: torch.Tensor,
        outputs: Dict[str, Any],
    ) -> torch.Tensor:
        """
        Return the loss of a batch of normalised `images`. The student's `outputs` hold the
        `logits`, the `loss` by the labels, and its weight.
        """
        logits, label_loss = outputs["logits"], outputs["loss"]
        self.load(student)
        with torch.no_grad():
            wanted = self._teach(student, images)
        distance = (kl_of_sigmoids if student.multi_label else kl_of_softmaxes)(
            wanted / self.temperature, logits / self.temperature
        )
        distillation_loss = self.temperature**2 * distance
        weight = outputs.get(LOSS_WEIGHT, len(images))
        self._means["label_loss"].add(label_loss, weight)
        self._means["distillation_loss"].add(distillation_loss, weight)
        return (1 - self.alpha) * label_loss + self.alpha * distillation_loss

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        """Return the two parts of the loss, or nothing without training."""
        means = {name: mean.get(reset) for name, mean in self._means.items()}
        return {name: mean for name, mean in means.items() if mean is not None}

    def state_dict(self) -> Dict[str, Any]:
        """Return the sums of the losses since the last reset, for a checkpoint."""
        return {name: vars(mean) for name, mean in self._means.items()}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, mean in self._means.items():
            vars(mean).update(state_dict[name])

    def _teach(self, student: Teacher, images: torch.Tensor) -> torch.Tensor:
        """Return the teacher's logits in the order of the student's labels."""
        assert self._model is not None
        teacher = self._model
        if teacher.normalize.mean.device != images.device:
            teacher.to(images.device)
            self._order = None if self._order is None else self._order.to(images.device)
        if student.is_channels_last() and not teacher.is_channels_last():
            teacher.to(memory_format=torch.channels_last)
        mean, std = teacher.normalize.mean, teacher.normalize.std
        if not student.normalize.is_like(teacher.normalize):
            images = (images * student.normalize.std + student.normalize.mean - mean) / std
        logits = teacher.score(images)
        return logits if self._order is None else logits.index_select(1, self._order)

    def _find_order(self, wanted: List[str], known: List[str]) -> List[int]:
        """Return the place of each student label among the teacher's."""
        if set(wanted) != set(known):
            raise ConfigurationError(
                f"model.distillation.teacher '{self.teacher}' has other labels than the data: the "
                f"teacher alone has {_listed(set(known) - set(wanted))}; the data alone "
                f"{_listed(set(wanted) - set(known))}; expected the same"
            )
        return [known.index(name) for name in wanted]


def kl_of_softmaxes(wanted: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the divergence of softmax `logits` from softmax `wanted`; both `(batch, labels)`."""
    return F.kl_div(
        logits.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="batchmean"
    )


def kl_of_sigmoids(wanted: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the same for the sigmoid of each label, averaged over images and labels."""
    there = wanted.sigmoid() * (F.logsigmoid(wanted) - F.logsigmoid(logits))
    absent = (-wanted).sigmoid() * (F.logsigmoid(-wanted) - F.logsigmoid(-logits))
    return (there + absent).mean()


def _listed(names: "set[str]") -> str:
    return ", ".join(sorted(names)) or "none"


class _Mean:
    """A weighted mean of numbers on a device, read only when `get` is called."""

    def __init__(self) -> None:
        self._totals: Optional[torch.Tensor] = None  # of value times weight, and of the weights

    def add(self, value: torch.Tensor, weight: Union[int, torch.Tensor]) -> None:
        value = value.detach()
        totals = torch.stack([value * weight, torch.ones_like(value) * weight])
        self._totals = totals if self._totals is None else self._totals + totals

    def get(self, reset: bool) -> Optional[float]:
        if self._totals is None:
            return None
        totals = self._totals
        if reset:
            totals, self._totals = dist_reduce_sum(totals), None
        total, weight = totals.tolist()
        return total / weight if weight else 0.0
