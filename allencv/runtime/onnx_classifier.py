import os
from pathlib import Path
from typing import Tuple, Union

import numpy as np

from allencv.runtime.bundle import certainty_of, checksum_of, open_bundle, vector_size_of
from allencv.runtime.defaults import AUTO, DEFAULT_ENGINE, ENGINE_NAMES
from allencv.runtime.engine import PROBABILITIES, VECTORS
from allencv.runtime.engine_choice import chosen, fastest
from allencv.runtime.errors import BundleError
from allencv.runtime.images import ImageSource
from allencv.runtime.onnx_external_data import has_external_data


class OnnxClassifier:
    """
    A `Classifier` from a bundle, which needs neither torch nor AllenNLP.

    # Parameters

    path : the folder of the bundle.
    engine : on the CPU "onnxruntime", "openvino", or "openvino-reduced", which computes in the
        fastest precision on this machine; on other chips "cuda", "tensorrt", "coreml",
        "openvino-gpu" or "openvino-npu", which are compared with onnxruntime on images of noise.
        "auto" measures the available engines for a few seconds, and takes the fastest whose answers
        agree with onnxruntime's within the tolerance of the bundle's export.
    threads : the threads for one call of `probabilities`. Use 1 if you call it from several
        threads, one for each core.

    # Raises

    `BundleError` for a bundle that is missing, changed, or has no network in ONNX, and for an
    engine that cannot be used here or computes something else.
    """

    def __init__(
        self, path: Union[str, os.PathLike], engine: str = DEFAULT_ENGINE, threads: int = 1
    ) -> None:
        if engine != AUTO and engine not in ENGINE_NAMES:
            raise ValueError(
                f"engine is {engine!r}; expected one of {', '.join([AUTO, *ENGINE_NAMES])}"
            )
        if threads < 1:
            raise ValueError(f"threads is {threads}; expected at least 1")
        manifest = open_bundle(path)
        file = Path(path) / manifest.model_file
        if manifest.format != "onnx":
            raise BundleError(
                f"{file}: its format is {manifest.format}, which needs torch "
                "(allencv.exporting.TorchClassifier); expected onnx"
            )
        self.name = Path(path).resolve().name
        self.checksum = self.encoder_checksum = checksum_of(path)
        self.manifest = manifest
        self.labels = manifest.labels
        self.multi_label = manifest.multi_label
        self.certainty = certainty_of(path, manifest)
        self.thresholds = manifest.thresholds
        if self.certainty is not None:
            self.thresholds = self.certainty.calibrated_thresholds(self.thresholds)
        self.preprocessing = manifest.preprocessing
        self.preprocessing_text = repr(self.preprocessing)
        _check_network(file)
        if engine == AUTO:
            self.engine, self._run = fastest(file, manifest, threads)
        else:
            self.engine, self._run = engine, chosen(engine, file, manifest, threads)

    def preprocess(self, source: ImageSource) -> np.ndarray:
        return self.preprocessing(source)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._run(images)[0]

    def outputs(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        vector_size_of(self.manifest, self.name)
        probabilities, vectors = self._run(images, (PROBABILITIES, VECTORS))
        return probabilities, vectors

    @property
    def vector_size(self) -> int:
        """The size of the vectors of `vectors`. Raise `BundleError` if the bundle has none."""
        return vector_size_of(self.manifest, self.name)

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """
        Return the vectors `(batch, vector_size)`, `float32`, before the last layer, for pixels as
        `probabilities` takes them. With `test_time_augmentation` they are those of the images
        themselves, not of their views. Raise `BundleError` if the bundle has none.
        """
        vector_size_of(self.manifest, self.name)
        return self._run(images, (VECTORS,))[0]


def _check_network(file: Path) -> None:
    """Raise `BundleError` unless all weights are in the file, which has a checksum."""
    try:
        if not has_external_data(file.read_bytes()):
            return
    except ValueError as error:
        raise BundleError(f"{file}: is not an ONNX file: {error}") from None
    raise BundleError(f"{file}: has weights in another file, without a checksum; export it again")
