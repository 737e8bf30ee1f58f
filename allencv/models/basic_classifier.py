import math
from typing import Any, Dict, List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model

from allencv.models.image_classifier import ImageClassifier
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from allencv.training.metrics import TopKAccuracy


@Model.register("basic_image_classifier")
class BasicImageClassifier(ImageClassifier):
    """
    Gives each image one label of several: normalise, `Im2ImEncoder`, `Im2VecEncoder`, dropout, a
    linear layer, softmax.

    The default loss is "cross_entropy". If `batch_transforms` make labels soft, metrics count the
    label with the largest share. Metrics of the config get logits `(batch, num_labels)` and class
    indices `(batch,)`.

    Registered as a `Model` with name "basic_image_classifier".

    # Example

    ```jsonnet
    {
      type: "basic_image_classifier",
      im2im_encoder: { type: "pretrained_resnet", resnet_model: "resnet50" },
      im2vec_encoder: { type: "flatten", input_channels: 2048, input_height: 1, input_width: 1 },
    }
    ```

    # Parameters

    Those of `ImageClassifier`, and:

    top_k : `int`, optional (default = `None`)
        Also report whether the right label is among the `top_k` most probable, as the metric
        "top_{k}_accuracy"; between 1 and the number of classes.
    """

    def __init__(
        self,
        vocab: Vocabulary,
        im2vec_encoder: Im2VecEncoder,
        im2im_encoder: Optional[Im2ImEncoder] = None,
        top_k: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, im2vec_encoder, im2im_encoder, **kwargs)
        accuracies = {"accuracy": TopKAccuracy()}
        if top_k is not None:
            if not 1 <= top_k <= self._num_labels:
                raise ConfigurationError(
                    f"model.top_k is {top_k}; expected 1 to {self._num_labels}, the number of "
                    "classes"
                )
            accuracies[f"top_{top_k}_accuracy"] = TopKAccuracy(top_k)
        self._check_metric_names(accuracies)
        self._metrics = {**accuracies, **self._metrics}

    def forward(
        self,
        image: Optional[torch.Tensor] = None,
        label: Optional[torch.Tensor] = None,
        metadata: Optional[List[Dict[str, Any]]] = None,
        features: Optional[torch.Tensor] = None,
        **others: Any,
    ) -> Dict[str, Any]:
        """
        # Parameters

        image : `torch.Tensor`, optional
            `(batch, channels, height, width)`, `uint8`, or normalised floats.
        label : `torch.Tensor`, optional
            `(batch,)` class indices, or `(batch, num_labels)` shares of the classes.
        metadata : `List[Dict[str, Any]]`, optional
        features : `torch.Tensor`, optional
            In place of `image`, what `frozen_encoder()` gives: vectors `(batch, dim)`, or feature
            maps `(batch, channels, height, width)` for the `im2vec_encoder`.

        # Returns

        `logits` and `probs`, both `(batch, num_labels)`; `loss` if there are labels; `metadata` if
        there is any.
        """
        self._check_fields(others, "label")
        return self._classify(image, label, metadata, features)

    def make_output_human_readable(self, output_dict: Dict[str, Any]) -> Dict[str, Any]:
        """
        Add to each image its `label`, and `top_k`: its most probable labels with their
        probabilities, at most five, the most probable first.
        """
        super().make_output_human_readable(output_dict)
        output_dict["label"] = [row[0]["label"] for row in output_dict["top_k"]]
        return output_dict

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(-1)

    def _merge(self, logits: List[torch.Tensor]) -> torch.Tensor:
        return torch.stack(logits).log_softmax(-1).logsumexp(0) - math.log(len(logits))

    def _count(self, logits: torch.Tensor, probs: torch.Tensor, targets: torch.Tensor) -> None:
        gold = targets if targets.dim() == 1 else targets.argmax(-1)
        self._count_metrics(logits, gold)

    def _made_up_predictions(self) -> List[Tuple[torch.Tensor, torch.Tensor]]:
        scores, gold = torch.eye(2, self._num_labels), torch.arange(2)
        return [(scores, gold), (scores, gold.flip(0))]
