import io
import os
import threading
from typing import Callable, Dict, List, Optional, Sequence, Union

import numpy as np
import simplejpeg
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data.fields import Field
from PIL import Image

from allencv.common.memory import reused_memory
from allencv.common.stable_text import stable_text
from allencv.common.turns import waiting_for_data
from allencv.data.transforms.batch_memory import stacked
from allencv.data.transforms.image_transform import InTurn, TransformError
from allencv.runtime import COLOR_MODES, ImageError, ImageSource, read_image
from allencv.runtime.images import MAX_PIXELS, exif_orientation
from allencv.runtime.regular_files import open_regular
from allencv.runtime.value_ranges import ValueRange

JPEG_START = b"\xff\xd8\xff"
FIRST_BYTES = 8192
JPEG_SCAN, JPEG_APP1 = 0xDA, 0xE1
JPEG_SEGMENTS = {*range(0xC0, 0xD0), *range(0xDA, 0xFF)}
"""The markers of a JPEG file that are followed by a length."""

PLAIN_COLORSPACES = {"RGB": ("YCbCr", "Gray"), "L": ("Gray",)}
"""For each colour mode, the JPEG colour spaces that libjpeg converts as pillow does."""

Empty = Callable[[Sequence[int], torch.dtype], torch.Tensor]
Transform = Callable[[torch.Tensor], torch.Tensor]
Source = Union[ImageSource, torch.Tensor, Callable[[], Union[ImageSource, torch.Tensor]]]


class ImageBatch:
    """
    The memory of a batch, into which any thread copies an image as soon as it is decoded. Otherwise
    images waiting for the batch would take as much memory again.

    The first image sets shape, type and layout; different images stay outside.

    # Parameters

    size : `int`, required
        The number of images.
    empty : `Callable[[Sequence[int], torch.dtype], torch.Tensor]`, optional
        Makes the memory of the batch. By default it may be that of an earlier batch.
    """

    def __init__(self, size: int, empty: Empty = reused_memory) -> None:
        self._new = empty
        self._images: List[Optional[torch.Tensor]] = [None] * size
        self._lock = threading.Lock()
        self._tensor: Optional[torch.Tensor] = None

    def put(self, place: int, image: torch.Tensor) -> torch.Tensor:
        """Return the image `(channels, height, width)` in the batch, or itself if it differs."""
        if image.dim() != 3:
            return image
        with self._lock:
            if self._tensor is None:
                self._tensor = self._empty(image)
        part = self._tensor[place]
        if (part.shape, part.dtype) != (image.shape, image.dtype) or (
            is_channels_last(part) != is_channels_last(image)
        ):
            return image
        self._images[place] = part
        return part.copy_(image)

    def made_of(self, images: List[torch.Tensor]) -> Optional[torch.Tensor]:
        """Return the batch `(size, channels, height, width)` if these are all of its parts."""
        if len(images) != len(self._images):
            return None
        is_whole = all(image is part for image, part in zip(images, self._images))
        return self._tensor if is_whole else None

    def _empty(self, image: torch.Tensor) -> torch.Tensor:
        channels, height, width = image.shape
        if is_channels_last(image):
            rows = self._new((len(self._images), height, width, channels), image.dtype)
            return rows.permute(0, 3, 1, 2)
        return self._new((len(self._images), channels, height, width), image.dtype)


class ImageField(Field[torch.Tensor]):
    """
    An image, held as its source (usually a path) and decoded each time a batch is made. A dataset
    takes little memory, and random transforms draw anew each time.

    As a tensor it is `(channels, height, width)`, `uint8` unless a transform makes it float. A
    batch is `(batch, channels, height, width)`, in torch's memory format `channels_last` if its
    images are, as decoded images are. Images of different sizes are padded with `padding_value` at
    the right and the bottom to the largest size in the batch.

    # Parameters

    source : `Union[ImageSource, torch.Tensor, Callable[[], ImageSource]]`
        A path, the bytes of a file, a PIL image, or a `uint8` array `(height, width[, channels])`:
        `allencv.runtime.to_color_mode` describes their conversion. Or a tensor
        `(channels, height, width)`, `uint8` or floating point, used unchanged. Or a function
        without arguments that returns one of these, called for each decoding.
    transform : `Callable[[torch.Tensor], torch.Tensor]`, optional
        Applied to the image `(channels, height, width)` each time it is decoded.
    color_mode : `str`, optional (default = `"RGB"`)
        "RGB", "L" (one channel) or "RGBA".
    padding_value : `float`, optional (default = `0`)
        The value of padding pixels: 0 to 255 for `uint8` images. `None` refuses to pad.
    value_range : `Tuple[float, float]`, optional (default = `None`)
        The values that become black and white, for images of more than 8 bits per channel.

    An image that cannot be read or transformed raises `ImageError` with its path.
    """

    __slots__ = ["batch", "color_mode", "padding_value", "source", "transform", "value_range"]

    def __init__(
        self,
        source: Source,
        transform: Optional[Transform] = None,
        color_mode: str = "RGB",
        padding_value: Optional[float] = 0,
        value_range: Optional[ValueRange] = None,
    ) -> None:
        self.source = source
        self.transform = transform
        self.color_mode = color_mode
        self.padding_value = padding_value
        self.value_range = value_range
        self.batch: Optional[ImageBatch] = None

    @property
    def name(self) -> str:
        """Return the path of the image, or a description of its source."""
        if isinstance(self.source, (str, os.PathLike)):
            return os.fspath(self.source)
        return str(self.source) if callable(self.source) else type(self.source).__name__

    def preprocessing_text(self) -> str:
        """Say all that is done to an image before it gets to a model (see `stable_text`)."""
        transform: object = self.transform
        if isinstance(transform, InTurn):
            transform = transform.transforms  # without what it computes
        return stable_text([self.color_mode, self.value_range, transform])

    def decoded(self) -> "ImageField":
        """Return a field that holds this image decoded and transformed."""
        return ImageField(self.as_tensor({}), None, self.color_mode, self.padding_value)

    def moved_to(self, batch: ImageBatch, place: int) -> "ImageField":
        """Return this decoded image in the memory of its batch."""
        image = batch.put(place, self.as_tensor({}))
        moved = ImageField(image, None, self.color_mode, self.padding_value)
        moved.batch = batch
        return moved

    def get_padding_lengths(self) -> Dict[str, int]:
        # The size is known only after decoding; batch_tensors pads if needed.
        return {}

    def as_tensor(self, padding_lengths: Dict[str, int]) -> torch.Tensor:
        transform = self.transform

        def shrink(height: int, width: int) -> int:
            """Draw the transform and return by which factor decoding may shrink the image."""
            nonlocal transform
            draft = self.transform.draft(height, width)  # type: ignore[union-attr]
            if draft is None:
                return 1
            transform = draft.apply
            return draft.shrink

        drafts = hasattr(self.transform, "draft")
        image = load_image(
            self.source, self.color_mode, shrink if drafts else None, self.value_range
        )
        return self.transformed(image, transform)

    def transformed(self, image: torch.Tensor, transform: Optional[Transform]) -> torch.Tensor:
        """Apply a transform to this image. Raises `ImageError` if it cannot be applied."""
        if transform is None:
            return image
        try:
            return transform(image)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # each transform has its own errors
            kind = "" if isinstance(error, TransformError) else f"{type(error).__name__}: "
            raise ImageError(f"{self.name}: {kind}{error}") from error

    def batch_tensors(self, tensor_list: List[torch.Tensor]) -> torch.Tensor:
        kinds = {(tensor.dtype, *tensor.shape[:-2]) for tensor in tensor_list}
        if len(kinds) > 1:
            described = " and ".join(sorted(f"{dtype} {shape}" for dtype, *shape in kinds))
            raise ConfigurationError(
                f"images of {described} channels in one batch; expected one type and one number of "
                "channels (the reader's color_mode and transforms)"
            )
        whole = None if self.batch is None else self.batch.made_of(tensor_list)
        if whole is not None:
            return whole
        shapes = {tensor.shape for tensor in tensor_list}
        if len(shapes) == 1:
            return stacked(tensor_list)
        if self.padding_value is None:
            sizes = sorted(f"{shape[1]} x {shape[2]}" for shape in shapes)
            raise different_sizes(f"images of {' and '.join(sizes[:2])} pixels (height x width)")
        # Shape: (batch, channels, height, width)
        largest = [max(sizes) for sizes in zip(*shapes)]
        batch = tensor_list[0].new_full((len(tensor_list), *largest), self.padding_value)
        for padded, tensor in zip(batch, tensor_list):
            padded[..., : tensor.shape[-2], : tensor.shape[-1]] = tensor
        return batch

    def empty_field(self) -> "ImageField":
        channels = COLOR_MODES[self.color_mode]
        return ImageField(torch.zeros(channels, 1, 1, dtype=torch.uint8), None, self.color_mode)

    def human_readable_repr(self) -> str:
        return self.name

    def __str__(self) -> str:
        return f"ImageField of {self.name} as {self.color_mode}."


def different_sizes(found: str) -> ConfigurationError:
    """Return the error for images that cannot be kept as features, because their sizes differ."""
    return ConfigurationError(
        f"{found} come together; expected images of one size, by a transform such as 'resize' or "
        "'eval' in dataset_reader and validation_dataset_reader, because trainer.frozen_features "
        "cannot pad images"
    )


def is_channels_last(image: torch.Tensor) -> bool:
    """Return whether an image is a view of `(height, width, channels)`, as decoders give it."""
    return image.dim() == 3 and image.stride(0) == 1


def load_image(
    source: Source,
    color_mode: str = "RGB",
    shrink: Optional[Callable[[int, int], int]] = None,
    value_range: Optional[ValueRange] = None,
) -> torch.Tensor:
    """
    Decode a source into a `uint8` tensor `(channels, height, width)`; return a tensor unchanged.

    libjpeg-turbo decodes JPEG files with the GIL released. The pixels are bit for bit those of
    `allencv.runtime.read_image`, which decodes everything else.

    # Parameters

    source : `Source`, required
        See `ImageField`.
    color_mode : `str`, optional (default = `"RGB"`)
    shrink : `Callable[[int, int], int]`, optional (default = `None`)
        May be called with height and width before a JPEG file is decoded; returns by how much to
        shrink it: 1 (full size), 2, 4 or 8.
    value_range : `Tuple[float, float]`, optional (default = `None`)
        See `allencv.runtime.to_color_mode`.

    # Raises

    `ImageError`, with the name of the source.
    """
    if callable(source) and not isinstance(source, torch.Tensor):
        try:
            with waiting_for_data():
                given = source()
            return load_image(given, color_mode, shrink, value_range)
        except ImageError as error:
            raise ImageError(f"{source}: {error}") from None
    if isinstance(source, torch.Tensor):
        is_pixels = source.dtype == torch.uint8 or source.is_floating_point()
        if source.dim() != 3 or not is_pixels:
            raise ImageError(
                f"image tensor: {source.dtype} and shape {tuple(source.shape)}; expected uint8 or "
                "floating point and (channels, height, width)"
            )
        channels = COLOR_MODES[color_mode]
        if source.shape[0] != channels and source.shape[2] == channels:
            raise ImageError(
                f"image tensor: shape {tuple(source.shape)}, which looks like (height, width, "
                "channels); expected (channels, height, width): tensor.permute(2, 0, 1) makes it so"
            )
        return source
    pixels = _decode_jpeg(source, color_mode, shrink)
    if pixels is None:
        pixels = read_image(source, color_mode, value_range)
        # pillow lends its own memory, read-only; torch wants writable memory
        pixels = pixels if pixels.flags.writeable else pixels.copy()
    # Shape: (channels, height, width), with the strides of (height, width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_jpeg(
    source: ImageSource, color_mode: str, shrink: Optional[Callable[[int, int], int]]
) -> Optional[np.ndarray]:
    """Return the pixels of a plain JPEG file, or None for any other source."""
    if color_mode not in PLAIN_COLORSPACES or not isinstance(source, (str, os.PathLike, bytes)):
        return None
    try:
        jpeg = source if isinstance(source, bytes) else _read_jpeg(source)
        if not jpeg.startswith(JPEG_START):
            return None
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(jpeg)
        is_plain = colorspace in PLAIN_COLORSPACES[color_mode] and height * width <= MAX_PIXELS
        if not is_plain or _is_turned(jpeg):
            return None
        part = 1 if shrink is None else shrink(height, width)
        least = {"min_height": -(-height // part), "min_width": -(-width // part)}
        return simplejpeg.decode_jpeg(jpeg, "RGB" if color_mode == "RGB" else "GRAY", **least)
    except (OSError, ValueError):
        return None  # read_image finds the error and reports it


def _read_jpeg(path: Union[str, os.PathLike]) -> bytes:
    """Return the content of a JPEG file; for other files, the first bytes."""
    with waiting_for_data(), open_regular(path) as file:
        start = file.read(FIRST_BYTES)
        # Each call frees Python's lock, and a small file needs no second one.
        is_rest = len(start) == FIRST_BYTES and start.startswith(JPEG_START)
        return start + file.read() if is_rest else start


def _is_turned(jpeg: bytes) -> bool:
    """Return whether the metadata of a JPEG file rotate or mirror the image."""
    if not _has_app1(jpeg):
        return False
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        return exif_orientation(image.getexif) != 1


def _has_app1(jpeg: bytes) -> bool:
    """Return whether a JPEG file has an APP1 segment (EXIF, XMP); True if in doubt."""
    if bytes((0xFF, JPEG_APP1)) not in jpeg:  # most files: a search in C takes less time
        return False
    position = len(JPEG_START) - 1
    while len(jpeg) > position + 3:
        start, marker = jpeg[position], jpeg[position + 1]
        if start != 0xFF or marker not in JPEG_SEGMENTS or marker == JPEG_APP1:
            return True
        if marker == JPEG_SCAN:
            return False
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return True
