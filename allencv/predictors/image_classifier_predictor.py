import base64
import binascii
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union, cast, overload

import numpy as np
import torch
from allennlp.common import plugins
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import DatasetReader, Instance
from allennlp.models import Model
from allennlp.predictors import Predictor
from PIL.Image import Image

from allencv.common.archives import load_archive
from allencv.models.image_classifier import ImageClassifier
from allencv.models.multilabel_classifier import MultiLabelImageClassifier
from allencv.runtime import ImageError
from allencv.runtime.classifier import readable
from allencv.runtime.json_files import parse_json
from allencv.training.acceleration import set_memory_format

OneImage = Union[str, os.PathLike, bytes, np.ndarray, torch.Tensor, Image, JsonDict]
INPUT_KEYS = ("image", "image_base64", "image_array")


class LabelNames(NamedTuple):
    """The labels of a model, and for several labels an image their thresholds."""

    labels: List[str]
    thresholds: Optional[List[float]]


@Predictor.register("default_image")
@Predictor.register("image_classifier")
class ImageClassifierPredictor(Predictor):
    """
    Classifies images with a trained model and its validation reader.

    The JSON of one image has one of these keys: `image`, a path or a URL; `image_base64`, an image
    file in base64; `image_array`, the pixels as nested lists `[height][width][channel]`, 0 to 255.
    A string, or a line of input that is not JSON, is a path or a URL.

    The answer has `label`, or `labels` from a model that gives any number of them, the most
    probable first; `top_k` (the most probable labels with their `probability`, at most five);
    `probs` and `logits` in the order of the vocabulary; and `metadata`. An image that cannot be
    read gets an `error`, and does not affect the others.

    A calibrated model (`allencv calibrate`) also answers `is_unknown`, `is_answered`, and the set
    of labels that holds the right one: `labels` beside `label`, or `possible_labels`. Its `top_k`
    has calibrated probabilities; `probs` and `logits` are still those of the network.

    The weights of the model change to the fastest memory order for its device.

    Registered as a `Predictor` with the names "image_classifier" and "default_image".
    """

    def __init__(self, model: Model, dataset_reader: DatasetReader, frozen: bool = True) -> None:
        super().__init__(model, dataset_reader, frozen)
        device = next((each.device for each in model.parameters()), torch.device("cpu"))
        set_memory_format(model, None, device)

    @overload
    def predict(self, image: OneImage) -> JsonDict: ...

    @overload
    def predict(self, image: Union[List[OneImage], Tuple[OneImage, ...]]) -> List[JsonDict]: ...

    def predict(self, image: Any) -> Union[JsonDict, List[JsonDict]]:
        """
        Classify one image, or each image of a list: paths, URLs, the bytes of a file, `uint8`
        arrays `(height, width[, channels])`, PIL images, or the JSON objects of `predict_json`.
        """
        if isinstance(image, (list, tuple)):
            return self._answers(list(image), self._to_instance)
        return self._answers([image], self._to_instance)[0]

    def load_line(self, line: str) -> Any:
        try:
            return parse_json(line)
        except ValueError:
            return line.strip()

    def predict_instance(self, instance: Instance) -> JsonDict:
        return self.predict_batch_instance([instance])[0]

    def predict_batch_instance(self, instances: List[Instance]) -> List[JsonDict]:
        answers: List[JsonDict] = []
        decoded: List[Instance] = []
        for instance in instances:
            try:
                fields = {**instance.fields, "image": instance["image"].decoded()}
                decoded.append(Instance(fields))
                answers.append({})
            except ImageError as error:
                answers.append({"error": str(error), "metadata": instance["metadata"].metadata})
        predictions = iter(self._predicted(decoded) if decoded else [])
        return [answer or next(predictions) for answer in answers]

    def _predicted(self, instances: List[Instance]) -> List[JsonDict]:
        model = self._model
        if not isinstance(model, ImageClassifier) or model.certainty is None:
            return super().predict_batch_instance(instances)
        noted: List[torch.Tensor] = []
        with model.vectors_noted(noted):
            predictions = super().predict_batch_instance(instances)
        thresholds = None
        if isinstance(model, MultiLabelImageClassifier):
            own = list(model.get_thresholds().values())
            thresholds = model.certainty.calibrated_thresholds(own)
        probabilities = np.array([each["probs"] for each in predictions], np.float32)
        vectors = noted[0].float().cpu().numpy()  # the images come before their views
        judgements = model.certainty.judge(probabilities, vectors, thresholds)
        names = LabelNames(model.label_names(), thresholds)
        return [
            {**prediction, **readable(names, judgement)}
            for prediction, judgement in zip(predictions, judgements)
        ]

    def predict_json(self, inputs: JsonDict) -> JsonDict:
        return self.predict_batch_json([inputs])[0]

    def predict_batch_json(self, inputs: List[JsonDict]) -> List[JsonDict]:
        return self._answers(inputs, self._json_to_instance)

    def _answers(self, images: List[Any], to_instance: Callable[[Any], Instance]) -> List[JsonDict]:
        """Return an answer for each image, an `error` if it cannot be read."""
        errors: Dict[int, JsonDict] = {}
        instances = []
        for index, image in enumerate(images):
            try:
                instances.append(to_instance(image))
            except (ConfigurationError, ImageError, OSError) as error:
                errors[index] = {"error": str(error)}
        predictions = iter(self.predict_batch_instance(instances))
        return [errors.get(index) or next(predictions) for index in range(len(images))]

    def _to_instance(self, image: Any) -> Instance:
        if isinstance(image, dict):
            return self._json_to_instance(image)
        known = (str, os.PathLike, bytes, np.ndarray, torch.Tensor, Image)
        if not isinstance(image, known) and not callable(image):
            raise ImageError(
                f"{image!r:.100} is a {type(image).__name__}; expected a path, a URL, the bytes of "
                "a file, an array, a PIL image, or a dictionary"
            )
        return self._dataset_reader.text_to_instance(image)

    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        if isinstance(json_dict, str) and not json_dict.startswith("{"):
            json_dict = {"image": json_dict}
        if not isinstance(json_dict, dict):
            raise ImageError(
                f"{json_dict!r:.100} is not a JSON object; expected one with a key of "
                f"{', '.join(INPUT_KEYS)}"
            )
        keys = [key for key in INPUT_KEYS if key in json_dict]
        if len(keys) != 1:
            raise ImageError(
                f"the JSON object has the keys {sorted(json_dict)}; expected exactly one of "
                f"{', '.join(INPUT_KEYS)}"
            )
        value: Any = json_dict[keys[0]]
        if keys[0] == "image_base64":
            try:
                value = base64.b64decode(value, validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise ImageError(f"image_base64 is not base64 text: {error}") from None
        elif keys[0] == "image_array":
            try:
                value = np.array(value, dtype=np.uint8)
            except (OverflowError, TypeError, ValueError) as error:
                raise ImageError(f"image_array is not an array of 0 to 255: {error}") from None
        elif not isinstance(value, str):
            raise ImageError(f"image is {value!r}; expected a path or a URL")
        return self._dataset_reader.text_to_instance(value)

    @classmethod
    def from_path(
        cls,
        archive_path: Union[str, Path],
        predictor_name: Optional[str] = None,
        cuda_device: int = -1,
        dataset_reader_to_load: str = "validation",
        frozen: bool = True,
        import_plugins: bool = True,
        overrides: Union[str, Dict[str, Any]] = "",
        trusted: bool = False,
        **kwargs: Any,
    ) -> "ImageClassifierPredictor":
        """
        Load a predictor as AllenNLP's `Predictor.from_path` does, but run no code from the archive
        unless it is `trusted` (see `allencv.common.archives`).
        """
        if import_plugins:
            plugins.import_plugins()
        predictor = Predictor.from_archive(
            load_archive(archive_path, cuda_device, overrides, trusted=trusted),
            predictor_name,
            dataset_reader_to_load=dataset_reader_to_load,
            frozen=frozen,
            extra_args=kwargs,
        )
        return cast(ImageClassifierPredictor, predictor)  # unless predictor_name names another
