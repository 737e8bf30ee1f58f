import logging
import os
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Dict, List, Optional, Sequence

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance

from allencv.common.nearest_names import not_one_of
from allencv.data import remote
from allencv.data.corrections import (
    LABEL,
    SKIP,
    Correction,
    Corrections,
    Labels,
    read_corrections,
    source_key,
)
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.messages import some
from allencv.runtime.plurals import numbered

logger = logging.getLogger(__name__)

KEY = "dataset_reader.corrections"
CHOICES = {
    "unlabelled": ("add", "skip"),
    "unknown_images": ("fail", "skip"),
    "new_labels": ("fail", "add"),
}


@dataclass
class Corrected:
    """
    Samples with the answers laid over them.

    # Parameters

    samples : in the same order.
    changed : the number of changed labels.
    dropped : the number of images that were left out as none of the labels.
    unanswered : the number of images that were left out because they have neither label nor answer.
    stale : what is wrong with answers to labels that have changed since.
    not_read : the answers to images that are not among the samples.
    """

    samples: List[Sample] = field(default_factory=list)
    changed: int = 0
    dropped: int = 0
    unanswered: int = 0
    stale: List[str] = field(default_factory=list)
    not_read: List[Correction] = field(default_factory=list)


def apply_corrections(samples: Sequence[Sample], corrections: Corrections) -> Corrected:
    """Lay answers over samples. Raise `ConfigurationError` for a sample without a path."""
    result = Corrected()
    read = set()
    for sample in samples:
        key = source_key(sample.image)
        if key is None:
            raise ConfigurationError(
                f"{KEY}: an image is a {type(sample.image).__name__} without a path; expected "
                "images in files or behind URLs"
            )
        read.add(key)
        _correct(result, sample, corrections.of_images.get(key), corrections.multi_label)
    result.not_read = [
        correction
        for key, correction in corrections.of_images.items()
        if key not in read and correction.answer != SKIP
    ]
    return result


def _correct(
    result: Corrected, sample: Sample, correction: Optional[Correction], multi_label: bool
) -> None:
    """Add a sample with the answer to it, or count it as left out."""
    labels = labels_of(sample)
    if correction is None or correction.answer == SKIP:
        if labels is None:
            result.unanswered += 1
        else:
            result.samples.append(sample)
        return
    given = correction.labels if correction.answer == LABEL else None
    is_same = labels is not None and _same(labels, given)
    if labels is not None and not is_same and not _same(labels, correction.previous):
        was = "no label" if correction.previous is None else _shown(correction.previous)
        result.stale.append(f"{correction.path} (reviewed with {was}, now {_shown(labels)})")
    if given is None:
        result.dropped += 1
        return
    result.changed += labels is not None and not is_same
    result.samples.append(sample if is_same else _with_labels(sample, given, multi_label))


def labels_of(sample: Sample) -> Optional[Labels]:
    """Return the labels of a sample, or `None` if it has none."""
    if sample.label is not None:
        return (sample.label,)
    return None if sample.labels is None else tuple(sample.labels)


def _same(labels: Labels, others: Optional[Labels]) -> bool:
    return others is not None and set(labels) == set(others)


def _shown(labels: Labels) -> str:
    return ", ".join(labels) or "none"


def _with_labels(sample: Sample, labels: Labels, multi_label: bool) -> Sample:
    if multi_label:
        return sample._replace(labels=list(labels))
    return sample._replace(label=labels[0])


@DatasetReader.register("corrected")
class CorrectedReader(ImageDatasetReader):
    """
    Lays the answers that a person gave in `allencv review` over the images that another reader
    reads. The data themselves stay unchanged.

    * An image with a label that was answered gets the label of the answer.
    * An image that was answered with "none of these" is left out. Their number is logged.
    * An image without a label that was answered is added at the end (see `unlabelled`).
    * An image that was skipped stays as it is.
    * If the other reader gives images without labels, those without an answer are left out.

    The data path is that of the other reader.

    Registered as a `DatasetReader` with name "corrected".

    # Example

    ```jsonnet
    { type: "corrected", reader: { type: "image_folder" }, corrections: "corrections.csv" }
    ```

    # Parameters

    reader : `DatasetReader`, required
        A reader of images that are files or have URLs. Its transforms are used for all images.
    corrections : `str`, required
        The file that `allencv review` has written. The paths in it are relative to its folder.
    unlabelled : `str`, optional (default = `"add"`)
        "add" adds the answered images that had no label, "skip" leaves them out. Use "skip" in
        `validation_dataset_reader`: otherwise the images are in both parts.
    unknown_images : `str`, optional (default = `"fail"`)
        What to do with the answer to an image with a label that the other reader does not read:
        "fail" raises an error, "skip" logs their number. Use "skip" if the other reader reads only
        a part of the images that were reviewed.
    new_labels : `str`, optional (default = `"fail"`)
        What to do with a label that no image of the other reader has: "fail" raises an error, "add"
        uses it.
    max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when reading, as the parameters say; if the file cannot be read; if an
    image has no path; if the label of an image is no longer the one that was reviewed; or if one
    reader adds the same images to two data paths.
    """

    def __init__(
        self,
        reader: DatasetReader,
        corrections: str,
        unlabelled: str = "add",
        unknown_images: str = "fail",
        new_labels: str = "fail",
        max_instances: Optional[int] = None,
        serialization_dir: Optional[str] = None,
    ) -> None:
        if not isinstance(reader, ImageDatasetReader):
            raise ConfigurationError(
                f"dataset_reader.reader is a {type(reader).__name__}; expected a reader of images"
            )
        given = {
            "unlabelled": unlabelled,
            "unknown_images": unknown_images,
            "new_labels": new_labels,
        }
        for key, value in given.items():
            if value not in CHOICES[key]:
                raise not_one_of(f"dataset_reader.{key}", value, CHOICES[key])
        self.reader = reader
        self.corrections = corrections
        self.unlabelled = unlabelled
        self.unknown_images = unknown_images
        self.new_labels = new_labels
        self._added_to: Optional[str] = None
        super().__init__(
            reader.transforms,
            reader.color_mode,
            reader.label_namespace,
            max_instances,
            serialization_dir,
        )
        self.value_range = reader.value_range

    def read_samples(self, file_path: Any) -> List[Sample]:
        corrections = read_corrections(remote.expand(self.corrections), KEY)
        samples = list(islice(self.reader.read_samples(file_path), self.reader.max_instances))
        self._check_kind(samples, corrections)
        corrected = apply_corrections(samples, corrections)
        if corrected.stale:
            raise ConfigurationError(
                f"{KEY}: the labels of {numbered(len(corrected.stale), 'image')} have changed "
                f"since {self.corrections} was written: {some(corrected.stale)}; remove these lines"
            )
        added = self._added(file_path, corrections.multi_label, corrected.not_read)
        self._check_not_read(file_path, corrected.not_read)
        self._check_new_labels(samples, [*corrected.samples, *added])
        logger.info(
            "%s, for %s: labels changed: %d. Images left out: %d with the answer 'none', %d "
            "without an answer. Images added: %d",
            self.corrections,
            file_path,
            corrected.changed,
            corrected.dropped,
            corrected.unanswered,
            len(added),
        )
        return [*corrected.samples, *added]

    def _check_kind(self, samples: Sequence[Sample], corrections: Corrections) -> None:
        """Raise an error if only the images or only the answers may have several labels."""
        for sample in samples:
            if labels_of(sample) is not None and corrections.multi_label == (sample.labels is None):
                several = "several labels" if corrections.multi_label else "one label"
                raise ConfigurationError(
                    f"{KEY}: {self.corrections} has {several} an image, but dataset_reader.reader "
                    f"does not; expected the file of a review of these images"
                )

    def _added(
        self, file_path: Any, multi_label: bool, not_read: Sequence[Correction]
    ) -> List[Sample]:
        """Return the answered images that had no label."""
        if self.unlabelled == "skip":
            return []
        added = [each for each in not_read if each.previous is None and each.answer == LABEL]
        if not added:
            return []
        place = str(file_path)
        if self._added_to not in (None, place):
            raise ConfigurationError(
                f"dataset_reader adds the {numbered(len(added), 'image')} without a label in "
                f"{self.corrections} to {self._added_to} and to {place}; expected a "
                'validation_dataset_reader with unlabelled "skip"'
            )
        self._added_to = place
        missing = [
            each.path
            for each in added
            if not remote.is_remote(each.path) and not os.path.exists(each.path)
        ]
        if missing:
            raise ConfigurationError(
                f"{KEY}: images that do not exist ({len(missing)} of {len(added)}): "
                f"{some(missing)}; expected them relative to the folder of {self.corrections}"
            )
        return [
            _with_labels(Sample(remote.image_source(each.path)), each.labels, multi_label)
            for each in added
        ]

    def _check_not_read(self, file_path: Any, not_read: Sequence[Correction]) -> None:
        """Raise or log, as `unknown_images` says."""
        unknown = [each.path for each in not_read if each.previous is not None]
        if not unknown:
            return
        images = f"answers to images that are not in {file_path} ({len(unknown)})"
        if self.unknown_images == "skip":
            logger.warning("%s: skipped %s: %s", self.corrections, images, some(unknown))
            return
        raise ConfigurationError(
            f"{KEY}: {self.corrections} has {images}: {some(unknown)}; expected all of them, or "
            'dataset_reader.unknown_images "skip" where only a part of the images is read'
        )

    def _check_new_labels(self, before: Sequence[Sample], after: Sequence[Sample]) -> None:
        """Raise or log, as `new_labels` says."""
        known, now = (
            {label for sample in samples for label in labels_of(sample) or ()}
            for samples in (before, after)
        )
        new = sorted(now - known)
        if new and self.new_labels == "fail":
            raise ConfigurationError(
                f"{KEY}: no image of dataset_reader.reader has the labels ({len(new)}) {some(new)} "
                f'of {self.corrections}; expected known labels, or dataset_reader.new_labels "add"'
            )
        if new:
            logger.info("%s: new labels (%d): %s", self.corrections, len(new), some(new))

    def text_to_instance(
        self,
        image: Any,
        label: Optional[str] = None,
        labels: Optional[Any] = None,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> Instance:
        """Make an instance with the other reader."""
        return self.reader.text_to_instance(image, label, labels, metadata)
