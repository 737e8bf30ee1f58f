"""The choices in a config for given data, each with its reason."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError

from allencv.fitting.backbones import choose_backbone
from allencv.fitting.data_facts import DataFacts
from allencv.fitting.image_sizes import check_size, size_that_fits
from allencv.runtime.plurals import numbered

SMALL_IMAGE = 64
"""Up to this size in pixels, a small network is trained from scratch."""
IMBALANCED = 3
IMAGES_SEEN = {"fine-tuning": 20_000, "training from scratch": 150_000}
"""About how many images a typical training processes."""
EPOCHS = {"fine-tuning": (5, 30), "training from scratch": (10, 100)}
"""The smallest and largest number of epochs."""


@dataclass
class Options:
    """The user's choices; `None` leaves a choice to `choose`."""

    backbone: Optional[str] = None
    weights: Optional[str] = None
    image_size: Optional[int] = None
    epochs: Optional[int] = None
    learning_rate: Optional[float] = None
    batch_size: Optional[int] = None
    skips_unreadable: bool = True
    """Whether training skips images that cannot be read."""


@dataclass
class Choices:
    image_size: int
    encoder: Dict[str, Any]
    channels: int
    is_pretrained: bool
    pixel_mean: Optional[List[float]]
    pixel_std: Optional[List[float]]
    color_mode: str
    batch_size: int
    epochs: int
    learning_rate: float
    class_weights: bool
    skips_unreadable: bool
    reasons: Dict[str, Tuple[str, str]] = field(default_factory=dict)
    """The value of each choice in words, and the reason."""

    def lines(self) -> List[str]:
        return [f"  {key:<14} {what:<34} {why}" for key, (what, why) in self.reasons.items()]


def choose(facts: DataFacts, options: Options) -> Choices:
    """
    Choose defaults for the data and for the device of this machine.

    # Raises

    `ConfigurationError` for an unknown backbone, or if weights that the user asks for are not
    available.
    """
    reasons: Dict[str, Tuple[str, str]] = {}
    on_gpu = torch.cuda.is_available()
    short_side = min(facts.height, facts.width)
    backbone = choose_backbone(
        options.backbone, options.weights, facts, short_side > SMALL_IMAGE, on_gpu
    )
    if backbone.image_size is not None and options.image_size is None:
        size, why = backbone.image_size, f"the only size that {backbone.name} takes"
    else:
        size, why = _image_size(options.image_size, facts, backbone.is_pretrained, on_gpu)
        if backbone.network is not None and options.image_size is not None:
            check_size(backbone.name, backbone.network, size)
        elif backbone.network is not None:
            fitting = size_that_fits(backbone.name, backbone.network, size)
            why = why if fitting == size else f"{backbone.name} cannot take {size} x {size}"
            size = fitting
    reasons["image size"] = (f"{size} x {size}", why)
    reasons["backbone"] = (backbone.name, backbone.reason)
    gray = facts.is_gray and backbone.encoder["type"] == "small_resnet"
    encoder = dict(backbone.encoder)
    if encoder["type"] == "small_resnet":
        encoder |= {"input_channels": 1 if gray else 3, "stem_stride": 1 if size <= 32 else 2}
        if size > SMALL_IMAGE:
            encoder["widths"] = [32, 64, 128, 256]
    if gray:
        reasons["colour mode"] = ("grey", "all images that were looked at are grey")
    weigh = not facts.is_multi_label and facts.imbalance > IMBALANCED
    if facts.is_multi_label:
        what = f"{numbered(len(facts.counts), 'label')}, any number per image"
        reasons["task"] = (what, "binary cross entropy, judged by mean average precision")
    else:
        smoothing = "" if weigh else ", label smoothing"
        reasons["task"] = (f"one of {len(facts.counts)} classes", f"cross entropy{smoothing}")

    batch_size = options.batch_size or _batch_size(facts, size, on_gpu)
    where = "GPU" if on_gpu else "CPU"
    reasons["batch size"] = (
        str(batch_size),
        "as asked for" if options.batch_size else f"for a {where} and {facts.num_train} images",
    )
    kind = "fine-tuning" if backbone.is_pretrained else "training from scratch"
    least, most = EPOCHS[kind]
    epochs = options.epochs or min(max(IMAGES_SEEN[kind] // facts.num_train, least), most)
    why = "as asked for" if options.epochs else f"typical for {kind} at this dataset size"
    reasons["epochs"] = (str(epochs), why)
    learning_rate = options.learning_rate or (1e-3 if backbone.is_pretrained else 3e-3)
    why = "as asked for" if options.learning_rate else f"typical for AdamW and {kind}"
    reasons["learning rate"] = (f"{learning_rate:g}", why)
    if weigh:
        what = f"the largest class has {facts.imbalance:.1f} times the images of the smallest"
        reasons["class weights"] = ("by effective number", what)
    scale = "a random half or more of each image" if facts.num_train < 5000 else "a random part"
    reasons["augmentation"] = ("train_light", f"{scale}, mirrored or not")
    return Choices(
        image_size=size,
        encoder=encoder,
        channels=encoder.get("widths", [0])[-1] or backbone.channels,
        is_pretrained=backbone.is_pretrained,
        pixel_mean=[0.5] if gray else _list(backbone.pixel_mean),
        pixel_std=[0.25] if gray else _list(backbone.pixel_std),
        color_mode="L" if gray else "RGB",
        batch_size=batch_size,
        epochs=epochs,
        learning_rate=learning_rate,
        class_weights=weigh,
        skips_unreadable=options.skips_unreadable,
        reasons=reasons,
    )


def _list(values: Optional[Tuple[float, ...]]) -> Optional[List[float]]:
    return None if values is None else list(values)


def _image_size(
    asked: Optional[int], facts: DataFacts, is_pretrained: bool, on_gpu: bool
) -> Tuple[int, str]:
    if asked is not None:
        if asked < 8:
            raise ConfigurationError(f"--image-size is {asked}; expected 8 pixels or more")
        return asked, "as asked for"
    median = f"the images are {facts.width} x {facts.height} (median)"
    short_side = min(facts.height, facts.width)
    for size in (32, 64):
        if short_side <= 1.25 * size:
            return size, median
    if not is_pretrained and not on_gpu:
        return 96 if short_side < 160 else 128, f"{median}; more would take long on a CPU"
    return 128 if short_side < 160 else 224, median


def _batch_size(facts: DataFacts, size: int, on_gpu: bool) -> int:
    """Return a power of two: at least eight steps per epoch if possible."""
    largest = 32 if not on_gpu and size > 64 else 64 if not on_gpu else 256 if size <= 64 else 128
    batch_size = 4
    while batch_size < largest and batch_size * 16 <= facts.num_train:
        batch_size *= 2
    return batch_size
