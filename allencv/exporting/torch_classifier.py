import os
from pathlib import Path
from typing import Tuple, Union

import numpy as np
import torch

from allencv.runtime import BundleError, ImageSource, open_bundle
from allencv.runtime.bundle import certainty_of, checksum_of, vector_size_of
from allencv.runtime.engine import PROBABILITIES, VECTORS


class TorchClassifier:
    """
    A `Classifier` from a bundle of the format "torch_export", run by torch on the CPU.

    # Parameters

    path : `Union[str, os.PathLike]`, required
        The folder of the bundle.
    trusted : `bool`, optional (default = `False`)
        torch reads the file with pickle, which can run any code. So set this only if you trust the
        author of the bundle.

    # Raises

    `BundleError` for a bundle that is missing, changed, not trusted, or of another format.
    """

    def __init__(self, path: Union[str, os.PathLike], trusted: bool = False) -> None:
        manifest = open_bundle(path)
        file = Path(path) / manifest.model_file
        if manifest.format != "torch_export":
            raise BundleError(f"{file}: its format is {manifest.format}; expected torch_export")
        if not trusted:
            raise BundleError(
                f"{file}: torch may run code in such a file; set trusted=True (--trust-archive) if "
                "you trust its author"
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
        self._network = torch.export.load(file).module()

    def preprocess(self, source: ImageSource) -> np.ndarray:
        return self.preprocessing(source)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._computed(images)[PROBABILITIES].numpy()

    def outputs(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        vector_size_of(self.manifest, self.name)
        probabilities, vectors = self._computed(images)
        return probabilities.numpy(), vectors.numpy()

    @property
    def vector_size(self) -> int:
        """The size of the vectors of `vectors`. Raise `BundleError` if the bundle has none."""
        return vector_size_of(self.manifest, self.name)

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Return the vectors `(batch, vector_size)`, as `OnnxClassifier.vectors` does."""
        vector_size_of(self.manifest, self.name)
        return self._computed(images)[VECTORS].numpy()

    @torch.inference_mode()
    def _computed(self, images: np.ndarray) -> Tuple[torch.Tensor, ...]:
        outputs = self._network(torch.tensor(images))
        return outputs if self.manifest.vector_size is not None else (outputs,)
