"""The facts about data that a config depends on."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Dict, Iterable, Iterator, List

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.common.label_text import same_looking, shown, why_unwritable
from allencv.common.quiet import quiet
from allencv.data.dataset_readers.messages import some
from allencv.data.inspection import Facts, Split, examine, read_splits
from allencv.data.problems import imbalance, similar_labels
from allencv.fitting.data_parts import DataPath, FoundData, calibration_fraction, hold_out
from allencv.fitting.files_of_splits import WORDS, copied_images, look_at_files, shared_images
from allencv.fitting.options import named_as_options
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import notice

LOOKED_AT = 200
"""How many images of each split are decoded, evenly spaced over the data."""
SHOWN = 10
"""How many unreadable images are named."""


@dataclass
class DataFacts:
    counts: Dict[str, int]
    """The number of training images with each label."""
    num_train: int
    num_validation: int
    num_test: int
    is_multi_label: bool
    height: int
    """The median height of the decoded training images, in pixels; likewise `width`."""
    width: int
    is_gray: bool
    unreadable: List[str]
    """The images known to be unreadable, each with its path and the reason."""
    warnings: List[str] = field(default_factory=list)
    num_calibration: int = 0
    """The number of images for calibration."""
    is_calibration_held_out: bool = False
    """Whether these are held out of the training images."""

    @property
    def imbalance(self) -> float:
        """The size of the largest class divided by that of the smallest."""
        return imbalance(self.counts)


def data_config(found: FoundData) -> Dict[str, Any]:
    """Return the readers and data paths of a config, without transforms."""
    readers = {
        "dataset_reader": dict(found.reader),
        "validation_dataset_reader": dict(found.reader),
    }
    split, fraction = found.split, found.calibration_fraction
    if split is not None and fraction is not None:
        split = {**split, "calibration_fraction": fraction}
    if split is not None:
        for reader, part in zip(readers.values(), ("train", "validation")):
            reader["split"] = {"part": part, **split}
    paths = {
        "train_data_path": found.train_path,
        "validation_data_path": found.validation_path,
    }
    if fraction is not None:
        part = "calibration"
        if split is None:  # only these are held out
            part, split = "validation", {**hold_out(found.train_path), "fraction": fraction}
            readers["dataset_reader"]["split"] = {"part": "train", **split}
        readers["calibration_dataset_reader"] = {**found.reader, "split": {"part": part, **split}}
        paths["calibration_data_path"] = found.train_path
    if found.calibration_path is not None:
        if found.split is not None:  # which the reader for validation has
            readers["calibration_dataset_reader"] = dict(found.reader)
        paths["calibration_data_path"] = found.calibration_path
    if found.test_path is not None:
        paths["test_data_path"] = found.test_path
    return readers | paths


def undivided_config(found: FoundData) -> Dict[str, Any]:
    """Return the reader and data paths of a config, without held-out images as a split."""
    config = data_config(found)
    if found.split is not None:
        config["dataset_reader"] = dict(found.reader)
        del config["validation_dataset_reader"], config["validation_data_path"]
    return config


@named_as_options()
@notice("examining the images")
def examine_data(found: FoundData) -> DataFacts:
    """
    List the data, check that all files exist, and decode some images of each split.

    # Raises

    `ConfigurationError` for data that the readers refuse or that have no validation part, for
    fewer than two classes, for validation or test labels that training lacks, for a split without
    a readable image among those decoded, and for validation or test images that are the training
    images.
    """
    if found.validation_path is None:
        raise ConfigurationError(
            f"{found.train_path} (DATA) has no validation data, and shards cannot be divided; "
            "expected other shards with --validation, or folders train and val with shards in DATA"
        )
    with _logged_warnings() as warnings:
        splits = _read(found)
    train = splits["train"]
    counts = train.samples.labels()
    is_multi_label = any(
        train.samples[index].labels is not None for index in range(min(len(train.samples), 50))
    )
    if len(counts) < (1 if is_multi_label else 2):
        raise ConfigurationError(
            f"{found.train_path!r} has images of {', '.join(counts) or 'no label'}; expected two "
            "classes or more"
        )
    _check_writable(found.train_path, counts)
    warnings += [f"labels that look the same: {group}" for group in similar_labels(counts)]
    for split in splits.values():
        missing = _compared(counts, split)
        if missing and found.split is None:  # a held-out split: its reader has warned of them
            warnings.append(f"labels without an image in the {split.name} data: {some(missing)}")
    unreadable: Dict[str, str] = {}
    files = {name: look_at_files(split.samples) for name, split in splits.items()}
    shared = shared_images(splits, files)
    warnings += shared
    examined = {name: _examined(split) for name, split in splits.items()}
    warnings += [] if shared else copied_images(examined)
    warnings += _lost_ranges(examined)
    for split in splits.values():
        facts = examined[split.name]
        errors = {name: each.error for name, each in facts.items() if each.error is not None}
        if len(errors) == len(facts):
            name, error = next(iter(errors.items()))
            raise ConfigurationError(
                f"none of {numbered(len(facts), 'image')} of the {WORDS[split.name]} data can be "
                f"read; the first: {name}: {error}"
            )
        unreadable |= errors | files[split.name].missing
        if split is train:
            readable = [each for each in facts.values() if each.error is None]
    return DataFacts(
        counts=counts,
        num_train=len(train.samples),
        num_validation=len(splits["validation"].samples),
        num_test=len(splits["test"].samples) if "test" in splits else 0,
        num_calibration=len(splits["calibration"].samples) if "calibration" in splits else 0,
        is_multi_label=is_multi_label,
        height=int(median(each.height for each in readable)),
        width=int(median(each.width for each in readable)),
        is_gray=all(each.mode in ("L", "1", "I;16", "LA") for each in readable),
        unreadable=[f"{name}: {error}" for name, error in unreadable.items()],
        warnings=warnings,
    )


def hold_out_for_calibration(found: FoundData, facts: DataFacts) -> DataFacts:
    """
    Hold out some training images for calibration if there are enough, and return the facts without
    them.
    """
    found.calibration_fraction = calibration_fraction(found, facts.num_train)
    if found.calibration_fraction is None:
        return facts
    with quiet(logging.WARNING):  # of labels that the part lacks, which were named before
        train = _read(found)["train"].samples
    return replace(
        facts,
        counts=train.labels(),
        num_train=len(train),
        num_calibration=facts.num_train - len(train),
        is_calibration_held_out=True,
    )


def _read(found: FoundData) -> Dict[str, Split]:
    try:
        return {split.name: split for split in read_splits(Params(data_config(found)))}
    except ConfigurationError as error:
        if found.split is None or "split.part" not in error.message:
            raise
        raise ConfigurationError(
            f"{found.train_path} has too few images of each class to hold some out for validation; "
            "expected more images, or separate validation data (--validation)"
        ) from error


def _lost_ranges(examined: Dict[str, Dict[str, Facts]]) -> List[str]:
    """Return a warning if images need more than 8 bits per channel."""
    facts = {name: each for of_split in examined.values() for name, each in of_split.items()}
    lost = {name: each.lost for name, each in facts.items() if each.lost}
    if not lost:
        return []
    name, what = next(iter(lost.items()))
    return [
        f"images that lose their range ({len(lost)} of {numbered(len(facts), 'decoded image')}): "
        f"{name}: {what}"
    ]


def _check_writable(path: DataPath, labels: Iterable[str]) -> None:
    for label in labels:
        if (reason := why_unwritable(label)) is not None:
            raise ConfigurationError(
                f"{path}: the label '{shown(label)}' cannot be kept in a vocabulary: {reason}; "
                "expected another name"
            )


@contextmanager
def _logged_warnings() -> Iterator[List[str]]:
    """Collect the readers' warnings, each once, in place of log lines."""
    handler = _Collector(logging.WARNING)
    logger = logging.getLogger("allencv")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


class _Collector(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self.messages:
            self.messages.append(message)


def _compared(counts: Dict[str, int], split: Split) -> List[str]:
    """Return the training labels that another split lacks. The reverse is an error."""
    others = split.samples.labels()
    unknown = sorted(others.keys() - counts.keys())
    if unknown:
        raise ConfigurationError(
            f"the {split.name} data ({split.path}) have labels that the training data lack: "
            f"{some(unknown)}; expected labels among {some(sorted(counts))}"
            f"{same_looking(unknown, counts)}"
        )
    return sorted(counts.keys() - others.keys())


def _examined(split: Split) -> Dict[str, Facts]:
    """Decode some images of a split, by name."""
    step = max(1, len(split.samples) // LOOKED_AT)
    sources = dict(map(split.source, range(0, len(split.samples), step)))
    with ThreadPoolExecutor(min(8, cpu_count())) as executor:
        return dict(zip(sources, executor.map(examine, sources.values())))


def found_lines(data: str, found: FoundData, facts: DataFacts) -> List[str]:
    """Describe the data, as lines to print."""
    counts = sorted(facts.counts.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{shown(label)} {count}" for label, count in counts[:8])
    listed += ", ..." if len(counts) > 8 else ""
    parts = f"{facts.num_train} for training, {facts.num_validation} for validation"
    parts += f", {facts.num_calibration} for calibration" if facts.num_calibration else ""
    parts += f", {facts.num_test} for the test" if facts.num_test else ""
    lines = [f"Found in {data}:", *(f"  {note}" for note in found.notes)]
    lines += [f"  images: {parts}", f"  {numbered(len(counts), 'label')}: {listed}"]
    lines += [f"  warning: {warning}" for warning in facts.warnings]
    if facts.unreadable:
        count = len(facts.unreadable)
        lines.append(
            f"  warning: images that cannot be read and are left out ({count}; --on-error):"
        )
        lines += [f"    {each}" for each in facts.unreadable[:SHOWN]]
        lines += [f"    and {count - SHOWN} more"] if count > SHOWN else []
    return lines
