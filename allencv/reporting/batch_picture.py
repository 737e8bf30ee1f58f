"""Draws the images of a batch, each as decoded and as the network sees it."""

from pathlib import Path
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Sized, Tuple, cast

import numpy as np
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import prepare_environment
from allennlp.data import DataLoader, Instance, TensorDict, Vocabulary
from allennlp.data.fields import MetadataField
from allennlp.training.util import data_loaders_from_params
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from allencv.common.label_shares import as_shares
from allencv.data import ImageDataLoader
from allencv.data.data_loaders.workers import InstanceLookup
from allencv.data.fields.image_field import ImageField, load_image
from allencv.data.transforms import BatchTransform, ImageTransform, Normalize
from allencv.models.pixel_normalization import IMAGENET_MEAN, IMAGENET_STD

CELL, GAP, CAPTION, HEADER = 2.2, 0.14, 0.45, 0.5
"""Sizes in inches: an image, the space around it, its lines of text, the page's header."""
DPI = 110


class DrawnImage(NamedTuple):
    """
    An image with its label. `pixels` `(height, width, channels)` are drawn, and may be a smaller
    version of the image. `height` and `width` are the size of the image.
    """

    label: str
    pixels: np.ndarray
    height: int
    width: int


class ImagePair(NamedTuple):
    """An image of the batch, as decoded and as the network sees it."""

    name: str
    before: DrawnImage
    after: DrawnImage


def image_pairs(params: Params, split: str, count: int, epoch: int) -> List[ImagePair]:
    """
    Return the first images of an epoch, transformed as in training with the same seeds. The
    model's `batch_transforms` apply to training data only. Their random numbers differ from those
    of training, which depend on all numbers drawn before.
    """
    if f"{split}_data_path" not in params:
        raise ConfigurationError(f"--split is '{split}', but the config has no {split}_data_path")
    prepare_environment(params)
    model = params.pop("model", {})
    batch_transforms = [
        BatchTransform.from_params(each) for each in model.pop("batch_transforms", [])
    ]
    loaders = data_loaders_from_params(params)
    loader = loaders[split]
    if not isinstance(loader, ImageDataLoader):
        raise ConfigurationError(
            f"show-batch: data_loader is a {type(loader).__name__}; expected one of type 'image'"
        )
    vocab = _vocabulary(params, loaders)
    loader.index_with(vocab)
    images = loader.images
    images.instances = _WithOriginals(images.instances)
    loader.prefetch_batches = 1  # decode no more images than needed
    loader.worker = "thread"  # it starts at once
    loader.seek(epoch)

    shown: List[ImagePair] = []
    for batch in loader:
        originals = batch["original"]
        names = _label_names(originals[0], vocab, int(model.get("num_labels") or 0))
        mixing = batch_transforms if split == "train" else []
        scale = _pixel_scale(batch["image"], model, getattr(loader.reader, "transforms", []))
        given = _labels(batch, names)
        seen, labels = _as_the_network_sees(batch["image"], given, scale, mixing)
        descriptions = [[describe_label(row, names) for row in each] for each in (given, labels)]
        rows = list(zip(originals, seen, *descriptions))
        for instance, image, before, after in rows[: count - len(shown)]:
            field = instance["image"]
            shown.append(ImagePair(field.name, _decoded(field, before), _picture(image, after)))
        if len(shown) == count:
            break
    return shown


class _WithOriginals(Sequence):
    """Adds each instance to its own fields, so that a batch tells its instances."""

    def __init__(self, instances: InstanceLookup) -> None:
        self._instances = instances

    def __len__(self) -> int:
        return len(cast(Sized, self._instances))  # of a reader that lists its images

    def __getitem__(self, key: Any) -> Any:
        """Return an instance by its index; of a streaming reader, by its sample."""
        instance = self._instances[key]
        carrier = Instance({**instance.fields, "original": MetadataField(instance)})
        carrier.indexed = instance.indexed
        return carrier


def _vocabulary(params: Params, loaders: Mapping[str, DataLoader]) -> Vocabulary:
    """Make the same vocabulary as training."""
    chosen = params.pop("datasets_for_vocab_creation", None)
    instances = (
        instance
        for key, loader in loaders.items()
        if chosen is None or key in chosen
        for instance in loader.iter_instances()
    )
    return Vocabulary.from_params(params.pop("vocabulary", {}), instances=instances)


def _label_names(instance: Instance, vocab: Vocabulary, num_labels: int) -> List[str]:
    """Return the names of the classes in order. A class without a name gets its number."""
    field = instance.fields.get("label", instance.fields.get("labels"))
    names = vocab.get_index_to_token_vocabulary(getattr(field, "_label_namespace", "labels"))
    return [names.get(index, str(index)) for index in range(max(num_labels, len(names)))]


def _pixel_scale(
    images: torch.Tensor, model: Params, transforms: Sequence[ImageTransform]
) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    Return the `mean` and `std` that normalise pixels between 0 and 1, in the model or in a
    transform. Other floats are shown from their darkest to their brightest value.
    """
    normalizing = list(_normalizing(transforms))
    mean: Sequence[float]
    std: Sequence[float]
    if images.dtype == torch.uint8:
        mean = model.get("pixel_mean") or IMAGENET_MEAN
        std = model.get("pixel_std") or IMAGENET_STD
    elif normalizing:
        mean, std = (normalizing[-1].arguments[key] for key in ("mean", "std"))
    else:
        low, high = min(0.0, images.min().item()), max(1.0, images.max().item())
        mean, std = [-low / (high - low)], [1 / (high - low)]
    if not {len(mean), len(std)} <= {1, images.shape[1]}:
        mean, std = [0.5], [0.25]  # the model would refuse them; a picture needs no exact values
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)


def _normalizing(transforms: Iterable[ImageTransform]) -> Iterator[Normalize]:
    """Yield the `normalize` transforms among these and inside them."""
    for transform in transforms:
        if isinstance(transform, Normalize):
            yield transform
        inner = getattr(transform, "arguments", {}).get("transforms", [])
        yield from _normalizing(inner or getattr(transform, "transforms", []))


def _labels(batch: TensorDict, names: Sequence[str]) -> torch.Tensor:
    """Return the label weights `(batch, classes)` of a batch: all 0 without labels."""
    label = batch.get("label", batch.get("labels"))
    if label is None:
        return torch.zeros(len(batch["image"]), len(names))
    return as_shares(label, len(names))


def _as_the_network_sees(
    images: torch.Tensor,
    labels: torch.Tensor,
    scale: Tuple[torch.Tensor, torch.Tensor],
    mixing: Sequence[BatchTransform],
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the images of a batch, 0 to 255, and their labels, after the batch transforms."""
    mean, std = scale
    if images.dtype == torch.uint8:
        images = (images / 255 - mean) / std
    for transform in mixing:
        images, labels = transform(images, labels, labels.shape[1])
    return (images * std + mean) * 255, labels


def describe_label(shares: Sequence[float], names: Sequence[str]) -> str:
    """Return `cat` for one label, `cat 0.7 dog 0.3` for a mix, `cat, dog` for two full labels."""
    present = sorted(
        ((share, name) for share, name in zip(shares, names) if share >= 0.005),
        key=lambda entry: -entry[0],
    )
    if all(share == 1 for share, _ in present):
        return ", ".join(name for _, name in present)
    return " ".join(f"{name} {share:.2g}" for share, name in present)


def _decoded(field: ImageField, label: str) -> DrawnImage:
    image = load_image(field.source, field.color_mode, value_range=field.value_range)
    return _picture(image if image.dtype == torch.uint8 else image * 255, label)


def _picture(image: torch.Tensor, label: str) -> DrawnImage:
    """Shrink an image `(channels, height, width)` of values 0 to 255 to its size on the page."""
    channels, height, width = image.shape
    if channels not in (3, 4):
        image = image[:1].expand(3, -1, -1)
    # Shape: (height, width, channels)
    pixels = image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    shrunk = Image.fromarray(pixels)
    shrunk.thumbnail((int(2 * CELL * DPI), int(2 * CELL * DPI)))
    return DrawnImage(label, np.asarray(shrunk), height, width)


def draw_page(shown: Sequence[ImagePair], title: str) -> Figure:
    """Draw pairs of images in cells of one size, before on the left and after on the right."""
    columns = int(np.ceil(np.sqrt(len(shown) / 2)))
    rows = int(np.ceil(len(shown) / columns))
    pair = 2 * CELL + GAP  # the width of a pair of images
    width = columns * pair + (2 * columns) * GAP
    height = HEADER + rows * (CAPTION + CELL + GAP)
    figure = Figure(figsize=(width, height), dpi=DPI)

    def write(x: float, baseline: float, text: str, space: float, **style: Any) -> None:
        # A dollar sign in a file name must not start a formula.
        place = (x / width, 1 - baseline / height)
        written = figure.text(*place, text, va="baseline", parse_math=False, **style)
        _shorten(written, space * figure.dpi)

    write(GAP, GAP + 0.12, title, width - 2 * GAP, fontsize=10, weight="bold")
    explanation = "left: as decoded; right: as the network sees it"
    write(GAP, GAP + 0.3, explanation, width - 2 * GAP, fontsize=8, color="0.35")
    for index, image in enumerate(shown):
        row, column = divmod(index, columns)
        left = GAP + column * (pair + 2 * GAP)
        top = HEADER + row * (CAPTION + CELL + GAP)
        name = "/".join(Path(image.name).parts[-2:])
        write(left, top + 0.2, name, pair, fontsize=8, weight="bold")
        for x, picture in ((left, image.before), (left + CELL + GAP, image.after)):
            size = f"{picture.width} × {picture.height}"  # noqa: RUF001 - as sizes are written
            caption = f"{size}   {picture.label}".rstrip()
            write(x, top + 0.38, caption, CELL, fontsize=8, color="0.2")
            bottom = height - top - CAPTION - CELL
            _draw(figure, picture, (x / width, bottom / height, CELL / width, CELL / height))
    return figure


def _draw(figure: Figure, picture: DrawnImage, place: Tuple[float, float, float, float]) -> None:
    """Draw a picture in the middle of a square, as large as it fits."""
    cell = figure.add_axes(place, facecolor="0.94", xticks=[], yticks=[])
    for edge in cell.spines.values():
        edge.set_color("0.85")
    half_height, half_width = picture.height / 2, picture.width / 2
    half = max(half_height, half_width)
    extent = (-half_width, half_width, half_height, -half_height)
    cell.imshow(picture.pixels, extent=extent, aspect="auto")
    cell.set(xlim=(-half, half), ylim=(half, -half))


def _shorten(written: Text, most: float) -> None:
    """Cut the middle out of a text that is wider than `most` pixels."""
    text = written.get_text()
    kept = len(text)
    while kept > 2 and written.get_window_extent().width > most:
        kept = min(kept - 1, int(kept * most / written.get_window_extent().width) + 1)
        written.set_text(f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}")
