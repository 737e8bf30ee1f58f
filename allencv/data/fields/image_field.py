import os
from typing import Callable, Dict, List, Optional, Union

import numpy as np
import simplejpeg
import torch
from allennlp.data.fields import Field
from PIL import Image

from allencv.runtime import COLOR_MODES, ImageError, ImageSource, read_image
from allencv.runtime.images import MAX_PIXELS, exif_orientation

JPEG_START = b"\xff\xd8\xff"
EXIF_START = b"Exif\0\0"
PLAIN_COLORSPACES = {"RGB": ("YCbCr", "Gray"), "L": ("Gray",)}

Transform = Callable[[torch.Tensor], torch.Tensor]


class ImageField(Field[torch.Tensor]):
    """
    An image, held as its source (usually a path) and decoded each time that a batch is made, so
    that a data set costs no memory and a random transform draws afresh each time.

    As a tensor it is `(channels, height, width)`, `uint8` unless a transform makes it float. A
    batch is `(batch, channels, height, width)`. Images of unequal sizes are padded at the right and
    at the bottom to the largest of the batch with `padding_value`.

    # Parameters

    source : `Union[ImageSource, torch.Tensor]`
        A path, the bytes of a file, a PIL image, a `uint8` array `(height, width[, channels])`, or
        a tensor `(channels, height, width)`: `uint8`, or floating point, which is taken as already
        normalised and keeps its values and channels. What each colour mode becomes is said in
        `allencv.runtime.to_color_mode`.
    transform : `Callable[[torch.Tensor], torch.Tensor]`, optional
        Applied to the decoded `uint8` image `(channels, height, width)` whenever it is decoded.
    color_mode : `str`, optional (default = `"RGB"`)
        "RGB", "L" (one channel) or "RGBA".
    padding_value : `float`, optional (default = `0`)
        What fills the rest of a batch of unequal images: 0 to 255 for `uint8` images.

    An image that cannot be read raises `ImageError` with its path when it is decoded.
    """

    __slots__ = ["color_mode", "padding_value", "source", "transform"]

    def __init__(
        self,
        source: Union[ImageSource, torch.Tensor],
        transform: Optional[Transform] = None,
        color_mode: str = "RGB",
        padding_value: float = 0,
    ) -> None:
        self.source = source
        self.transform = transform
        self.color_mode = color_mode
        self.padding_value = padding_value

    @property
    def name(self) -> str:
        """The path of the image, or what else it was made from."""
        if isinstance(self.source, (str, os.PathLike)):
            return os.fspath(self.source)
        return type(self.source).__name__

    def decoded(self) -> "ImageField":
        """This image decoded and transformed once and for all, as a field of its own."""
        return ImageField(
            self.as_tensor({}), color_mode=self.color_mode, padding_value=self.padding_value
        )

    def get_padding_lengths(self) -> Dict[str, int]:
        # The size is known only after decoding; batch_tensors pads what needs it.
        return {}

    def as_tensor(self, padding_lengths: Dict[str, int]) -> torch.Tensor:
        image = load_image(self.source, self.color_mode)
        return image if self.transform is None else self.transform(image)

    def batch_tensors(self, tensor_list: List[torch.Tensor]) -> torch.Tensor:
        shapes = {tensor.shape for tensor in tensor_list}
        if len(shapes) == 1:
            return torch.stack(tensor_list).contiguous()
        if len({shape[0] for shape in shapes}) > 1:
            raise ImageError(
                f"images of {sorted({shape[0] for shape in shapes})} channels in one batch; "
                "give every image the same color_mode"
            )
        largest = [max(shape[i] for shape in shapes) for i in range(3)]
        # Shape: (batch, channels, height, width)
        batch = tensor_list[0].new_full((len(tensor_list), *largest), self.padding_value)
        for padded, tensor in zip(batch, tensor_list):
            padded[:, : tensor.shape[1], : tensor.shape[2]] = tensor
        return batch

    def empty_field(self) -> "ImageField":
        channels = COLOR_MODES[self.color_mode]
        return ImageField(torch.zeros(channels, 1, 1, dtype=torch.uint8), None, self.color_mode)

    def human_readable_repr(self) -> str:
        return self.name

    def __str__(self) -> str:
        return f"ImageField of {self.name} as {self.color_mode}."


def load_image(
    source: Union[ImageSource, torch.Tensor], color_mode: str = "RGB"
) -> torch.Tensor:
    """
    Decodes a source into a tensor `(channels, height, width)`, `uint8` unless it is a float tensor.

    JPEG files are decoded by libjpeg-turbo with the GIL released; the pixels are the same, bit for
    bit, as `allencv.runtime.read_image` gives, which decodes all else.

    # Raises

    `ImageError`, with the name of the source.
    """
    if isinstance(source, torch.Tensor):
        if source.dim() != 3:
            raise ImageError(
                f"image tensor of shape {tuple(source.shape)}; expected (channels, height, width)"
            )
        if source.is_floating_point() or source.shape[0] == COLOR_MODES[color_mode]:
            return source
        source = source.permute(1, 2, 0).numpy()
    pixels = _decode_jpeg(source, color_mode)
    if pixels is None:
        pixels = read_image(source, color_mode)
        # pillow lends its own memory, read-only; torch wants writable memory
        pixels = pixels if pixels.flags.writeable else pixels.copy()
    # Shape: (channels, height, width), with the strides of (height, width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_jpeg(source: ImageSource, color_mode: str) -> Optional[np.ndarray]:
    """The pixels of a plain JPEG file, or None for whatever else the source may be."""
    if color_mode not in ("RGB", "L") or not isinstance(source, (str, os.PathLike, bytes)):
        return None
    try:
        if not isinstance(source, bytes):
            with open(source, "rb") as file:
                source = file.read()
        if not source.startswith(JPEG_START) or _is_rotated(source):
            return None
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(source)
        if height * width > MAX_PIXELS or colorspace not in PLAIN_COLORSPACES[color_mode]:
            return None
        return simplejpeg.decode_jpeg(source, "RGB" if color_mode == "RGB" else "GRAY")
    except (OSError, ValueError):
        return None  # read_image finds out what is wrong and says it


def _is_rotated(jpeg: bytes) -> bool:
    start = jpeg.find(EXIF_START, 0, 65536)
    if start < 0:
        return False

    def read_exif() -> Image.Exif:
        exif = Image.Exif()
        exif.load(jpeg[start : start + 65536])
        return exif

    return exif_orientation(read_exif) != 1
