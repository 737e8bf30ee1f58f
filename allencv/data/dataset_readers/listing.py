"""What the readers of images that stand in a file, a table or a list, have in common."""

import logging
import os
from array import array
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.image_dataset_reader import Sample

if TYPE_CHECKING:
    from allencv.data.dataset_readers.splits import ImageSplit

logger = logging.getLogger(__name__)

Labels = Tuple[Optional[str], Optional[Sequence[str]]]
"""The label of an image or its labels, or neither."""

KEYS = "train_data_path, validation_data_path or test_data_path"


def some(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    shown = ", ".join(names[:10]) or "nothing"
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def read_bytes(path: str, key: str = KEYS) -> bytes:
    """What a file that a config names holds."""
    try:
        with remote.open_file(path) as file:
            return file.read()
    except Exception as error:  # as many kinds as there are file systems
        if isinstance(error, FileNotFoundError):
            reason = "is not there"
        elif isinstance(error, IsADirectoryError):
            reason = "is a folder"
        else:
            reason = f"cannot be read ({error})"
        raise ConfigurationError(f"'{path}' ({key}) {reason}; expected a file") from error


def read_text(path: str, encoding: str, key: str = KEYS) -> str:
    """The text of a file, without the mark (BOM) that UTF-8 may begin with."""
    data = read_bytes(path, key)
    try:
        return data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError:
        raise ConfigurationError(
            f"dataset_reader.encoding is '{encoding}'; expected one that Python knows, such as "
            "utf-8, latin-1 or utf-16"
        ) from None
    except UnicodeDecodeError as error:
        data = error.object  # without the mark
        line = data[: error.start].decode(encoding, "replace").count("\n") + 1
        raise ConfigurationError(
            f"{path}, line {line}: {data[error.start : error.end]!r} is not {encoding} "
            f"({error.reason}); dataset_reader.encoding names another encoding"
        ) from None


class Listing:
    """
    Collects the images that a file lists.

    An image that is listed twice with the same labels is taken once, with a warning; with different
    labels it is an error.

    # Parameters

    path : `str`
        The file.
    image_root : `str`, optional
        The folder, or the URL of it, that paths are relative to; `None` for that of the file.
    unit : `str`, optional (default = `"line"`)
        What the numbers of the images count.
    """

    def __init__(self, path: str, image_root: Optional[str], unit: str = "line") -> None:
        self.path = path
        self.root = remote.parent(path) if image_root is None else remote.expand(image_root)
        self.unit = unit
        self.listed: List[Sample] = []
        self._numbers = array("Q")
        self._places: Dict[str, int] = {}
        self._repeated: List[str] = []
        self._contradictory: List[str] = []

    def add(
        self,
        number: int,
        image: str,
        label: Optional[str] = None,
        labels: Optional[Sequence[str]] = None,
    ) -> None:
        name = os.path.normpath(image)
        # One text in place of two equal ones, as there may be millions.
        place = self._places.setdefault(image if name == image else name, len(self.listed))
        if place == len(self.listed):
            source = remote.image_source(remote.join(self.root, image))
            self.listed.append(Sample(source, label, labels))
            self._numbers.append(number)
            return
        first = self.listed[place]
        where = f"'{image}' in {self.unit}s {self._numbers[place]} and {number}"
        if first.label == label and set(first.labels or ()) == set(labels or ()):
            self._repeated.append(where)
        else:
            each = (first.label if labels is None else [*(first.labels or ())], label or labels)
            self._contradictory.append(f"{where} ({each[0]} and {each[1]})")

    def samples(self, check_files: bool, split: "Optional[ImageSplit]") -> List[Sample]:
        """All of the images, or those of a part."""
        if self._contradictory:
            raise ConfigurationError(
                f"{self.path}: the same image with different labels ({len(self._contradictory)}): "
                f"{some(self._contradictory)}; expected each image once"
            )
        if self._repeated:
            logger.warning(
                "%s: images that are listed again are taken once (%d): %s",
                self.path,
                len(self._repeated),
                some(self._repeated),
            )
        if check_files:
            self._check_files()
        logger.info("%s: %d images, relative to '%s'", self.path, len(self.listed), self.root)
        if split is None:
            return self.listed
        return split.select(self.listed, [*map(self._relative, self._places)], self.path)

    def _check_files(self) -> None:
        missing = [
            f"'{sample.image!s}' in {self.unit} {number}"
            for sample, number in zip(self.listed, self._numbers)
            if not remote.exists(str(sample.image))
        ]
        if missing:
            raise ConfigurationError(
                f"{self.path}: {len(missing)} of {len(self.listed)} images are not there: "
                f"{some(missing)}; expected them relative to '{self.root}' "
                "(dataset_reader.image_root)"
            )

    def _relative(self, image: str) -> str:
        return remote.relative(image, os.path.normpath(self.root))


def is_empty(value: Any) -> bool:
    """Whether a cell of a table holds nothing: None, no text, or NaN."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


ONE_HOT = {"0": False, "1": True, "0.0": False, "1.0": True, "False": False, "True": True}
"""What 0 and 1 look like as text, pandas' ways among them."""


def chosen(labels: Sequence[str], flags: Sequence[Any]) -> Tuple[str, ...]:
    """The labels whose flag is 1. Raises `ValueError` with the place of one that is not 0 or 1."""
    found = []
    for place, (label, flag) in enumerate(zip(labels, flags)):
        is_chosen = ONE_HOT.get(str(flag).strip())
        if is_chosen is None:
            raise ValueError(place)
        if is_chosen:
            found.append(label)
    return tuple(found)
