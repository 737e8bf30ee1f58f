"""The choices in a config for given data, each with its reason."""

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch

from allencv.fitting.backbones import SMALL_IMAGE, Backbone, choose_backbone, small_encoder
from allencv.fitting.data_facts import DataFacts
from allencv.fitting.image_sizes import check_size, size_that_fits
from allencv.fitting.options import FitOptions
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import wrapped

IMBALANCED = 3
IMAGES_SEEN = {"fine-tuning": 20_000, "training from scratch": 150_000}
"""About how many images a typical training processes."""
EPOCHS = {"fine-tuning": (5, 30), "training from scratch": (10, 100)}
"""The smallest and largest number of epochs."""
FITTED_RATE = 3e-4
"""
The learning rate to fine-tune a model of `fit --quick`. On 245 photographs of ants and bees at 96
pixels, 87.6 % of the validation images were right before, and 86.9 % after one epoch; with 1e-3
85.0 %, and 77.8 % with batch normalisation trained.
"""
MANY_EPOCHS = 20
"""From this number of epochs, training stops early if nothing gets better."""


class Reason(NamedTuple):
    """A choice in words, and why it was made."""

    choice: str
    why: str


@dataclass
class Reasons:
    """The reason for each choice; `None` if there was nothing to choose."""

    image_size: Reason
    backbone: Reason
    colour_mode: Optional[Reason]
    task: Reason
    batch_size: Reason
    epochs: Reason
    early_stopping: Optional[Reason]
    learning_rate: Reason
    class_weights: Optional[Reason]
    augmentation: Reason
    calibration: Optional[Reason] = None

    def lines(self) -> List[str]:
        """Return each choice to print, in a line or more: the name, the choice, and the reason."""
        made = {name.replace("_", " "): reason for name, reason in vars(self).items() if reason}
        names = max(map(len, vars(self)))
        choices = max(len(reason.choice) for reason in made.values())
        return [
            wrapped(
                f"  {name:{names}}  {reason.choice:{choices}}  {reason.why}", names + choices + 4
            )
            for name, reason in made.items()
        ]


@dataclass(frozen=True)
class Start:
    """
    The model of `fit --quick`, to fine-tune.

    # Parameters

    archive : `str`
        The path of its archive.
    evaluation : `Dict[str, Any]`
        The transform of its validation images, "eval".
    """

    archive: str
    evaluation: Dict[str, Any]


@dataclass
class Choices:
    image_size: int
    encoder: Dict[str, Any]
    channels: int
    is_small_network: bool
    """Whether the encoder is one of this project, which is trained from scratch by Muon."""
    is_pretrained: bool
    pixel_mean: Optional[List[float]]
    pixel_std: Optional[List[float]]
    color_mode: str
    batch_size: int
    epochs: int
    patience: Optional[int]
    """In epochs; `None` to train all epochs."""
    learning_rate: float
    class_weights: bool
    crops_little: bool
    """Whether random crops in training have half of the image or more."""
    skips_unreadable: bool
    reasons: Reasons
    time_limit: Optional[str] = None
    """The most time for training, such as "90s"."""
    warning: Optional[str] = None
    """What a user can do about missing pretrained weights, in several lines."""
    start: Optional[Start] = None

    def set_epochs(self, epochs: int, why: str) -> None:
        """Choose another number of epochs, and when to stop early."""
        self.epochs, self.reasons.epochs = epochs, Reason(str(epochs), why)
        self.patience, self.reasons.early_stopping = _early_stopping(epochs)


def choose(facts: DataFacts, options: FitOptions, start: Optional[Start] = None) -> Choices:
    """
    Choose defaults for the data and for the device of this machine, and to fine-tune `start` if it
    is given.

    # Raises

    `ConfigurationError` for an unknown backbone, or if weights that the user asks for are not
    available.
    """
    on_gpu = torch.cuda.is_available()
    has_much_to_see = min(facts.height, facts.width) > SMALL_IMAGE
    backbone = choose_backbone(options.backbone, options.weights, facts, has_much_to_see, on_gpu)
    size, why_size = _image_size(options.image_size, facts, backbone, on_gpu)
    if start is not None:
        size, why_size = start.evaluation["size"], "that of --quick"
    gray = facts.is_gray and backbone.is_small_network
    encoder, channels = dict(backbone.encoder), backbone.channels
    if start is not None:
        # The statistics of small batches are not those that the model was fitted with.
        encoder["train_bn"] = False
    if backbone.is_small_network:
        encoder, channels = small_encoder(backbone.name, 1 if gray else 3, size)
    weigh = not facts.is_multi_label and facts.imbalance > IMBALANCED
    batch_size = options.batch_size or _batch_size(facts, size, on_gpu)
    kind = "fine-tuning" if backbone.is_pretrained else "training from scratch"
    least, most = EPOCHS[kind]
    epochs = options.epochs or min(max(IMAGES_SEEN[kind] // facts.num_train, least), most)
    optimizer = "Muon" if backbone.is_small_network else "AdamW"
    usual_rate = 1e-3 if backbone.is_pretrained else 1e-2 if backbone.is_small_network else 3e-3
    learning_rate = options.learning_rate() or (usual_rate if start is None else FITTED_RATE)

    patience, why_patience = (None, None) if options.epochs else _early_stopping(epochs)

    def why(asked: Optional[float], otherwise: str) -> str:
        return "as requested" if asked else otherwise

    where = "GPU" if on_gpu else "CPU"
    # With many images a small network has few epochs, too few to learn from smaller crops.
    crops_little = facts.num_train < 5000 or backbone.is_small_network
    crop = "a random crop of half or more of" if crops_little else "a random crop of"
    reasons = Reasons(
        image_size=Reason(f"{size} x {size}", why_size),
        backbone=Reason(backbone.name, backbone.reason),
        colour_mode=Reason("grey", "all images that were looked at are grey") if gray else None,
        task=_task(facts, weigh),
        batch_size=Reason(
            str(batch_size),
            why(options.batch_size, f"for a {where} and {facts.num_train} images"),
        ),
        epochs=Reason(str(epochs), why(options.epochs, f"typical for {kind} at this dataset size")),
        early_stopping=why_patience,
        learning_rate=Reason(
            f"{learning_rate:g}",
            why(
                options.learning_rate(),
                f"typical for {optimizer} and {kind}"
                if start is None
                else "lower than usual, as the last layer is fitted already",
            ),
        ),
        class_weights=_class_weights(facts) if weigh else None,
        augmentation=Reason("train_light", f"{crop} each image, mirrored or not"),
        calibration=_calibration(facts),
    )
    return Choices(
        image_size=size,
        encoder=encoder,
        channels=channels,
        is_small_network=backbone.is_small_network,
        is_pretrained=backbone.is_pretrained,
        pixel_mean=[0.5] if gray else _list(backbone.pixel_mean),
        pixel_std=[0.25] if gray else _list(backbone.pixel_std),
        color_mode="L" if gray else "RGB",
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        learning_rate=learning_rate,
        class_weights=weigh,
        crops_little=crops_little,
        skips_unreadable=options.on_error == "skip",
        reasons=reasons,
        warning=backbone.warning,
        start=start,
    )


def _early_stopping(epochs: int) -> Tuple[Optional[int], Optional[Reason]]:
    """
    Return the patience in epochs: a third of training. The learning rate falls until the end, and
    the score of few validation images jumps, so that less would stop too soon.
    """
    if epochs < MANY_EPOCHS:
        return None, None
    patience = epochs // 3
    why = "without progress: a third of training, as scores of few images vary by chance"
    return patience, Reason(f"after {patience} epochs", why)


def _task(facts: DataFacts, weigh: bool) -> Reason:
    if facts.is_multi_label:
        return Reason(
            f"{numbered(len(facts.counts), 'label')}, any number per image",
            "binary cross entropy, judged by mean average precision",
        )
    smoothing = "" if weigh else ", label smoothing"
    return Reason(f"one of {len(facts.counts)} classes", f"cross entropy{smoothing}")


def _calibration(facts: DataFacts) -> Optional[Reason]:
    if not facts.num_calibration:
        return None
    why = (
        "training images that are held out: on them the model learns when not to answer "
        "(--no-calibration trains on them)"
        if facts.is_calibration_held_out
        else "on them the model learns when not to answer (--no-calibration)"
    )
    return Reason(numbered(facts.num_calibration, "image"), why)


def _class_weights(facts: DataFacts) -> Reason:
    why = f"the largest class has {facts.imbalance:.1f} times the images of the smallest"
    return Reason("by effective number", why)


def _list(values: Optional[Tuple[float, ...]]) -> Optional[List[float]]:
    return None if values is None else list(values)


def _image_size(
    asked: Optional[int], facts: DataFacts, backbone: Backbone, on_gpu: bool
) -> Tuple[int, str]:
    """Return a size in pixels that the backbone takes, and the reason for it."""
    if backbone.image_size is not None and asked is None:
        return backbone.image_size, f"the only size that {backbone.name} takes"
    if asked is not None:
        if backbone.network is not None:
            check_size(backbone.name, backbone.network, asked)
        return asked, "as requested"
    size, why = _size_of(facts, backbone.is_pretrained, on_gpu)
    if backbone.network is None:
        return size, why
    fitting = size_that_fits(backbone.name, backbone.network, size)
    return fitting, why if fitting == size else f"{backbone.name} cannot take {size} x {size}"


def _size_of(facts: DataFacts, is_pretrained: bool, on_gpu: bool) -> Tuple[int, str]:
    """Return a size in pixels for the images, and the reason for it."""
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
    largest = (256 if on_gpu else 128) if size <= SMALL_IMAGE else (128 if on_gpu else 32)
    batch_size = 4
    while batch_size < largest and batch_size * 16 <= facts.num_train:
        batch_size *= 2
    return batch_size
