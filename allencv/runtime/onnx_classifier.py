import os
from pathlib import Path
from typing import Union

import numpy as np

from allencv.runtime.bundle import open_bundle
from allencv.runtime.engines import AUTO, DEFAULT_ENGINE, ENGINES, fastest, is_installed
from allencv.runtime.images import ImageSource
from allencv.runtime.manifest import BundleError


class OnnxClassifier:
    """
    A `Classifier` from a bundle, which needs neither torch nor AllenNLP.

    # Parameters

    path : the folder of the bundle.
    engine : what runs the network: "onnxruntime", "openvino", or "openvino-reduced", which computes
        in the precision that is fastest on this machine. "auto" measures what is installed for a
        few seconds, and takes the fastest whose answers are those of onnxruntime, as far as the
        bundle was allowed to differ from its archive.
    threads : that one call of `probabilities` keeps busy. What calls it from several threads, one
        for each core, is best off with 1.

    # Raises

    `BundleError` for a bundle that is missing, changed, or has no network in ONNX, and for an
    engine that is not installed.
    """

    def __init__(
        self, path: Union[str, os.PathLike], engine: str = DEFAULT_ENGINE, threads: int = 1
    ) -> None:
        if engine != AUTO and engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; expected one of {', '.join([AUTO, *ENGINES])}")
        if threads < 1:
            raise ValueError(f"threads is {threads}; expected at least 1")
        manifest = open_bundle(path)
        file = Path(path) / manifest.model_file
        if manifest.format != "onnx":
            raise BundleError(
                f"{file}: its format is {manifest.format}, which needs torch "
                "(allencv.export.TorchClassifier); expected onnx"
            )
        self.name = Path(path).resolve().name
        self.manifest = manifest
        self.labels = manifest.labels
        self.multi_label = manifest.multi_label
        self.thresholds = manifest.thresholds
        self.preprocessing = manifest.preprocessing
        if engine == AUTO:
            self.engine, self._run = fastest(file, manifest, threads)
        elif is_installed(engine):
            self.engine, self._run = engine, ENGINES[engine](file, threads)
        else:
            package = engine.removesuffix("-reduced")
            raise BundleError(f"the engine {engine} is not installed: pip install {package}")
        self._check_shapes(file)

    def _check_shapes(self, file: Path) -> None:
        """Tries an image, so that a network which is not that of the manifest is found here."""
        image = self.preprocessing(np.zeros((1, 1, 3), np.uint8))
        try:
            shape = self._run(image[None]).shape
        except Exception as error:  # each engine has classes of its own
            size = " x ".join(map(str, image.shape))
            raise BundleError(f"{file}: does not take images of {size}, uint8") from error
        if shape != (1, len(self.labels)):
            raise BundleError(
                f"{file}: gives {shape[-1]} probabilities for an image, but the manifest has "
                f"{len(self.labels)} labels"
            )

    def preprocess(self, source: ImageSource) -> np.ndarray:
        return self.preprocessing(source)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._run(images)
