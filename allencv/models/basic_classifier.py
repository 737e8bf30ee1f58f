import logging
from typing import Any, Dict, List, Optional, Union

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.nn import InitializerApplicator, RegularizerApplicator
from torch.nn import functional as F

from allencv.common.checks import CheckedFromParams, not_one_of
from allencv.data.class_weightings import ClassWeighting
from allencv.data.transforms.batch_transforms import BatchTransform
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from allencv.modules.pretrained_weights import without_pretrained_weights
from allencv.training.metrics import TopKAccuracy

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
READABLE_LABELS = 5
"""How many labels `make_output_human_readable` lists, the most probable first."""


@Model.register("basic_image_classifier")
class BasicImageClassifier(CheckedFromParams, Model):
    """
    Gives each image one label of several: normalise, `Im2ImEncoder`, `Im2VecEncoder`, dropout, a
    linear layer, softmax.

    Registered as a `Model` with name "basic_image_classifier".

    # Parameters

    vocab : `Vocabulary`
    im2vec_encoder : `Im2VecEncoder`, required
        Turns a feature image into a vector.
    im2im_encoder : `Im2ImEncoder`, optional (default = `None`)
        Turns the image into a feature image. Without one, the vector is made of the image itself.
    dropout : `float`, optional (default = `None`)
        The probability of zeroing an element of the vector, in [0, 1).
    num_labels : `int`, optional (default = `None`)
        The number of classes; `None` takes it from the vocabulary.
    label_namespace : `str`, optional (default = `"labels"`)
    label_smoothing : `float`, optional (default = `0.0`)
        The share of the target that is spread over all classes, in [0, 1); Szegedy et al. 2016,
        "Rethinking the Inception Architecture", section 7.
    class_weights : `Union[ClassWeighting, Dict[str, float]]`, optional (default = `None`)
        A weight in the loss for each of these labels; the others weigh 1. Or a `ClassWeighting`,
        such as `{"type": "balanced"}`, that computes them from the training data.
    top_k : `int`, optional (default = `None`)
        Also report whether the right label is among the `top_k` most probable, as the metric
        "top_{k}_accuracy"; between 1 and the number of classes.
    pixel_mean, pixel_std : `List[float]`, optional (default = ImageNet's)
        Images of `uint8` become `(image / 255 - pixel_mean) / pixel_std`, channel by channel, on
        the model's device. An image that is float already is taken as normalised.
    batch_transforms : `List[BatchTransform]`, optional (default = `None`)
        Such as `mixup`: applied in order to the normalised images and their labels, when training.
        The labels become soft; accuracy is measured against the largest share of each. Label
        smoothing and class weights act on soft labels as in torch's `cross_entropy`, which weighs
        each share, but takes the mean over images without dividing by the weights.
    initializer : `InitializerApplicator`, optional
    regularizer : `RegularizerApplicator`, optional

    # Raises

    `ConfigurationError` when built, if neighbouring parts do not fit each other.
    """

    default_predictor = "image_classifier"

    def __init__(
        self,
        vocab: Vocabulary,
        im2vec_encoder: Im2VecEncoder,
        im2im_encoder: Optional[Im2ImEncoder] = None,
        dropout: Optional[float] = None,
        num_labels: Optional[int] = None,
        label_namespace: str = "labels",
        label_smoothing: float = 0.0,
        class_weights: Optional[Union[ClassWeighting, Dict[str, float]]] = None,
        top_k: Optional[int] = None,
        pixel_mean: Optional[List[float]] = None,
        pixel_std: Optional[List[float]] = None,
        batch_transforms: Optional[List[BatchTransform]] = None,
        initializer: Optional[InitializerApplicator] = None,
        regularizer: Optional[RegularizerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, regularizer, **kwargs)
        self._label_namespace = label_namespace
        self._num_labels = self._count_labels(num_labels)
        self._check_neighbours(im2im_encoder, im2vec_encoder)
        for key, value in (("dropout", dropout or 0.0), ("label_smoothing", label_smoothing)):
            if not 0 <= value < 1:
                raise ConfigurationError(f"model.{key} is {value}; expected a number in [0, 1)")
        self._im2im_encoder = im2im_encoder
        self._im2vec_encoder = im2vec_encoder
        self._dropout = torch.nn.Dropout(dropout or 0.0)
        self._classification_layer = torch.nn.Linear(
            im2vec_encoder.get_output_dim(), self._num_labels
        )
        self._label_smoothing = label_smoothing
        self._batch_transforms = list(batch_transforms or [])
        # What is computed from the training data is kept with the model; the rest is in the config.
        self._class_weighting = class_weights if isinstance(class_weights, ClassWeighting) else None
        self.register_buffer(
            "_class_weights",
            self._weights({} if self._class_weighting else class_weights),
            persistent=self._class_weighting is not None,
        )
        self.register_buffer("_pixel_mean", _pixels(pixel_mean, IMAGENET_MEAN), persistent=False)
        self.register_buffer("_pixel_std", _pixels(pixel_std, IMAGENET_STD), persistent=False)

        self._metrics = {"accuracy": TopKAccuracy()}
        if top_k is not None:
            if not 1 <= top_k <= self._num_labels:
                raise ConfigurationError(
                    f"model.top_k is {top_k}; expected 1 to {self._num_labels}, the number of "
                    "classes"
                )
            self._metrics[f"top_{top_k}_accuracy"] = TopKAccuracy(top_k)
        if initializer is not None:
            initializer(self)

    def forward(
        self,
        image: torch.Tensor,
        label: Optional[torch.Tensor] = None,
        metadata: Optional[List[Dict[str, Any]]] = None,
    ) -> Dict[str, Any]:
        """
        # Parameters

        image : `torch.Tensor`
            `(batch, channels, height, width)`, `uint8`, or normalised floats.
        label : `torch.Tensor`, optional
            `(batch,)` class indices, or `(batch, num_labels)` shares of the classes.
        metadata : `List[Dict[str, Any]]`, optional

        # Returns

        `logits` and `probs`, both `(batch, num_labels)`; `loss` if there are labels; `metadata` if
        there is any.
        """
        features = self.normalize(image)
        if self.training and label is not None:
            for batch_transform in self._batch_transforms:
                features, label = batch_transform(features, label, self._num_labels)
        if self._im2im_encoder is not None:
            features = self._im2im_encoder(features)
        # Shape: (batch, im2vec_encoder.get_output_dim())
        vector = self._dropout(self._im2vec_encoder(features))
        # Under autocast the logits come in half precision, too coarse for the softmax of the loss.
        logits = self._classification_layer(vector).float()
        outputs: Dict[str, Any] = {"logits": logits, "probs": logits.softmax(dim=-1)}
        if label is not None:
            outputs["loss"] = F.cross_entropy(
                logits, label, self._class_weights, label_smoothing=self._label_smoothing
            )
            for metric in self._metrics.values():
                metric(logits, label)
        if metadata is not None:
            outputs["metadata"] = metadata
        return outputs

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """Turns `uint8` pixels into normalised floats; leaves floats as they are."""
        if image.is_floating_point():
            return image
        channels = image.shape[1]
        mean, std = self._pixel_mean, self._pixel_std
        if len(mean) not in (1, channels) or len(std) not in (1, channels):
            raise ConfigurationError(
                f"model.pixel_mean and model.pixel_std have {len(mean)} and {len(std)} numbers, "
                f"but the images have {channels} channels"
            )
        scale = 1 / (255 * std)
        shift = -mean / std
        # In place: a batch is tens of megabytes, and memory that is new is slow.
        return image.float().mul_(scale.view(1, -1, 1, 1)).add_(shift.view(1, -1, 1, 1))

    def make_output_human_readable(self, output_dict: Dict[str, Any]) -> Dict[str, Any]:
        """
        Adds to each image its `label`, and `top_k`: its most probable labels with their
        probabilities, at most five, the most probable first.
        """
        names = self.vocab.get_index_to_token_vocabulary(self._label_namespace)
        probs, indices = output_dict["probs"].topk(min(READABLE_LABELS, self._num_labels))
        output_dict["top_k"] = [
            [
                {"label": names.get(index, str(index)), "probability": prob}
                for index, prob in zip(row_indices, row_probs)
            ]
            for row_indices, row_probs in zip(indices.tolist(), probs.tolist())
        ]
        output_dict["label"] = [row[0]["label"] for row in output_dict["top_k"]]
        return output_dict

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        return {name: metric.get_metric(reset) for name, metric in self._metrics.items()}

    @classmethod
    def _load(cls, config: Params, *args: Any, **kwargs: Any) -> Model:
        with without_pretrained_weights():  # the archive holds them all
            return super()._load(config, *args, **kwargs)

    def set_class_counts(self, counts: Dict[str, int]) -> None:
        """
        Computes the weights of the classes in the loss, if `class_weights` is a `ClassWeighting`,
        from the number of training images of each label. Called before training begins.
        """
        if self._class_weighting is not None:
            weights = self._weights(self._class_weighting(counts))
            logger.info("Class weights: %s", self._class_weighting(counts))
            self._class_weights.copy_(weights)

    def _count_labels(self, num_labels: Optional[int]) -> int:
        namespace = self._label_namespace
        known = self.vocab.get_vocab_size(namespace)
        if num_labels is None and known < 2:
            labels = ", ".join(self.vocab.get_token_to_index_vocabulary(namespace)) or "none"
            raise ConfigurationError(
                f"a classifier needs two classes or more, but the vocabulary has {known} in the "
                f"namespace '{namespace}' ({labels}); look at train_data_path and "
                "model.label_namespace, or set model.num_labels"
            )
        if num_labels is not None and num_labels < max(known, 2):
            raise ConfigurationError(
                f"model.num_labels is {num_labels}; expected at least {max(known, 2)}: the "
                f"vocabulary has {known} in the namespace '{namespace}'"
            )
        return num_labels or known

    @staticmethod
    def _check_neighbours(
        im2im_encoder: Optional[Im2ImEncoder], im2vec_encoder: Im2VecEncoder
    ) -> None:
        if im2im_encoder is None:
            return
        given, wanted = im2im_encoder.get_output_channels(), im2vec_encoder.get_input_channels()
        if given != wanted:
            raise ConfigurationError(
                f"model.im2im_encoder ({type(im2im_encoder).__name__}) gives {given} channels, but "
                f"model.im2vec_encoder ({type(im2vec_encoder).__name__}) takes {wanted}: set "
                f"model.im2vec_encoder.input_channels to {given}"
            )

    def _weights(self, class_weights: Optional[Dict[str, float]]) -> Optional[torch.Tensor]:
        if class_weights is None:
            return None
        indices = self.vocab.get_token_to_index_vocabulary(self._label_namespace)
        weights = torch.ones(self._num_labels)
        for label, weight in class_weights.items():
            if label not in indices:
                raise not_one_of("a label of model.class_weights", label, indices)
            if weight < 0:
                raise ConfigurationError(
                    f"model.class_weights.{label} is {weight}; expected a number of at least 0"
                )
            weights[indices[label]] = weight
        return weights


def _pixels(values: Optional[List[float]], default: Any) -> torch.Tensor:
    return torch.tensor(list(default if values is None else values), dtype=torch.float32)
