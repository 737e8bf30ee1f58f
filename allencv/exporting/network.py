import io
import re
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

import allencv
from allencv.models.image_classifier import ImageClassifier
from allencv.models.pixel_normalization import PixelNormalization
from allencv.runtime import COLOR_MODES, Preprocessing
from allencv.runtime.terminal import notice


class Network(torch.nn.Module):
    """
    A trained classifier for a bundle: it maps `uint8` pixels `(batch, height, width, channels)` to
    probabilities `(batch, labels)` and vectors `(batch, vector_size)`, both `float32`. It includes
    normalisation, the views of `test_time_augmentation`, and the softmax or sigmoid.

    The vectors are those of `ImageClassifier.encode`: of the images themselves, without more views.

    # Parameters

    model : `ImageClassifier`
        It is put into evaluation mode, float32 and channels-first memory order.
    normalization : `PixelNormalization`, optional
        The normalisation of the reader, if the model has none.
    """

    def __init__(
        self, model: ImageClassifier, normalization: Optional[PixelNormalization] = None
    ) -> None:
        super().__init__()
        self._model = model
        self._normalization = normalization
        self.eval().requires_grad_(False).float().to(memory_format=torch.contiguous_format)

    @property
    def vector_size(self) -> int:
        return self._model.vector_size

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        pixels = image.permute(0, 3, 1, 2).contiguous()
        if self._normalization is not None:
            pixels = self._normalization(pixels)
        # `encode` would compute the encoders again.
        vectors: List[torch.Tensor] = []
        with self._model.vectors_noted(vectors):
            probabilities = self._model(image=pixels)["probs"]
        return probabilities.float(), vectors[0].float()  # the image comes before its views


@notice("exporting the network")
def exported(network: Network, preprocessing: Preprocessing) -> ExportedProgram:
    """
    Return the graph of a network, for any batch size.

    # Raises

    `ConfigurationError` if torch cannot make a graph of its code.
    """
    channels = COLOR_MODES[preprocessing.color_mode]
    shape = (2, preprocessing.height, preprocessing.width, channels)
    images = torch.zeros(shape, dtype=torch.uint8)
    try:
        with torch.no_grad():
            network(images)  # raises the network's own error if the images do not fit
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # prints graphs
                program = torch.export.export(
                    network, (images,), dynamic_shapes={"image": {0: Dim("batch")}}
                )
    except ConfigurationError:
        raise
    except Exception as error:  # the kind depends on the code of `forward`
        raise not_exportable(error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has paths of this machine
    return program


def not_exportable(error: Exception) -> ConfigurationError:
    """Return an error that explains the problem in a network's code, in one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, GuardOnDataDependentSymNode):
        reason = (
            "its code depends on the values of an image (in an 'if', a loop, int() or item()), "
            "which a graph cannot; expected operations on tensors, such as torch.where"
        )
    elif text.startswith("Constraints violated (batch)"):
        reason = (
            "its code works for one number of images only; expected sizes that are read from the "
            "images, such as reshape(len(images), -1)"
        )
    else:
        reason = f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
    return ConfigurationError(
        f"the network cannot be exported{_place(error)}: {reason}; set ALLENNLP_DEBUG=1 for the "
        "whole error"
    )


def _place(error: Exception) -> str:
    """Return the place of an error in the code of a part, if not in torch or AllenCV."""
    packages = tuple(str(Path(str(module.__file__)).parent) for module in (torch, allencv))
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if not frame.filename.startswith((*packages, "<"))]
    return f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""
