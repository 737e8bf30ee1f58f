"""
Fit heads on the features of frozen pretrained networks, and choose the best: `allencv fit --quick`.
"""

import copy
import logging
import re
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
from allennlp.commands.train import TrainModel
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import prepare_environment

from allencv.common.label_text import shown
from allencv.common.quiet import quiet
from allencv.features.forecast import class_gains, forecast, learning_curve
from allencv.features.head_ranking import FIRST_ROUND, RankedHead, draw_by_class, rank_heads
from allencv.features.heads import LinearHead
from allencv.features.linear_head_trainer import (
    LABELS,
    LabelledVectors,
    LinearHeadTrainer,
    classes_without_images,
    labelled_vectors,
)
from allencv.features.pretrained_backbones import (
    has_published_weights,
    has_weights_here,
    missing_weights,
)
from allencv.fitting.backbones import Backbone, choose_backbone
from allencv.fitting.config_file import comments_on_calibration
from allencv.fitting.data_facts import DataFacts, data_config
from allencv.fitting.data_parts import FoundData
from allencv.fitting.image_sizes import check_size, size_that_fits
from allencv.fitting.options import FitOptions
from allencv.modules.packaged_weights import LITE0
from allencv.runtime.errors import InputError
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import wrapped
from allencv.training.acceleration import is_out_of_memory
from allencv.training.protocols import KeepsFeatures
from allencv.training.time_limit import seconds_of

Say = Callable[[str], None]

BACKBONES = (
    LITE0,
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "resnet50",
    "convnext_tiny",
)
"""
If none is asked for, those of these networks are tried whose weights are here. They are in the
order of the work for an image.
"""
SECONDS = 60.0
"""The time for all of them, without `--time`."""
LARGE_IMAGE, SIZE_OF_SMALL, SIZE_OF_LARGE = 160, 128, 256
"""
In pixels: images whose short side is smaller are enlarged or reduced to the first size, others
reduced to the second. Networks that were trained on random crops see things larger in training than
in a test at the same size, so a larger size is more accurate (Touvron et al. 2019,
arXiv:1906.06423).
"""
MOST_FOR_CURVE = 20_000
"""With more training images there is no learning curve, which would take longer than the rest."""
NO_TIME = "--time is too short"
NAMES = {
    "logistic_regression": "logistic regression",
    "nearest_class_mean": "nearest class mean",
    "k_nearest_neighbours": "k nearest neighbours",
}


@dataclass
class QuickChoice:
    """
    The best head, as a config that fits it.

    # Parameters

    backbone : `str`
        The name of its network.
    comments : `Dict[str, str]`
        The comments of the config, by the paths of its keys.
    """

    config: Dict[str, Any]
    comments: Dict[str, str]
    backbone: str


@dataclass
class _Candidate:
    """A network, with what is known about it."""

    backbone: Backbone
    size: int
    config: Dict[str, Any]
    trainer: LinearHeadTrainer
    computed: int = 0
    """How many images it has computed, and in how many seconds: the others were kept."""
    seconds: float = 0.0
    score: float = field(default=0.0)

    @property
    def name(self) -> str:
        return self.backbone.name

    @property
    def speed(self) -> Optional[float]:
        """Images per second, or `None` if it has computed none."""
        return self.computed / self.seconds if self.computed else None

    def work(self, images: int) -> str:
        """Say what it has done for so many images."""
        what = f"Features of {images} images by {self.name}"
        if not self.computed:
            return f"{what}: all were kept"
        kept = f"{images - self.computed} were kept, " if self.computed < images else ""
        speed = f"{self.computed / self.seconds:.0f} images/s"
        return f"{what}: {kept}{self.computed} computed in {self.seconds:.1f} s, {speed}"


def choose_quick(found: FoundData, facts: DataFacts, options: FitOptions, say: Say) -> QuickChoice:
    """
    Compute the features of the images with one pretrained network or several, fit heads on them,
    print a ranking, and return the best linear one.

    With several networks and many images, all of them first compute about 1,000 training and
    validation images. Those whose 95 % interval does not reach the best score are dropped, and so
    are those for which the time is too short.

    # Raises

    `ConfigurationError` if no pretrained weights are at hand, or for data that no head can be
    fitted on.
    """
    begun = time.monotonic()
    limit = _seconds(options)
    dropped: Dict[str, str] = {}
    with ExitStack() as stack:
        candidates: List[_Candidate] = []
        for backbone in _backbones(options, facts, dropped):
            if candidates and time.monotonic() - begun > limit / 2:
                dropped[backbone.name] = NO_TIME
                continue
            with _left_out_without_memory(backbone.name, dropped):
                candidates.append(_opened(backbone, found, facts, options, stack))
        if len(candidates) > 1:
            candidates = _first_round(candidates, facts, limit, begun, dropped)
        train: Dict[str, LabelledVectors] = {}
        validation: Dict[str, LabelledVectors] = {}
        for each in candidates:
            if train and _seconds_left(each, facts) > limit - (time.monotonic() - begun):
                dropped[each.name] = NO_TIME
                continue
            with _left_out_without_memory(each.name, dropped):
                of_training = _vectors(each, each.trainer.training_loader())
                _check_classes(of_training, each)
                validation[each.name] = _vectors(each, _validation(each))
                train[each.name] = of_training
                say(each.work(facts.num_train + facts.num_validation))
        if not train:
            raise _nothing_left(dropped)
        chosen = {each.name: each for each in candidates if each.name in train}
        (labels, *_), (truth, *_) = (
            [each.labels for each in parts.values()] for parts in (train, validation)
        )
        classes = next(iter(chosen.values())).trainer.model.num_labels
        try:
            ranking = rank_heads(
                {name: each.vectors for name, each in train.items()},
                labels,
                {name: each.vectors for name, each in validation.items()},
                truth,
                classes,
            )
        except InputError as error:
            raise ConfigurationError(f"--quick cannot fit a head: {error}") from None
    best = next(each for each in ranking if isinstance(each.head, LinearHead) and not each.dropped)
    say("\n".join(_ranking_lines(ranking, best, dropped, facts, chosen)))
    if not facts.is_multi_label and len(labels) <= MOST_FOR_CURVE:
        names = chosen[best.backbone].trainer.model.label_names()
        for line in _curve_lines(train[best.backbone], validation[best.backbone], names):
            say(line)
    return _choice(chosen[best.backbone], best, facts)


def _seconds(options: FitOptions) -> float:
    """Return the time for trying networks."""
    if options.time is None:
        return SECONDS
    asked = seconds_of("--time", options.time)
    return asked if options.then is None else min(SECONDS, asked / 2)


def _backbones(
    options: FitOptions, facts: DataFacts, dropped: Dict[str, str]
) -> Iterator[Backbone]:
    """
    Yield the networks to try: those asked for, or those whose weights are here, or else the
    quickest, which is downloaded. Add the others to `dropped`.
    """
    asked = options.networks() or ([options.backbone] if options.backbone else [])
    if asked:
        for name in asked:
            backbone = _pretrained(name, options, facts)
            if not backbone.is_pretrained:
                raise ConfigurationError(
                    f"--quick needs pretrained weights, and {name} has none; expected a network of "
                    "torchvision.models or of timm"
                )
            yield backbone
        return
    if options.weights is not None:
        raise ConfigurationError(
            f"--weights is {options.weights!r}; expected --backbones too, the network that they "
            "are for"
        )
    here = [name for name in BACKBONES if has_weights_here(name)]
    others = [name for name in BACKBONES if here and name not in here]
    if others:
        dropped[", ".join(others)] = "weights are not here; --backbones NAME,NAME downloads them"
    for name in here or BACKBONES[:1]:
        yield _pretrained(name, options, facts)


def _pretrained(name: str, options: FitOptions, facts: DataFacts) -> Backbone:
    """Return a network with its weights. Raise `ConfigurationError` if they are not to be had."""
    try:
        with quiet():  # a download without a connection is tried several times, with warnings
            return choose_backbone(name, options.weights, facts, True, False)
    except ConfigurationError as error:
        is_missing = has_published_weights(name) and not has_weights_here(name)
        if options.weights is None and is_missing:
            raise ConfigurationError(missing_weights(name)) from error
        raise ConfigurationError(_by_its_option(error.message, options)) from error


def _by_its_option(message: str, options: FitOptions) -> str:
    """Return the message of an error about a network with the option that names it."""
    if options.backbone is not None:
        return message
    return re.sub(r"^--backbone is", "--backbones has", message)


def _size_of(backbone: Backbone, facts: DataFacts, options: FitOptions) -> int:
    if options.image_size is not None:
        if backbone.network is not None:
            check_size(backbone.name, backbone.network, options.image_size)
        return options.image_size
    if backbone.image_size is not None:
        return backbone.image_size
    is_large = min(facts.height, facts.width) >= LARGE_IMAGE
    size = SIZE_OF_LARGE if is_large else SIZE_OF_SMALL
    if backbone.network is None:
        return size
    return size_that_fits(backbone.name, backbone.network, size)


def _opened(
    backbone: Backbone, found: FoundData, facts: DataFacts, options: FitOptions, stack: ExitStack
) -> _Candidate:
    """Build the network and the data loaders, which give vectors until `stack` is closed."""
    size = _size_of(backbone, facts, options)
    config = _config(backbone, size, found, facts, options)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    with quiet(logging.INFO, hide_warnings=False):
        params = Params(copy.deepcopy(config))
        prepare_environment(params)
        trainer = TrainModel.from_params(
            params=params, serialization_dir=folder, local_rank=0
        ).trainer
        assert isinstance(trainer, LinearHeadTrainer)
        stack.enter_context(trainer.vectors_in_place_of_images())
    return _Candidate(backbone, size, config, trainer)


def _validation(candidate: _Candidate) -> KeepsFeatures:
    loader = candidate.trainer.validation_loader()
    assert loader is not None, "data for fit have a validation part"
    return loader


def _labels(loader: KeepsFeatures) -> np.ndarray:
    fields = loader.feature_fields()
    return next(fields[key] for key in LABELS if key in fields).numpy()


def _vectors(
    candidate: _Candidate, loader: KeepsFeatures, most: Optional[int] = None
) -> LabelledVectors:
    """Return the vectors of all images, or of about `most`, drawn by class."""
    labels = _labels(loader)
    share = 1.0 if most is None else min(1.0, most / len(labels))
    rows = draw_by_class(labels, share, 0).tolist() if share < 1 else list(range(len(labels)))
    before, started = loader.num_computed_features(), time.monotonic()
    batch = loader.some_features(rows)
    candidate.seconds += time.monotonic() - started
    candidate.computed += loader.num_computed_features() - before
    return labelled_vectors([batch])


def _check_classes(train: LabelledVectors, candidate: _Candidate) -> None:
    absent = classes_without_images(train.labels, candidate.trainer.model.num_labels)
    if absent:
        names = candidate.trainer.model.label_names()
        raise ConfigurationError(
            "--quick needs images of each label, and no training image can be read of "
            f"{', '.join(shown(names[each]) for each in absent)}; expected one or more, or no such "
            "label"
        )


def _seconds_left(candidate: _Candidate, facts: DataFacts) -> float:
    """Return at most how many seconds the rest of the images takes a candidate."""
    if candidate.speed is None:
        return 0.0
    return (facts.num_train + facts.num_validation - candidate.computed) / candidate.speed


def _first_round(
    candidates: List[_Candidate],
    facts: DataFacts,
    limit: float,
    begun: float,
    dropped: Dict[str, str],
) -> List[_Candidate]:
    """Return the candidates that may be the best, the best on a part of the images first."""
    found: List[Tuple[RankedHead, _Candidate]] = []
    for each in candidates:
        if found and time.monotonic() - begun > limit / 2:
            dropped[each.name] = NO_TIME
            continue
        with _left_out_without_memory(each.name, dropped):
            try:
                found.append((_best_on_a_part(each), each))
            except InputError as error:
                dropped[each.name] = str(error)
    if not found:
        raise _nothing_left(dropped)
    found.sort(key=lambda pair: -pair[0].score)
    best, _ = found[0]
    kept = []
    for head, each in found:
        if head.high < best.score:
            dropped[each.name] = (
                f"at most {head.high:.1%} with {head.images} images, where {best.backbone} has "
                f"{best.score:.1%}"
            )
        else:
            kept.append(each)
    return kept


def _best_on_a_part(candidate: _Candidate) -> RankedHead:
    """Return the best head on about `FIRST_ROUND` training and validation images."""
    classes = candidate.trainer.model.num_labels
    train = _vectors(candidate, candidate.trainer.training_loader(), FIRST_ROUND)
    if classes_without_images(train.labels, classes):
        # Those drawn from a class cannot be read; others may.
        train = _vectors(candidate, candidate.trainer.training_loader())
        _check_classes(train, candidate)
    validation = _vectors(candidate, _validation(candidate), FIRST_ROUND)
    ranking = rank_heads(
        {candidate.name: train.vectors},
        train.labels,
        {candidate.name: validation.vectors},
        validation.labels,
        classes,
    )
    return ranking[0]


@contextmanager
def _left_out_without_memory(name: str, dropped: Dict[str, str]) -> Iterator[None]:
    """Add a network to `dropped` if the memory is too small for it in the block."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        dropped[name] = "not enough memory; a smaller --image-size needs less"


def _nothing_left(dropped: Dict[str, str]) -> ConfigurationError:
    reasons = "; ".join(f"{name}: {why}" for name, why in dropped.items())
    return ConfigurationError(f"--quick cannot fit a head with any network: {reasons}")


def _ranking_lines(
    ranking: List[RankedHead],
    best: RankedHead,
    dropped: Dict[str, str],
    facts: DataFacts,
    candidates: Mapping[str, _Candidate],
) -> List[str]:
    score = "mAP" if facts.is_multi_label else "accuracy"
    rows = [("network", "head", score, "95 % interval", "fit (s)", "images/s")]
    for each in ranking:
        if each.dropped:
            continue
        speed = candidates[each.backbone].speed
        rows.append(
            (
                each.backbone,
                NAMES[each.head.kind],
                f"{each.score:.1%}",
                f"{each.low:.1%} to {each.high:.1%}",
                f"{each.seconds:.1f}",
                "kept" if speed is None else f"{speed:.0f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["Heads fitted on these features, ranked by the validation images:"]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    for each in ranking:
        if each.dropped:
            dropped[f"{each.backbone}, {NAMES[each.head.kind]}"] = each.dropped
    reasons: Dict[str, List[str]] = {}
    for name, why in dropped.items():
        reasons.setdefault(why, []).append(name)
    lines += [
        wrapped(f"  left out: {', '.join(names)}: {why}", 4) for why, names in reasons.items()
    ]
    why = "the best of these"
    if ranking[0] is not best:
        why = "the best that can be the last layer of a network, unlike k nearest neighbours"
    lines.append(wrapped(f"Chosen: {best.backbone} with {NAMES[best.head.kind]}, {why}"))
    return lines


def _curve_lines(
    train: LabelledVectors, validation: LabelledVectors, names: List[str]
) -> List[str]:
    """Say how accuracy grows with the number of images."""
    classes = len(names)
    points = learning_curve(*train, *validation, classes=classes)
    # With few images of each label, several fractions have the same images.
    texts = {f"{point.images:.0f}": f"{point.accuracy:.1%}" for point in points}
    if len(texts) == 1:
        return []
    *shares, everything = (f"{accuracy} with {images}" for images, accuracy in texts.items())
    lines = [
        wrapped(
            f"Logistic regression with fewer training images: {', '.join(shares)}; {everything} "
            "(all)"
        )
    ]
    expected = forecast(points, classes)
    if expected is None:
        return lines
    text = (
        f"Forecast for twice as many: {expected.accuracy:.1%} (95 % interval {expected.low:.1%} "
        f"to {expected.high:.1%})"
    )
    most = class_gains(points, validation.labels, classes).most
    if most is not None:
        text += f". More images of {shown(names[most])} would help most"
    return [*lines, wrapped(text)]


def _config(
    backbone: Backbone, size: int, found: FoundData, facts: DataFacts, options: FitOptions
) -> Dict[str, Any]:
    evaluate: Dict[str, Any] = {"type": "eval", "size": size}
    if min(facts.height, facts.width) <= size / 2:
        evaluate["crop_ratio"] = 1  # small images have no margin to cut off
    data = data_config(found)
    for key in ("dataset_reader", "validation_dataset_reader"):
        data[key]["transforms"] = [evaluate]
    on_error = {"on_error": "skip"} if options.on_error == "skip" else {}
    loader = {"type": "image", "batch_size": 64, **on_error}
    model: Dict[str, Any] = {
        "type": "basic_image_classifier",
        "im2im_encoder": {**backbone.encoder, "requires_grad": False},
        "im2vec_encoder": {
            "type": "flatten",
            "input_channels": backbone.channels,
            "input_height": 1,
            "input_width": 1,
        },
    }
    if facts.is_multi_label:
        model |= {"type": "multilabel_image_classifier", "thresholds": "tune"}
    if backbone.pixel_mean is not None and backbone.pixel_std is not None:
        model["pixel_mean"] = list(backbone.pixel_mean)
        model["pixel_std"] = list(backbone.pixel_std)
    config = {
        **data,
        "data_loader": loader,
        "validation_data_loader": dict(loader),
        "model": model,
        "trainer": {
            "type": "linear_head",
            "validation_metric": "+mAP" if facts.is_multi_label else "+accuracy",
        },
        **dict.fromkeys(("random_seed", "numpy_seed", "pytorch_seed"), options.seed),
    }
    if "test_data_path" in config:
        config["evaluate_on_test"] = True
    return config


def _choice(candidate: _Candidate, best: RankedHead, facts: DataFacts) -> QuickChoice:
    config = candidate.config
    config["trainer"] |= {"kind": best.head.kind, "strength": best.head.strength}
    pixels = f"{candidate.size} x {candidate.size} pixels"
    comments = {
        "dataset_reader": f"{numbered(facts.num_train, 'image')} to train on, at {pixels} without "
        "random transforms: the network sees each image once.",
        **comments_on_calibration(facts),
        "model.im2im_encoder": "frozen, with pretrained weights",
        "trainer": f"The last layer: {NAMES[best.head.kind]}, {best.score:.1%} of the validation "
        "images" + (" (mAP)" if facts.is_multi_label else ""),
    }
    return QuickChoice(config, comments, candidate.name)
