"""Parts of a batch of images, in the memory layout of the batch: by channels, or by pixels."""

from typing import Callable, List, Tuple

import numpy as np
import torch


def is_by_pixels(images: torch.Tensor) -> bool:
    """Return whether a batch has torch's memory format `channels_last`, as decoded images have."""
    return images.stride(1) == 1


def in_layout(images: torch.Tensor, by_pixels: bool) -> torch.Tensor:
    """Return a batch without gaps, by pixels or by channels."""
    rows = images.permute(0, 2, 3, 1) if by_pixels else images
    return _images(rows.contiguous(), by_pixels)


def stacked(images: List[torch.Tensor]) -> torch.Tensor:
    """Return a batch of images `(channels, height, width)` of one shape and type."""
    if all(image.stride(0) == 1 for image in images):
        # Decoders give this layout; `torch.stack` of the images takes six times as long.
        return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    return torch.stack(images)


def one_by_one(
    images: torch.Tensor, change: Callable[[int, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Return a batch of what `change` returns for the number of each image, and the image."""
    with torch._C.DisableTorchFunction():
        return stacked([change(number, image) for number, image in enumerate(images.unbind())])


def picked(images: torch.Tensor, which: np.ndarray) -> torch.Tensor:
    """Return a copy of some images of a batch, in its layout."""
    rows = _rows(images)
    found = rows.flatten(1).index_select(0, on_device_of(images, which))
    return _images(found.view(len(which), *rows.shape[1:]), is_by_pixels(images))


def put_back(images: torch.Tensor, which: np.ndarray, changed: torch.Tensor) -> torch.Tensor:
    """Overwrite some images of a batch, and return the batch."""
    old = _rows(images).flatten(1).view(torch.uint8)
    new = _rows(in_layout(changed, is_by_pixels(images))).flatten(1).view(torch.uint8)
    if images.device.type == "cpu":
        old.numpy()[which] = new.numpy()
    else:
        old.index_copy_(0, on_device_of(images, which), new)
    return images


def windows(
    images: torch.Tensor, tops: np.ndarray, lefts: np.ndarray, height: int, width: int
) -> torch.Tensor:
    """Return a part of each image, all of the same size, in the layout of the batch."""
    batch, channels, rows, columns = images.shape
    by_pixels = is_by_pixels(images)
    step = channels if by_pixels else 1  # from a pixel to the next
    places = np.arange(batch) * (channels * rows * columns) + (tops * columns + lefts) * step
    # Each part is what stands in memory from its first pixel on, with these strides.
    shape: Tuple[int, ...] = (height, width * step)
    strides: Tuple[int, ...] = (columns * step, 1)
    if not by_pixels:
        shape, strides = (channels, *shape), (rows * columns, *strides)
    length = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
    memory = _rows(images).reshape(-1)
    parts = memory.as_strided((len(memory) - length + 1, *shape), (1, *strides))
    found = parts.index_select(0, on_device_of(images, places))
    return _images(found.view(batch, height, width, channels), True) if by_pixels else found


def hide(images: torch.Tensor, boxes: np.ndarray, values: torch.Tensor) -> torch.Tensor:
    """
    Overwrite boxes in the images of a batch, and return the batch.

    # Parameters

    images : `torch.Tensor`
        `(batch, channels, height, width)`
    boxes : `np.ndarray`
        `(batch, boxes, 4)`: the first row and column, and those after the last. A box may extend
        over the edge.
    values : `torch.Tensor`
        `(1 or channels, 1, 1)`, of the type of the images.
    """
    if images.device.type == "cpu":
        for image, places in zip(images.unbind(), boxes.clip(0).tolist()):
            for top, left, bottom, right in places:
                if top < bottom and left < right:
                    image[:, top:bottom, left:right] = values
        return images
    # Shape of each: (batch, boxes, 1)
    top, left, bottom, right = on_device_of(images, boxes).unsqueeze(-1).unbind(2)
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[-2:])
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    # Shape: (batch, height, width)
    hidden = (in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)).any(1)
    for channel, value in enumerate(values.flatten().expand(images.shape[1]).tolist()):
        images[:, channel].masked_fill_(hidden, value)
    return images


def on_device_of(images: torch.Tensor, numbers: np.ndarray) -> torch.Tensor:
    """Return numbers on the device of a batch."""
    return torch.from_numpy(numbers).to(images.device, non_blocking=True)


def _rows(images: torch.Tensor) -> torch.Tensor:
    """Return a batch as it stands in memory."""
    return images.permute(0, 2, 3, 1) if is_by_pixels(images) else images


def _images(rows: torch.Tensor, by_pixels: bool) -> torch.Tensor:
    return rows.permute(0, 3, 1, 2) if by_pixels else rows
