import base64
import binascii
from pathlib import Path
from typing import Any, Dict, List, Optional, Union, cast

import numpy as np
from allennlp.common import plugins
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.predictors import Predictor

from allencv.common.archives import load_archive
from allencv.runtime import ImageError

INPUT_KEYS = ("image", "image_base64", "image_array")


@Predictor.register("default_image")
@Predictor.register("image_classifier")
class ImageClassifierPredictor(Predictor):
    """
    Classifies images with a trained model, through the reader that it was validated with.

    The JSON of one image has one of these keys: `image`, a path or a URL; `image_base64`, an image
    file in base64; `image_array`, the pixels as nested lists `[height][width][channel]`, 0 to 255.

    The answer has `label`, or `labels` from a model that gives any number of them, the most
    probable first; `top_k` (the most probable labels with their `probability`, at most five);
    `probs` and `logits` in the order of the vocabulary; and `metadata`. An image that cannot be
    read is answered with `error`, and the others are answered all the same.

    Registered as a `Predictor` with the names "image_classifier" and "default_image".
    """

    def predict(self, image: Union[str, bytes, np.ndarray]) -> JsonDict:
        """Classifies one image: a path, a URL, the bytes of a file, or a `uint8` array."""
        return self.predict_instance(self._dataset_reader.text_to_instance(image))

    def predict_instance(self, instance: Instance) -> JsonDict:
        return self.predict_batch_instance([instance])[0]

    def predict_batch_instance(self, instances: List[Instance]) -> List[JsonDict]:
        answers: List[JsonDict] = []
        readable: List[Instance] = []
        for instance in instances:
            try:
                fields = {**instance.fields, "image": instance["image"].decoded()}
                readable.append(Instance(fields))
                answers.append({})
            except ImageError as error:
                answers.append({"error": str(error), "metadata": instance["metadata"].metadata})
        predictions = iter(super().predict_batch_instance(readable) if readable else [])
        return [answer or next(predictions) for answer in answers]

    def predict_json(self, inputs: JsonDict) -> JsonDict:
        return self.predict_batch_json([inputs])[0]

    def predict_batch_json(self, inputs: List[JsonDict]) -> List[JsonDict]:
        errors: Dict[int, JsonDict] = {}
        instances = []
        for index, json_dict in enumerate(inputs):
            try:
                instances.append(self._json_to_instance(json_dict))
            except (ImageError, OSError) as error:
                errors[index] = {"error": str(error)}
        predictions = iter(self.predict_batch_instance(instances))
        return [errors.get(index) or next(predictions) for index in range(len(inputs))]

    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        keys = [key for key in INPUT_KEYS if key in json_dict]
        if len(keys) != 1:
            raise ImageError(
                f"a JSON object with the keys {sorted(json_dict)}; expected exactly one of "
                f"{', '.join(INPUT_KEYS)}"
            )
        value: Any = json_dict[keys[0]]
        if keys[0] == "image_base64":
            try:
                value = base64.b64decode(value, validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise ImageError(f"image_base64 is no base64 text: {error}") from None
        elif keys[0] == "image_array":
            try:
                value = np.array(value, dtype=np.uint8)
            except (OverflowError, TypeError, ValueError) as error:
                raise ImageError(f"image_array is no array of 0 to 255: {error}") from None
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
        AllenNLP's `Predictor.from_path`, which runs no code from the archive unless it is `trusted`
        (see `allencv.common.archives`).
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
        return cast(ImageClassifierPredictor, predictor)  # unless predictor_name is another's
