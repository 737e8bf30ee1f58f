"""The common parts of readers of tables and lists of images."""

import logging
import os
from typing import Any, List, Optional, Sequence, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.messages import some
from allencv.data.dataset_readers.splits import ImageSplit
from allencv.data.dataset_readers.unique_samples import UniqueSamples

logger = logging.getLogger(__name__)

Labels = Tuple[Optional[str], Optional[Sequence[str]]]
"""The label of an image or its labels, or neither."""


class Listing:
    """
    The images listed in a file, each once (see `UniqueSamples`).

    # Parameters

    path : `str`
        The file.
    image_root : `str`, optional
        The folder or URL that paths are relative to; `None` means that of the file.
    unit : `str`, optional (default = `"line"`)
        The unit of the images' numbers.
    """

    def __init__(self, path: str, image_root: Optional[str], unit: str = "line") -> None:
        self.path = path
        self.root = remote.parent(path) if image_root is None else remote.expand(image_root)
        self.unit = unit
        self.unique = UniqueSamples(path, unit)
        # Absolute paths of images below the root start with this.
        is_remote = remote.is_remote(self.root)
        self._whole_root = os.path.normpath(self.root if is_remote else os.path.abspath(self.root))
        self._has_odd_names = False

    def add(
        self,
        number: int,
        image: str,
        label: Optional[str] = None,
        labels: Optional[Sequence[str]] = None,
    ) -> None:
        source = remote.image_source(remote.join(self.root, image))
        if not self._has_odd_names and ("\\" in image or image != image.strip()):
            self._check_odd_name(number, image, str(source))
        name = self._name(image)
        # Reuse one of two equal strings, because there may be millions.
        name = image if name == image else name
        self.unique.add(number, Sample(source, label, labels), name)

    def samples(self, check_files: bool, split: Optional[ImageSplit]) -> List[Sample]:
        """Return all images, or those of a split."""
        self.unique.check()
        samples = self.unique.samples
        if check_files:
            self._check_files()
        logger.info("%s: %d images, relative to '%s'", self.path, len(samples), self.root)
        if split is None:
            return samples
        return split.select(samples, list(self.unique.index_of), self.path)

    def _name(self, image: str) -> str:
        """Return the path of an image relative to the root, if the image is below it."""
        name = os.path.normpath(os.path.expanduser(image))
        is_whole = os.path.isabs(name) or remote.is_remote(image)
        return remote.relative(name, self._whole_root) if is_whole else name

    def _check_odd_name(self, number: int, image: str, source: str) -> None:
        """Check once, because files may really have such names."""
        self._has_odd_names = True
        if not remote.exists(source):
            raise ConfigurationError(
                f"{self.path}, {self.unit} {number}: '{image}' does not exist; expected a path "
                "with '/' and no backslash between folders, and no space around it"
            )

    def _check_files(self) -> None:
        unique = self.unique
        missing = [
            f"'{sample.image!s}' in {self.unit} {number}"
            for sample, number in zip(unique.samples, unique.numbers)
            if not remote.exists(str(sample.image))
        ]
        if missing:
            raise ConfigurationError(
                f"{self.path}: images that do not exist ({len(missing)} of "
                f"{len(unique.samples)}): {some(missing)}; expected them relative to '{self.root}' "
                "(dataset_reader.image_root)"
            )


class ListingReader(ImageDatasetReader):
    """
    The base class of readers of files that list images. A subclass implements `read_listing`.

    # Parameters

    image_root : `str`, optional (default = `None`)
        The folder or URL that paths are relative to; by default that of the file.
    encoding : `str`, optional (default = `"utf-8"`)
        The encoding of the text, with or without a byte order mark.
    check_files : `bool`, optional (default = `False`)
        Whether to check that all images exist when the file is read. Otherwise a missing image is
        an error when it is decoded.
    split : `ImageSplit`, optional (default = `None`)
        The part of the images to read.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.
    """

    def __init__(
        self,
        image_root: Optional[str] = None,
        encoding: str = "utf-8",
        check_files: bool = False,
        split: Optional[ImageSplit] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_root = image_root
        self.encoding = encoding
        self.check_files = check_files
        self.split = split

    def read_listing(self, file_path: Any) -> Listing:
        raise NotImplementedError

    def read_samples(self, file_path: Any) -> List[Sample]:
        listing = self.read_listing(file_path)
        is_divided = self.split is not None and self.split.divides(file_path)
        return listing.samples(self.check_files, self.split if is_divided else None)
