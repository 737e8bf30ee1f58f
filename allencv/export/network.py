from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from torch.export import Dim, ExportedProgram

from allencv.models.image_classifier import ImageClassifier
from allencv.models.pixel_normalization import PixelNormalization
from allencv.runtime import COLOR_MODES, Preprocessing


class Network(torch.nn.Module):
    """
    A trained classifier as it stands in a bundle: `uint8` pixels `(batch, height, width, channels)`
    become probabilities `(batch, labels)`, `float32`. Normalisation, the views of
    `test_time_augmentation`, and the softmax or sigmoid are inside.

    # Parameters

    model : `ImageClassifier`
        It is put into evaluation mode and into channels-first memory order.
    normalization : `PixelNormalization`, optional
        What the reader does; the model takes the floats for normalised.
    """

    def __init__(
        self, model: ImageClassifier, normalization: Optional[PixelNormalization] = None
    ) -> None:
        super().__init__()
        self._model = model
        self._normalization = normalization
        self.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pixels = image.permute(0, 3, 1, 2).contiguous()
        if self._normalization is not None:
            pixels = self._normalization(pixels)
        return self._model(image=pixels)["probs"].float()


def exported(network: Network, preprocessing: Preprocessing) -> ExportedProgram:
    """
    The graph of a network, for any number of images at once.

    # Raises

    `ConfigurationError` if its code is such that torch finds no graph.
    """
    channels = COLOR_MODES[preprocessing.color_mode]
    shape = (2, preprocessing.height, preprocessing.width, channels)
    images = torch.zeros(shape, dtype=torch.uint8)
    try:
        with torch.no_grad():
            network(images)  # says in its own words if the images do not fit
            program = torch.export.export(
                network, (images,), dynamic_shapes={"image": {0: Dim("batch")}}
            )
    except ConfigurationError:
        raise
    except Exception as error:  # as many kinds as there are ways to write a forward
        raise not_exportable(error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of this machine
    return program


def not_exportable(error: Exception) -> ConfigurationError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0][:300] if lines else ""
    return ConfigurationError(
        f"the network cannot be exported: {type(error).__name__}: {reason}; set ALLENNLP_DEBUG=1 "
        "for the place in the code"
    )
