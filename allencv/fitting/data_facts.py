"""What is to be known of data before a config can be written for it."""

from dataclasses import dataclass
from statistics import median
from typing import Any, Dict, List

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.examining import Split, examine, read_splits
from allencv.fitting.found_data import FoundData

LOOKED_AT = 200
"""How many training images are decoded, evenly over the data."""


@dataclass
class DataFacts:
    counts: Dict[str, int]
    """Of each label, how many training images have it."""
    num_train: int
    num_validation: int
    num_test: int
    is_multi_label: bool
    height: int
    """The median height in pixels of the images that were looked at; so the `width`."""
    width: int
    is_gray: bool
    unreadable: List[str]
    """What is wrong with images among those that were looked at."""

    @property
    def imbalance(self) -> float:
        """How many times as many images the largest class has as the smallest."""
        return max(self.counts.values()) / max(min(self.counts.values()), 1)


def data_config(found: FoundData) -> Dict[str, Any]:
    """The part of a config that says what is read, without transforms."""
    readers = {
        "dataset_reader": dict(found.reader),
        "validation_dataset_reader": dict(found.reader),
    }
    if found.split is not None:
        for reader, part in zip(readers.values(), ("train", "validation")):
            reader["split"] = {"part": part, **found.split}
    paths = {
        "train_data_path": found.train_path,
        "validation_data_path": found.validation_path,
    }
    # A split would be taken of the test images too, with the reader of the validation data.
    if found.test_path is not None and found.split is None:
        paths["test_data_path"] = found.test_path
    return readers | paths


def examine_data(found: FoundData) -> DataFacts:
    """
    Lists the data, and decodes some of the training images.

    # Raises

    `ConfigurationError` for what the readers refuse, data without labels or with a single one, and
    if none of the images that were looked at can be read.
    """
    splits = {split.name: split for split in read_splits(Params(data_config(found)))}
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
    step = max(1, len(train.samples) // LOOKED_AT)
    facts = [_examined(train, index) for index in range(0, len(train.samples), step)]
    readable = [each for each in facts if each.error is None]
    unreadable = [each.error for each in facts if each.error is not None]
    if not readable:
        raise ConfigurationError(
            f"none of {len(facts)} images of {found.train_path!r} can be read: {unreadable[0]}"
        )
    return DataFacts(
        counts=counts,
        num_train=len(train.samples),
        num_validation=len(splits["validation"].samples),
        num_test=len(splits["test"].samples) if "test" in splits else 0,
        is_multi_label=is_multi_label,
        height=int(median(each.height for each in readable)),
        width=int(median(each.width for each in readable)),
        is_gray=all(each.mode in ("L", "1", "I;16", "LA") for each in readable),
        unreadable=unreadable,
    )


def _examined(split: Split, index: int) -> Any:
    return examine(split.source(index)[1])
