import hashlib
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, Union

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import get_weights_path

from allencv.common.archives import load_opened_archive, opened_archive
from allencv.common.feature_store import encoder_checksum
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.transforms import EvalTransform
from allencv.models.image_classifier import ImageClassifier
from allencv.models.multilabel_classifier import MultiLabelImageClassifier
from allencv.runtime import ImageError, ImageSource
from allencv.runtime.bundle import sha256_of
from allencv.runtime.certainty.files import FILES
from allencv.runtime.terminal import notice
from allencv.training.acceleration import set_memory_format

VECTORS_AT_ONCE = 8192


class ArchiveClassifier:
    """
    A `Classifier` from a model archive. The validation reader of the model prepares the images, and
    the network computes in float32. The answers are those of `ImageClassifierPredictor`.

    # Parameters

    path : `Union[str, Path]`, required
        `model.tar.gz`, a URL of one, or the folder of a run.
    device : `str`, optional (default = the first GPU, or else the CPU)
        "cpu", "cuda", "cuda:1", ...
    trusted : `bool`, optional (default = `False`)
        Whether the archive's config may name any Python code (see `allencv.common.archives`).

    `network_thresholds` are those for probabilities that are not calibrated. `reader` and
    `training_reader` are those of the config. `preprocessing` is `None` unless the reader has
    exactly one transform, "eval". `preprocess` applies any transforms, some of which make pixels
    floats. `checksum` covers the config, the vocabulary, the weights, and what
    `allencv calibrate` has added; `encoder_checksum` only what turns pixels into vectors, and
    `preprocessing_text` says what turns an image into pixels.

    # Raises

    `ConfigurationError` for an archive that cannot be opened or holds no image classifier, and for
    a missing device.
    """

    vector_size: int
    """The size of the vectors of `vectors`."""
    preprocessing: Any  # an Optional[Preprocessing]; bundles and servers have one always

    @notice("opening the model")
    def __init__(
        self, path: Union[str, Path], device: Optional[str] = None, trusted: bool = False
    ) -> None:
        self.device = device_named(device)
        with opened_archive(path, trusted) as folder:
            self.checksum = _checksum(folder)
            archive = load_opened_archive(folder)
            self.weights_checksum = sha256_of(Path(get_weights_path(folder)))
        model, reader = archive.model, archive.validation_dataset_reader
        if not isinstance(model, ImageClassifier) or not isinstance(reader, ImageDatasetReader):
            raise ConfigurationError(
                f"archive '{path}' has a {type(model).__name__} and a {type(reader).__name__}; "
                "expected an image classifier and a reader of images"
            )
        self.name = "/".join(Path(path).parts[-2:])
        self.labels = model.label_names()
        self.multi_label = model.multi_label
        self.network_thresholds: Optional[List[float]] = None
        if isinstance(model, MultiLabelImageClassifier):
            self.network_thresholds = list(model.get_thresholds().values())
        self.certainty = model.certainty
        self.thresholds = self.network_thresholds
        if self.certainty is not None:
            self.thresholds = self.certainty.calibrated_thresholds(self.thresholds)
        self.vector_size = model.vector_size
        self._model = model.to(self.device).eval()
        set_memory_format(self._model, None, self.device)
        # In each thread, the vectors of the batch that it computes.
        self._noted = threading.local()
        model.note_vectors(self._note)
        self.reader, self.training_reader = reader, archive.dataset_reader
        self.config = archive.config.duplicate().as_dict(quiet=True)
        self.encoder_checksum = encoder_checksum(model.vector_network)
        field: Any = reader.text_to_instance(b"")["image"]
        self.preprocessing_text: str = field.preprocessing_text()
        transforms = reader.transforms
        self.preprocessing = None
        if [type(transform) for transform in transforms] == [EvalTransform]:
            self.preprocessing = replace(
                transforms[0].preprocessing,
                color_mode=reader.color_mode,
                value_range=reader.value_range,
            )

    def preprocess(self, source: ImageSource) -> np.ndarray:
        """Return the pixels `(height, width, channels)` of one image. Raise `ImageError`."""
        image: Any = self.reader.text_to_instance(source)["image"]
        return image.as_tensor({}).permute(1, 2, 0).numpy()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """
        Return the probabilities `(batch, labels)` of images `(batch, height, width, channels)`.
        Raise `ImageError` if the size varies and the network does not take this one.
        """
        return self._computed(lambda batch: self._model(image=batch)["probs"], images)

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Return the vectors `(batch, vector_size)` before the last layer, as `probabilities`."""
        return self._computed(self._model.encode, images)

    def outputs(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return the probabilities and the vectors, computed once."""

        def compute(batch: torch.Tensor) -> torch.Tensor:
            self._noted.vectors = []
            try:
                probabilities = self._model(image=batch)["probs"]
                # The image comes before its views.
                return torch.cat([probabilities.float(), self._noted.vectors[0].float()], dim=1)
            finally:
                del self._noted.vectors

        both = self._computed(compute, images)
        return both[:, : len(self.labels)], both[:, len(self.labels) :]

    def _note(self, vectors: torch.Tensor) -> None:
        if hasattr(self._noted, "vectors"):
            self._noted.vectors.append(vectors)

    @property
    def encoder_is_frozen(self) -> bool:
        """
        Whether the network before the last layer has weights, and training changed none: the config
        freezes them in the model, or by `trainer.no_grad`.
        """
        own = {id(each) for each in self._model.vector_network.parameters()}
        patterns = (self.config.get("trainer") or {}).get("no_grad") or ()
        return bool(own) and all(
            not each.requires_grad or any(re.search(pattern, name) for pattern in patterns)
            for name, each in self._model.named_parameters()
            if id(each) in own
        )

    def last_layer(self) -> Tuple[np.ndarray, np.ndarray]:
        """Return the weight `(labels, vector_size)` and bias `(labels,)` of the last layer."""
        weight, bias = self._model.last_layer()
        return weight.float().cpu().numpy(), bias.float().cpu().numpy()

    @torch.inference_mode()
    def probabilities_of_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """
        Return the probabilities `(n, labels)` for `vectors` `(n, vector_size)`: those of the images
        themselves, without the views of `test_time_augmentation`.
        """
        batches = torch.from_numpy(vectors).split(VECTORS_AT_ONCE)
        probs = [self._model(features=batch.to(self.device))["probs"] for batch in batches]
        return torch.cat(probs).float().cpu().numpy()

    @torch.inference_mode()
    def _computed(
        self, compute: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray
    ) -> np.ndarray:
        batch = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        try:
            return compute(batch).float().cpu().numpy()
        except (ConfigurationError, RuntimeError) as error:
            if self.preprocessing is not None or isinstance(error, torch.OutOfMemoryError):
                raise
            size = f"{images.shape[2]} x {images.shape[1]} pixels"
            reason = str(error).partition("\n")[0]
            raise ImageError(f"the network does not take images of {size}: {reason}") from error


def device_named(name: Optional[str]) -> torch.device:
    """Return a device, by default the first GPU or else the CPU. Raise `ConfigurationError`."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device is '{name}', which does not exist: {reason}") from None
    return device


def _checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    files = [folder / "config.json", Path(get_weights_path(folder))]
    files += [*sorted((folder / "vocabulary").glob("*.txt")), *(folder / name for name in FILES)]
    for file in files:
        if file.is_file():  # a missing file is reported when the archive is opened
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
