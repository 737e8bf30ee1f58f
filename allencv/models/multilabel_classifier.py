import logging
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from torch.nn import functional as F

from allencv.common.nearest_names import not_one_of
from allencv.models.image_classifier import ImageClassifier
from allencv.models.multilabel_metrics import MultiLabelMetrics
from allencv.models.thresholds import best_f1_thresholds
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from allencv.modules.losses import BinaryCrossEntropyLoss

logger = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.5


@Model.register("multilabel_image_classifier")
class MultiLabelImageClassifier(ImageClassifier):
    """
    Gives each image any number of labels, or none: like `BasicImageClassifier`, but with a sigmoid
    for each label. An image gets the labels whose probability is above their threshold.

    The default loss is "binary_cross_entropy". The reported metrics are those of
    `MultiLabelMetrics`. If `batch_transforms` make labels soft, metrics count labels above 0.5.
    Metrics of the config get probabilities and integers 0 or 1, both `(batch, num_labels)`.

    Registered as a `Model` with name "multilabel_image_classifier".

    # Example

    ```jsonnet
    {
      type: "multilabel_image_classifier",
      im2im_encoder: { type: "pretrained_resnet", resnet_model: "resnet50" },
      im2vec_encoder: { type: "flatten", input_channels: 2048, input_height: 1, input_width: 1 },
      thresholds: "tune",
    }
    ```

    # Parameters

    Those of `ImageClassifier`, and:

    thresholds : `Union[float, str, Dict[str, float]]`, optional (default = `0.5`)
        The probability above which an image has a label: one number in [0, 1), or one for each of
        these labels and 0.5 for the others. "tune" finds for each label the threshold with the best
        F1 on the validation data, again in each epoch. The archive holds the thresholds of the
        epoch whose weights are kept. Validation metrics are then optimistic, because the thresholds
        were tuned on the same images. A label without validation images stays at 0.5.
    """

    multi_label = True
    default_loss = BinaryCrossEntropyLoss

    _thresholds: torch.Tensor

    def __init__(
        self,
        vocab: Vocabulary,
        im2vec_encoder: Im2VecEncoder,
        im2im_encoder: Optional[Im2ImEncoder] = None,
        thresholds: Union[float, str, Dict[str, float]] = DEFAULT_THRESHOLD,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, im2vec_encoder, im2im_encoder, **kwargs)
        self.tunes_thresholds = thresholds == "tune"
        if isinstance(thresholds, str) and not self.tunes_thresholds:
            raise not_one_of("model.thresholds", thresholds, ["tune", "a number", "a dictionary"])
        given = thresholds if isinstance(thresholds, dict) else {}
        same = thresholds if isinstance(thresholds, (int, float)) else DEFAULT_THRESHOLD
        for threshold in (same, *given.values()):
            if not 0 <= threshold < 1:
                raise ConfigurationError(
                    f"model.thresholds has {threshold}; expected numbers in [0, 1)"
                )
        # Tuned thresholds are saved with the model, as no config has them.
        self.register_buffer(
            "_thresholds",
            self._per_label("thresholds", given, float(same)),
            persistent=self.tunes_thresholds,
        )
        self._has_warned = False
        self._check_metric_names(MultiLabelMetrics.NAMES)
        self._label_metrics = MultiLabelMetrics(self.label_names())

    def forward(
        self,
        image: Optional[torch.Tensor] = None,
        labels: Optional[torch.Tensor] = None,
        metadata: Optional[List[Dict[str, Any]]] = None,
        features: Optional[torch.Tensor] = None,
        **others: Any,
    ) -> Dict[str, Any]:
        """
        # Parameters

        image : `torch.Tensor`, optional
            `(batch, channels, height, width)`, `uint8`, or normalised floats.
        labels : `torch.Tensor`, optional
            `(batch, num_labels)`: 1 where an image has a label, 0 where not.
        metadata : `List[Dict[str, Any]]`, optional
        features : `torch.Tensor`, optional
            In place of `image`, what `frozen_encoder()` gives: vectors `(batch, dim)`, or feature
            maps `(batch, channels, height, width)` for the `im2vec_encoder`.

        # Returns

        `logits` and `probs`, both `(batch, num_labels)`; `loss` if there are labels; `metadata` if
        there is any.
        """
        self._check_fields(others, "labels")
        return self._classify(image, labels, metadata, features)

    def make_output_human_readable(self, output_dict: Dict[str, Any]) -> Dict[str, Any]:
        """
        Add to each image its `labels`, those above their thresholds, and `top_k`: its most
        probable labels with their probabilities, at most five. The most probable comes first.
        """
        super().make_output_human_readable(output_dict)
        names = self.label_names()
        probs, order = output_dict["probs"].sort(descending=True)
        is_above = probs > self._thresholds.to(probs.device)[order]
        output_dict["labels"] = [
            [names[index] for index, above in zip(*row) if above]
            for row in zip(order.tolist(), is_above.tolist())
        ]
        return output_dict

    def pass_turn(self) -> None:
        super().pass_turn()
        self._label_metrics.pass_turn()

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        metrics = self._label_metrics.get_metric(self._thresholds, reset)
        return metrics | super().get_metrics(reset)

    def metric_names(self) -> List[str]:
        return sorted([*MultiLabelMetrics.NAMES, *super().metric_names()])

    def get_label_metrics(self) -> Dict[str, Dict[str, float]]:
        """
        Return each label's `support`, `precision`, `recall`, `f1`, `threshold`, and in evaluation
        `average_precision`, as of the last `get_metrics(reset=True)`.
        """
        return self._label_metrics.by_label

    def get_thresholds(self) -> Dict[str, float]:
        """Return for each label the probability above which it is given."""
        return dict(zip(self.label_names(), self._thresholds.tolist()))

    def on_validation_end(self) -> None:
        """
        Tune the thresholds, if `thresholds` is "tune". The trainer calls this on every rank, after
        the last validation image and before it reads the metrics.
        """
        if not self.tunes_thresholds:
            return
        probs, targets = self._label_metrics.kept()
        default = torch.full((self._num_labels,), DEFAULT_THRESHOLD)
        self._thresholds.copy_(best_f1_thresholds(probs, targets, default))
        absent = [
            name for name, there in zip(self.label_names(), targets.any(0).tolist()) if not there
        ]
        if absent and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "No validation image has %s: the threshold stays %s",
                ", ".join(map(repr, absent)),
                DEFAULT_THRESHOLD,
            )

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid()

    def _merge(self, logits: List[torch.Tensor]) -> torch.Tensor:
        views = torch.stack(logits)
        # The logarithm of the odds of the mean; that of the number of views cancels out.
        return F.logsigmoid(views).logsumexp(0) - F.logsigmoid(-views).logsumexp(0)

    def _count(self, logits: torch.Tensor, probs: torch.Tensor, targets: torch.Tensor) -> None:
        gold = targets > 0.5
        # The probabilities of an epoch of training are not kept: there may be very many.
        self._label_metrics(probs, gold, self._thresholds, keep=not self.training)
        self._count_metrics(probs, gold.long())

    def _made_up_predictions(self) -> List[Tuple[torch.Tensor, torch.Tensor]]:
        gold = torch.ones(2, self._num_labels, dtype=torch.long)
        return [(gold.float(), gold), (1 - gold.float(), gold)]
