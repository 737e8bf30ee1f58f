import copy
import logging
import os
import warnings
from contextlib import contextmanager
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Set,
    Tuple,
    Type,
    Union,
)

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.nn import InitializerApplicator, RegularizerApplicator
from allennlp.training.metrics import Metric
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from allencv.common.checks import CheckedFromParams
from allencv.data.class_weightings import ClassWeighting
from allencv.data.transforms.batch_transforms import BatchTransform
from allencv.models.archived_certainty import archived_certainty
from allencv.models.distillation import Distillation
from allencv.models.encoder_checks import check_images, check_neighbours
from allencv.models.frozen_encoder import (
    KEY,
    FrozenEncoder,
    encoder_network,
    frozen_encoders,
    named_encoders,
)
from allencv.models.labels import check_class_weights, count_labels, label_numbers
from allencv.models.metrics_of_ranks import MetricsOfRanks
from allencv.models.pixel_normalization import PixelNormalization
from allencv.models.start_from import StartFrom
from allencv.models.views import views_by_name
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from allencv.modules.input_check import check_output
from allencv.modules.losses import ClassificationLoss, CrossEntropyLoss, image_weights
from allencv.modules.pretrained_weights import (
    pretrained_weights_skipped,
    without_pretrained_weights,
)
from allencv.runtime.certainty import Certainty
from allencv.training.protocols import LabelledMetric
from allencv.training.running_losses import LOSS_WEIGHT

logger = logging.getLogger(__name__)

READABLE_LABELS = 5
"""The number of labels that `make_output_human_readable` lists."""
VECTORS = 2
"""The dimensions of a batch of vectors; a batch of images or feature maps has four."""
RESERVED_METRICS = ("loss", "batch_loss", "reg_loss", "batch_reg_loss")


class ImageClassifier(CheckedFromParams, Model):
    """
    The base of the classifiers: normalise, `Im2ImEncoder`, `Im2VecEncoder`, dropout, a linear
    layer, and a loss. Subclasses define targets, probabilities and metrics.

    # Parameters

    vocab : `Vocabulary`
    im2vec_encoder : `Im2VecEncoder`, required
        Turns a feature map into a vector.
    im2im_encoder : `Im2ImEncoder`, optional (default = `None`)
        Turns the image into a feature map. Without it, `im2vec_encoder` gets the image.
    dropout : `float`, optional (default = `None`)
        The probability of zeroing an element of the vector, in [0, 1).
    num_labels : `int`, optional (default = `None`)
        The number of labels; `None` takes it from the vocabulary.
    label_namespace : `str`, optional (default = `"labels"`)
        The namespace of the vocabulary that holds the labels.
    loss : `ClassificationLoss`, optional
        The default depends on the type of classifier.
    class_weights : `Union[ClassWeighting, Dict[str, float]]`, optional (default = `None`)
        The weights of these labels in the loss; the others weigh 1. Or a `ClassWeighting`, such as
        `{"type": "balanced"}`, that computes them from the training data.
    metrics : `Dict[str, Metric]`, optional (default = `None`)
        More metrics, by the names in the report. A metric with several numbers is reported as
        `{key}_{name}` if it returns a dictionary, and as `{key}_{label}` if it returns a list or
        tensor with a number for each label.
    pixel_mean, pixel_std : `List[float]`, optional (default = ImageNet's)
        Images of `uint8` become `(image / 255 - pixel_mean) / pixel_std`, channel by channel, on
        the model's device. Float images are taken as normalised.
    batch_transforms : `List[BatchTransform]`, optional (default = `None`)
        Applied in order to normalised training images and their labels, for example `mixup`.
    test_time_augmentation : `List[str]`, optional (default = `None`)
        More views of each image in evaluation and prediction: "horizontal_flip", "vertical_flip",
        "rotate_90", "rotate_180", "rotate_270", and "shift_up_left" and "shift_down_right" by one
        pixel. "horizontal_flip+shift_up_left" does one after the other. The probabilities are the
        mean over the image and its views (as in Simonyan and Zisserman 2015, arXiv:1409.1556,
        section 3.2). The logits are those of the mean. Each view costs as much time as the image.
    distillation : `Distillation`, optional (default = `None`)
        A trained model that teaches this one.
    start_from : `StartFrom`, optional (default = `None`)
        A trained model whose weights this one starts with. The model type "from_archive" takes the
        rest of the config from there too.
    initializer : `InitializerApplicator`, optional
        How to draw the first weights, by regular expressions for their names.
    regularizer : `RegularizerApplicator`, optional

    # Raises

    `ConfigurationError` when built, if neighbouring parts do not fit each other.
    """

    default_predictor = "image_classifier"
    multi_label = False
    """Whether an image may have several labels."""
    tunes_thresholds = False
    """Whether `on_validation_end` sets thresholds, which needs validation images."""
    stands_in = False
    """Whether training images must not be counted, because they only stand in for others."""
    default_loss: Type[ClassificationLoss] = CrossEntropyLoss

    certainty: Optional[Certainty] = None
    """
    What `allencv calibrate` has found out about the model, if it comes from an archive. `forward`
    does not use it: its probabilities are those of the network.
    """

    _class_weights: Optional[torch.Tensor]

    def __init__(
        self,
        vocab: Vocabulary,
        im2vec_encoder: Im2VecEncoder,
        im2im_encoder: Optional[Im2ImEncoder] = None,
        dropout: Optional[float] = None,
        num_labels: Optional[int] = None,
        label_namespace: str = "labels",
        loss: Optional[ClassificationLoss] = None,
        class_weights: Optional[Union[ClassWeighting, Dict[str, float]]] = None,
        metrics: Optional[Dict[str, Metric]] = None,
        pixel_mean: Optional[List[float]] = None,
        pixel_std: Optional[List[float]] = None,
        batch_transforms: Optional[List[BatchTransform]] = None,
        test_time_augmentation: Optional[List[str]] = None,
        distillation: Optional[Distillation] = None,
        start_from: Optional[StartFrom] = None,
        initializer: Optional[InitializerApplicator] = None,
        regularizer: Optional[RegularizerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, regularizer, **kwargs)
        self.start_from = start_from
        begins = start_from is not None and not pretrained_weights_skipped()
        if start_from is not None and begins:
            start_from.extend(vocab, label_namespace)
        self._label_namespace = label_namespace
        self._num_labels = count_labels(vocab, label_namespace, num_labels, self.multi_label)
        check_neighbours(im2im_encoder, im2vec_encoder)
        if not 0 <= (dropout or 0.0) < 1:
            raise ConfigurationError(f"model.dropout is {dropout}; expected a number in [0, 1)")
        self._im2im_encoder = im2im_encoder
        self._im2vec_encoder = im2vec_encoder
        self._dropout = torch.nn.Dropout(dropout or 0.0)
        self._classification_layer = torch.nn.Linear(
            im2vec_encoder.get_output_dim(), self._num_labels
        )
        self._loss = loss or self.default_loss()
        self._loss.for_task(self.multi_label)
        self.normalize = PixelNormalization(pixel_mean, pixel_std)
        self._batch_transforms = list(batch_transforms or [])
        self._views = views_by_name(test_time_augmentation)
        self._training_size: Optional[int] = None
        # Weights computed from the training data are saved with the model, as no config has them.
        self._class_weighting = class_weights if isinstance(class_weights, ClassWeighting) else None
        self.register_buffer(
            "_class_weights",
            self._weights({} if self._class_weighting else class_weights),
            persistent=self._class_weighting is not None,
        )
        self._metrics = dict(metrics or {})
        self._metrics_of_ranks = MetricsOfRanks()
        self._has_counted = False  # since the last reset
        for metric in self._metrics.values():
            if isinstance(metric, LabelledMetric):
                metric.set_labels(self.label_names())
        self._distillation = distillation
        if distillation is not None and not pretrained_weights_skipped():
            distillation.load(self)
        if initializer is not None:
            initializer(self)
        if start_from is not None and begins:
            start_from.load(self, self.label_names())
        # The first weights whose order in memory tells channels-last from channels-first.
        kernels = (each for each in self.parameters() if each.dim() == 4)
        self._kernel = [each for each in kernels if min(each.shape[1], each[0, 0].numel()) > 1][:1]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """
        Load weights as AllenNLP does. Raise `ConfigurationError` for complex weights in a real
        network: torch would drop their imaginary part.
        """
        own = self.state_dict()
        for name in set(own).intersection(state_dict):
            given, expected = state_dict[name], own[name]
            if isinstance(given, torch.Tensor) and given.is_complex() and not expected.is_complex():
                raise ConfigurationError(
                    f"the weights of {name} are {given.dtype}; expected {expected.dtype}"
                )
        return super().load_state_dict(state_dict, strict)

    @property
    def label_namespace(self) -> str:
        """The namespace of the vocabulary that holds the labels."""
        return self._label_namespace

    @property
    def num_views(self) -> int:
        """How many times in a row a batch must hold each image, for the loss."""
        return self._loss.num_views

    def is_channels_last(self) -> bool:
        """Return whether the weights are in `torch.channels_last` order."""
        return bool(self._kernel) and not self._kernel[0].is_contiguous()

    def _normalized(self, image: torch.Tensor) -> torch.Tensor:
        """
        Prepare a batch of images for the encoders: normalise, in training resize as set by
        `set_training_size`, and convert to the memory format and precision of the weights.
        """
        is_channels_last = self.is_channels_last()
        # On a CPU it is faster to make bytes channels-first, and floats channels-last.
        images = self.normalize(image if is_channels_last else image.contiguous())
        if self.training and self._training_size is not None:
            images = self._resized(images, self._training_size)
        if is_channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images.to(self._classification_layer.weight.dtype)

    @property
    def vector_size(self) -> int:
        """The size of the vectors of `encode`."""
        return self._im2vec_encoder.get_output_dim()

    @property
    def num_labels(self) -> int:
        return self._num_labels

    @property
    def has_class_weights(self) -> bool:
        """Whether labels have weights in the loss."""
        return self._class_weights is not None

    @torch.no_grad()
    def set_last_layer(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Set the weight `(num_labels, vector_size)` and bias `(num_labels,)` of the last layer."""
        self._classification_layer.weight.copy_(weight)
        self._classification_layer.bias.copy_(bias)

    def last_layer(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the weight `(num_labels, vector_size)` and bias `(num_labels,)`."""
        layer = self._classification_layer
        return layer.weight.detach(), layer.bias.detach()

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return the vectors `(batch, vector_size)` of images as `forward` takes them, before dropout
        and the last layer.
        """
        return self._vectors(self._feature_maps(self._prepared(image)))

    @property
    def vector_network(self) -> torch.nn.Module:
        """All that decides the vectors of `encode`."""
        encoders = named_encoders(self._im2im_encoder, self._im2vec_encoder)
        return encoder_network(self.normalize, encoders)

    @contextmanager
    def vectors_noted(self, vectors: List[torch.Tensor]) -> Iterator[None]:
        """
        Add the vectors of `encode` to a list for each pass of the encoders in the block. With
        `test_time_augmentation` there are several in `forward`: first the images, then their views.
        """
        hook = self.note_vectors(vectors.append)
        try:
            yield
        finally:
            hook.remove()

    def note_vectors(self, note: Callable[[torch.Tensor], None]) -> RemovableHandle:
        """Call `note` with the vectors of each pass of the encoders; the handle ends this."""
        return self._im2vec_encoder.register_forward_hook(
            lambda module, inputs, output: note(output)
        )

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits `(batch, num_labels)` of normalised images, without more views."""
        return self._score_features(self._feature_maps(images))

    def _feature_maps(self, images: torch.Tensor) -> torch.Tensor:
        check_images(images, self._im2im_encoder, self._im2vec_encoder)
        if self._im2im_encoder is None:
            return images
        features = self._im2im_encoder(images)
        dtype = self._classification_layer.weight.dtype
        check_output("im2im_encoder", self._im2im_encoder, features, dtype)
        return features

    def _vectors(self, features: torch.Tensor) -> torch.Tensor:
        """Return the vectors of feature maps; vectors stay."""
        if features.dim() == VECTORS:
            return features
        # Shape: (batch, im2vec_encoder.get_output_dim())
        vector = self._im2vec_encoder(features)
        dtype = self._classification_layer.weight.dtype
        check_output("im2vec_encoder", self._im2vec_encoder, vector, dtype)
        return vector

    def _score_features(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of feature maps, or of vectors."""
        vector = self._vectors(features)
        if self._dropout.p:
            vector = self._dropout(vector)
        # Under autocast the logits come in half precision, too coarse for a loss.
        return self._classification_layer(vector).float()

    def _prepared(self, image: torch.Tensor) -> torch.Tensor:
        """Check and normalise a batch of images."""
        check_images(image, self._im2im_encoder, self._im2vec_encoder)
        return self._normalized(image)

    def frozen_encoder(self) -> FrozenEncoder:
        """
        Return the part of the network that training does not change. It turns images, as `forward`
        takes them, into `features` for `forward`.

        # Raises

        `ConfigurationError` if the first encoder changes in training, or if a key of the model
        needs the images themselves.
        """
        for key, value in (
            ("distillation", self._distillation),
            ("test_time_augmentation", self._views),
        ):
            if value:
                raise ConfigurationError(
                    f"model.{key} needs the images, but {KEY} trains on the features of a frozen "
                    "encoder; expected one of them"
                )
        for batch_transform in self._batch_transforms:
            if not batch_transform.mixes_features():
                raise ConfigurationError(
                    f"model.batch_transforms has a {type(batch_transform).__name__}, which needs "
                    f"the images, but {KEY} trains on the features of a frozen encoder; expected "
                    "'mixup', or one of them"
                )
        encoders = frozen_encoders(self._im2im_encoder, self._im2vec_encoder)
        return FrozenEncoder(self._prepared, self.normalize, encoders)

    def _classify(
        self,
        image: Optional[torch.Tensor],
        targets: Optional[torch.Tensor],
        metadata: Optional[List[Dict[str, Any]]],
        features: Optional[torch.Tensor] = None,
    ) -> Dict[str, Any]:
        """Do the work of `forward`, whatever the name of the targets."""
        score: Callable[[torch.Tensor], torch.Tensor] = self.score
        if image is not None and features is None:
            inputs = self._prepared(image)
        elif features is not None and image is None:
            inputs = features.to(self._classification_layer.weight.dtype)
            score = self._score_features
        else:
            raise ConfigurationError(
                "forward got neither image nor features, or both; expected one of them"
            )
        if self.training and targets is not None:
            for batch_transform in self._batch_transforms:
                # Shape of vectors: (batch, dim, 1, 1), as those of images
                maps = inputs if inputs.dim() != VECTORS else inputs[:, :, None, None]
                mixed, targets = batch_transform(maps, targets, self._num_labels)
                inputs = mixed if inputs.dim() != VECTORS else mixed.flatten(1)
        logits = score(inputs)
        if self._views and not self.training:
            logits = self._merge([logits, *(self.score(view(inputs)) for view in self._views)])
        probs = self._probabilities(logits)
        outputs: Dict[str, Any] = {"logits": logits, "probs": probs}
        if targets is not None:
            weights = None if self._class_weights is None else self._class_weights.float()
            outputs["loss"] = self._loss(logits, targets, weights)
            if weights is not None and not self.multi_label:
                outputs[LOSS_WEIGHT] = image_weights(targets, weights).sum()
            if self._distillation is not None and self.training:
                outputs["loss"] = self._distillation(self, inputs, outputs)
            self._count(logits, probs, targets)
            if not self._has_counted:  # torch's modules take long to set an attribute
                self._has_counted = len(targets) > 0
        if metadata is not None:
            outputs["metadata"] = metadata
        return outputs

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _merge(self, logits: List[torch.Tensor]) -> torch.Tensor:
        """Return the logits of the mean probabilities of several views."""
        raise NotImplementedError

    def _count(self, logits: torch.Tensor, probs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch to the metrics, without waiting for the device."""
        raise NotImplementedError

    def _count_metrics(self, predictions: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch to the metrics of the config."""
        if self.stands_in:
            self._metrics_of_ranks.count_nothing(self._metrics, predictions, targets)
        else:
            self._metrics_of_ranks.count(self._metrics, predictions, targets, self.training)

    def pass_turn(self) -> None:
        """
        Note in evaluation that a batch has no image that can be read. Several ranks then keep the
        order of the batches.
        """
        self._metrics_of_ranks.pass_turn()

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        values = self._metrics_of_ranks.reported(
            self._metrics, self.label_names(), self._has_counted, reset
        )
        if reset:
            self._has_counted = False
        if self._distillation is not None:
            values |= self._distillation.get_metrics(reset)
        return values

    def metric_names(self) -> List[str]:
        """
        List the names of the validation metrics before any image is seen, without "loss". "name_*"
        stands for all names that begin with "name_": the images decide which there are.
        """
        twin = copy.copy(self)
        reported: List[Set[str]] = []
        for scores, gold in self._made_up_predictions():
            twin._metrics = copy.deepcopy(self._metrics)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about too few images
                for metric in twin._metrics.values():
                    metric(scores, gold)
                reported.append(set(ImageClassifier.get_metrics(twin)))
        always = set.intersection(*reported)
        others = set.union(*reported) - always
        keys = [key for key in self._metrics if any(name.startswith(f"{key}_") for name in others)]
        return sorted({*always, *(f"{key}_*" for key in keys)})

    def _made_up_predictions(self) -> List[Tuple[torch.Tensor, torch.Tensor]]:
        """Return inputs for the metrics: once all right, and once all wrong."""
        raise NotImplementedError

    def label_names(self) -> List[str]:
        """List the labels in the order of the logits; one without a name is its number."""
        names = self.vocab.get_index_to_token_vocabulary(self._label_namespace)
        return [names.get(index, str(index)) for index in range(self._num_labels)]

    def get_stages(self) -> List[List[str]]:
        """
        Return the parts of the model from input to output, as prefixes of parameter names: the
        stages of the encoder, then the head. A prefix is a whole name, or its beginning up to a
        dot. Each parameter belongs to exactly one stage.
        """
        stages = [] if self._im2im_encoder is None else self._im2im_encoder.get_stages()
        named = [[f"_im2im_encoder.{name}" for name in stage] for stage in stages]
        has_parameters = any(True for _ in self._im2vec_encoder.parameters())
        head = ["_im2vec_encoder"] if has_parameters else []
        return [*named, [*head, "_classification_layer"]]

    def set_training_size(self, size: Optional[int]) -> None:
        """
        Resize training images, between normalisation and batch transforms, so that their shorter
        side has `size` pixels. `None` leaves them unchanged. This is for progressive resizing, and
        not part of the model's state.
        """
        if size is not None and size < 1:
            raise ConfigurationError(f"the training size is {size}; expected at least 1 pixel")
        self._training_size = size

    def on_validation_end(self) -> None:
        """Do nothing. The trainer calls this after the last validation image."""

    def set_class_counts(self, counts: Dict[str, int]) -> None:
        """
        Compute the weights of the labels in the loss from the number of training images of each
        label, if `class_weights` is a `ClassWeighting`. Called before training.
        """
        if self._class_weighting is not None and self._class_weights is not None:
            if not counts:
                raise ConfigurationError(
                    "model.class_weights needs the labels of the training data, which are unknown "
                    "if the data are streamed to a ready vocabulary; expected numbers"
                )
            weights = self._class_weighting(counts)
            logger.info("Class weights: %s", weights)
            self._class_weights.copy_(self._per_label("class_weights", weights, 1.0))

    @property
    def num_training_images(self) -> int:
        """How many training images `see_training_images` must get before training."""
        return 0 if self._im2im_encoder is None else self._im2im_encoder.num_training_images

    def see_training_images(self, images: Iterable[torch.Tensor]) -> None:
        """
        Let the encoder compute what depends on the training images, such as the filters of
        "whitening", from batches as `forward` takes them. Called before training.
        """
        if self._im2im_encoder is not None:
            with torch.no_grad():
                self._im2im_encoder.see_training_images(map(self._normalized, images))

    def make_output_human_readable(self, output_dict: Dict[str, Any]) -> Dict[str, Any]:
        """
        Add to each image `top_k`: its most probable labels with their probabilities, at most five,
        the most probable first.
        """
        names = self.label_names()
        probs, indices = output_dict["probs"].topk(min(READABLE_LABELS, self._num_labels))
        output_dict["top_k"] = [
            [
                {"label": names[index], "probability": prob}
                for index, prob in zip(row_indices, row_probs)
            ]
            for row_indices, row_probs in zip(indices.tolist(), probs.tolist())
        ]
        return output_dict

    @classmethod
    def from_params(
        cls,
        params: Params,
        constructor_to_call: Optional[Callable] = None,
        constructor_to_inspect: Optional[Callable] = None,
        **extras: Any,
    ) -> Any:
        extras |= {
            "constructor_to_call": constructor_to_call,
            "constructor_to_inspect": constructor_to_inspect,
        }
        start = params.get("start_from") if isinstance(params, Params) else None
        if start is None or pretrained_weights_skipped():
            return super().from_params(params, **extras)
        if not isinstance(start, Params):
            raise ConfigurationError(
                f"model.start_from is {start!r}; expected an object such as "
                '{ "archive_file": "runs/pets/model.tar.gz" }'
            )
        start_from = StartFrom.from_params(start.duplicate())
        start_from.extend(extras["vocab"], params.get("label_namespace", "labels"))
        with without_pretrained_weights():  # the archive holds them all
            model = super().from_params(params, **extras)
        start_from.load(model, model.label_names())
        return model

    @classmethod
    def _load(
        cls,
        config: Params,
        serialization_dir: Union[str, os.PathLike],
        weights_file: Optional[Union[str, os.PathLike]] = None,
        cuda_device: int = -1,
    ) -> Model:
        with without_pretrained_weights():  # the archive holds them all
            model = super()._load(config, serialization_dir, weights_file, cuda_device)
        assert isinstance(model, ImageClassifier)
        model.certainty = archived_certainty(
            serialization_dir, weights_file, model.num_labels, model.vector_size
        )
        return model

    @staticmethod
    def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
        shorter = min(images.shape[2:])
        if shorter == size:
            return images
        sizes = [round(side * size / shorter) for side in images.shape[2:]]
        return F.interpolate(images, sizes, mode="bilinear", antialias=True)

    def _check_metric_names(self, reported: Iterable[str]) -> None:
        for name in self._metrics:
            if name in {*reported, *RESERVED_METRICS}:
                raise ConfigurationError(
                    f"model.metrics.{name} has the name of a metric that is always reported; "
                    "expected another name"
                )

    def _check_fields(self, others: Dict[str, Any], known: str) -> None:
        """Raise `ConfigurationError` for data that this type of classifier does not use."""
        if others:
            raise ConfigurationError(
                f"the images come with the field '{next(iter(others))}'; a {type(self).__name__} "
                f"takes 'image', '{known}' and 'metadata' ('label', one for each image, is for "
                "model.type 'basic_image_classifier', 'labels' for 'multilabel_image_classifier')"
            )

    def _weights(self, class_weights: Optional[Dict[str, float]]) -> Optional[torch.Tensor]:
        if class_weights is None:
            return None
        check_class_weights(class_weights, self.label_names())
        return self._per_label("class_weights", class_weights, 1.0)

    def _per_label(self, key: str, values: Dict[str, float], default: float) -> torch.Tensor:
        indices = self.vocab.get_token_to_index_vocabulary(self._label_namespace)
        return label_numbers(key, values, default, indices, self._num_labels)
