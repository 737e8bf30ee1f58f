import io
import logging
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.common.nearest_names import not_one_of
from allencv.data import remote
from allencv.data.dataset_readers.cells import WrongCell, chosen
from allencv.data.dataset_readers.files import read_text
from allencv.data.dataset_readers.listing import Labels, Listing, ListingReader
from allencv.data.dataset_readers.messages import cut, some
from allencv.runtime.images import IMAGE_SUFFIXES, is_named_as_image

logger = logging.getLogger(__name__)

_SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
LABELLED = re.compile(rf"(?P<path>\S.*?(?:{_SUFFIXES}))[\s,;|]+(?P<label>\S.*)", re.IGNORECASE)
"""A line with the path of an image and the rest, with any characters between them."""


@DatasetReader.register("image_list")
class ImageListReader(ListingReader):
    """
    Reads a list of images: a text file with a line `path<delimiter>label` for each, as in
    PaddleClas. Images keep the order of the lines; empty lines are skipped. The list may be
    compressed (`list.txt.gz`, `.bz2`, `.xz`). List and images may be behind URLs that fsspec
    understands.

    Registered as a `DatasetReader` with name "image_list".

    # Parameters

    delimiter : `str`, optional (default = `None`)
        The character between path and label: by default a space, or with `multi_label` a tab. The
        label follows the last delimiter in the line, so paths may contain spaces.
    class_map : `str`, optional (default = `None`)
        A file with a line `id name` for each class, such as `0 tench, Tinca tinca`. The list then
        contains ids, and the labels of the images are the names.
    multi_label : `bool`, optional (default = `False`)
        Whether images have several labels each. A line then has a 0 or a 1 for each class,
        separated by commas: `0,1,0`. The classes are those of the class map in the order of their
        ids, which are 0, 1, 2, ...; without a class map these numbers are their names.
    labelled : `bool`, optional (default = `True`)
        If false, each line is the path of an image.
    image_root, encoding, check_files, split
        See `ListingReader`; the encoding also applies to the class map.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` with the line number when reading, if the file does not exist or is empty,
    a line has no label, a label is not in the class map or seems to contain part of the path, a 0/1
    list has another length, or an image is repeated with different labels. An image repeated with
    the same labels is used once, with a warning.
    """

    def __init__(
        self,
        delimiter: Optional[str] = None,
        class_map: Optional[str] = None,
        multi_label: bool = False,
        labelled: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if delimiter == "":
            raise ConfigurationError("dataset_reader.delimiter is ''; expected a space or a tab")
        for key, value in (("class_map", class_map), ("multi_label", multi_label)):
            if value and not labelled:
                raise ConfigurationError(
                    f"dataset_reader.{key} is {value!r} and labelled is false; expected one of them"
                )
        self.delimiter = ("\t" if multi_label else " ") if delimiter is None else delimiter
        self.class_map = class_map
        self.multi_label = multi_label
        self.labelled = labelled

    def read_listing(self, file_path: Any) -> Listing:
        path = remote.expand(file_path)
        listing = Listing(path, self.image_root)
        to_labels = self._to_labels()
        without: List[str] = []
        odd: List[Tuple[int, str, str]] = []
        count = 0
        for number, line in _lines(read_text(path, self.encoding)):
            count += 1
            if not self.labelled:
                if not is_named_as_image(line):
                    odd.append((number, line, line))
                listing.add(number, line)
                continue
            # The label follows the last delimiter; a line may end with space.
            image, _, label = line.rstrip().rpartition(self.delimiter)
            if not image.strip() or not label.strip():
                without.append(f"{number} ({cut(line)})")
                continue
            if not is_named_as_image(image):
                odd.append((number, line, image))
            try:
                labels = to_labels(label.strip())
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"{path}, line {number}: {error.message} for '{image}'"
                ) from None
            listing.add(number, image, *labels)
        if not count:
            raise ConfigurationError(f"{path} is empty; expected a line for each image")
        if without:
            raise ConfigurationError(
                f"{path}: lines without a label ({len(without)} of {count}): {some(without)}; "
                f"expected a path, {self.delimiter!r} (dataset_reader.delimiter) and a label, or "
                "labelled false"
            )
        self._check_odd(path, listing, odd, count)
        return listing

    def _check_odd(
        self, path: str, listing: Listing, odd: List[Tuple[int, str, str]], count: int
    ) -> None:
        """
        Raise if some lines lack the path of an image and others do not: a header, a comment, or a
        label that contains the delimiter.
        """
        for number, line, _ in odd:
            parts = LABELLED.match(line) if self.labelled else None
            if parts and self.delimiter in parts["label"].strip():
                raise ConfigurationError(
                    f"{path}, line {number}: the label {parts['label'].strip()!r} has "
                    f"{self.delimiter!r} in it (dataset_reader.delimiter); expected another "
                    "character between path and label, such as a tab"
                )
        if len(odd) == count:
            return  # all names lack a suffix
        places = [
            f"{number} ({cut(line)})"
            for number, line, image in odd
            if not remote.exists(remote.join(listing.root, image))
        ]
        if places:
            what = "a path and a label" if self.labelled else "a path"
            raise ConfigurationError(
                f"{path}: lines without the path of an image ({len(places)} of {count}): "
                f"{some(places)}; expected {what} in each line: remove a header and comments"
            )

    def _to_labels(self) -> Callable[[str], Labels]:
        """Return a function from the text of a line to the label or labels of an image."""
        names = self._names()
        if self.multi_label:
            return self._from_flags(names)

        seen: Set[str] = set()

        def from_text(label: str) -> Labels:
            if names is not None and label not in names:
                raise not_one_of("the label (dataset_reader.class_map)", label, names)
            if label not in seen:
                seen.add(label)
                self._check_label(label)
            return label if names is None else names[label], None

        return from_text

    def _check_label(self, label: str) -> None:
        """Raise if a path with spaces and another delimiter after it was cut in the middle."""
        parts = re.split(r"[\s,;|]", label)
        if any(map(is_named_as_image, parts)):
            raise ConfigurationError(
                f"the label is {label!r}, after {self.delimiter!r} (dataset_reader.delimiter); "
                "expected no file name in it,"
            )

    def _from_flags(self, names: Optional[Dict[str, str]]) -> Callable[[str], Labels]:
        source = "the first line" if names is None else "dataset_reader.class_map"
        labels: List[str] = []
        if names is not None:
            numbers = [str(number) for number in range(len(names))]
            wrong = sorted(set(names) - set(numbers))
            if wrong:
                raise ConfigurationError(
                    f"{self.class_map}: dataset_reader.class_map has the ids {some(wrong)}; "
                    f"expected 0 to {len(names) - 1} for multi_label, each once"
                )
            labels = [names[number] for number in numbers]
        known: Dict[str, Labels] = {}

        def from_flags(text: str) -> Labels:
            if text not in known:
                flags = text.split(",")
                if not labels:
                    labels.extend(str(number) for number in range(len(flags)))
                if len(flags) != len(labels):
                    raise ConfigurationError(
                        f"{len(flags)} labels, {text!r}; expected {len(labels)} of 0 or 1, as many "
                        f"as {source} has,"
                    )
                try:
                    known[text] = None, chosen(labels, flags)
                except WrongCell as wrong:
                    raise ConfigurationError(
                        f"{flags[wrong.place]!r} for the label '{labels[wrong.place]}'; expected "
                        f"{wrong.expected} (dataset_reader.multi_label)"
                    ) from None
            return known[text]

        return from_flags

    def _names(self) -> Optional[Dict[str, str]]:
        """Return the names of the classes by their ids."""
        if self.class_map is None:
            return None
        path = remote.expand(self.class_map)
        names: Dict[str, str] = {}
        taken: Set[str] = set()
        for number, line in _lines(read_text(path, self.encoding, "dataset_reader.class_map")):
            identifier, *rest = line.split(maxsplit=1)
            name = rest[0].strip() if rest else ""
            if not name or identifier in names or name in taken:
                reason = "repeats an id or a name" if name else "has no name"
                raise ConfigurationError(
                    f"{path}, line {number}: {line.strip()!r} {reason}; expected a different "
                    "id and name for each class (dataset_reader.class_map)"
                )
            names[identifier] = name
            taken.add(name)
        if not names:
            raise ConfigurationError(f"{path} is empty; expected a line 'id name' for each class")
        logger.info("%s: %d classes: %s", path, len(names), some(list(names.values())))
        return names


def _lines(text: str) -> Iterator[Tuple[int, str]]:
    """Yield the lines that are not empty, with their numbers."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield number, line.rstrip("\n")
