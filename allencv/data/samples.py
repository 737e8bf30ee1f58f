import hashlib
from array import array
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, overload

import torch
from allennlp.data import Instance, TensorDict, Vocabulary
from allennlp.data.fields import LabelField, MultiLabelField

from allencv.data.dataset_readers.image_dataset_reader import (
    ImageDatasetReader,
    Sample,
    described,
)
from allencv.runtime.garbage import paused_collector

LabelKey = Tuple[Optional[str], Optional[Tuple[str, ...]]]

MOST_LABELS = 10_000
"""How many labels and sets of labels are kept as tensors."""


class SampleList(Sequence[Sample]):
    """
    A list of samples that takes little memory: the bytes of each path and 12 bytes more. A million
    photographs take about 80 MB; as many `Instance`s take a gigabyte. Samples are rebuilt on each
    access.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._paths = bytearray()
        self._ends = array("Q")
        self._codes = array("I")
        # Few samples have these: a source that is not a path, and metadata.
        self._sources: Dict[int, Any] = {}
        self._metadata: Dict[int, Dict[str, Any]] = {}
        self._first_with_labels: List[int] = []
        codes: Dict[LabelKey, int] = {}
        with paused_collector():
            for index, (image, label, labels, metadata) in enumerate(samples):
                if isinstance(image, str):
                    self._paths += image.encode("utf-8", "surrogateescape")
                else:
                    self._sources[index] = image
                if metadata is not None:
                    self._metadata[index] = metadata
                key = (label, None if labels is None else tuple(labels))
                if key not in codes:
                    codes[key] = len(codes)
                    self._first_with_labels.append(index)
                self._codes.append(codes[key])
                self._ends.append(len(self._paths))
        self._labels = list(codes)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "SampleList": ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return SampleList(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        label, labels = self._labels[self._codes[index]]
        return Sample(self._image(index), label, labels, self._metadata.get(index))

    def _image(self, index: int) -> Any:
        if index in self._sources:
            return self._sources[index]
        start = self._ends[index - 1] if index else 0
        return self._paths[start : self._ends[index]].decode("utf-8", "surrogateescape")

    def code(self, index: int) -> int:
        """Return the number of a sample's label, or of its set of labels."""
        return self._codes[index]

    def metadata(self, index: int) -> Dict[str, Any]:
        """Return the metadata of a sample as in its instance."""
        return described(self._image(index), self._metadata.get(index))

    def digest(self) -> str:
        """Return a SHA-256 hash of all paths and labels, in order."""
        hashed = hashlib.sha256(self._paths)
        for part in (self._ends, self._codes, repr(self._labels).encode()):
            hashed.update(part)
        return hashed.hexdigest()

    def labels(self) -> Dict[str, int]:
        """Return the number of samples with each label."""
        counts: Dict[str, int] = {}
        of_codes = array("Q", bytes(8 * len(self._labels)))
        for code in self._codes:
            of_codes[code] += 1
        for (label, labels), count in zip(self._labels, of_codes):
            for name in labels or ([] if label is None else [label]):
                counts[name] = counts.get(name, 0) + count
        return counts

    def one_of_each_label(self) -> List[int]:
        """Return the indices of the first samples with each label, or each set of labels."""
        return self._first_with_labels


class Instances(Sequence[Instance]):
    """The instances that a reader makes from samples, rebuilt on each access."""

    def __init__(self, reader: ImageDatasetReader, samples: SampleList) -> None:
        self.samples = samples
        self._vocab: Optional[Vocabulary] = None
        self._make = reader.text_to_instance
        self.are_plain = type(reader).text_to_instance is ImageDatasetReader.text_to_instance
        """Whether the reader makes them of the samples as all do."""
        self._labels: Dict[int, Dict[str, torch.Tensor]] = {}

    @property
    def vocab(self) -> Optional[Vocabulary]:
        return self._vocab

    @vocab.setter
    def vocab(self, vocab: Vocabulary) -> None:
        self._vocab = vocab
        self._labels.clear()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        instance = self._make(*self.samples[index])
        if self.vocab is not None:
            instance.index_fields(self.vocab)
        return instance

    def without_images(self, indices: Sequence[int]) -> Optional[TensorDict]:
        """
        Return a batch of all fields but the images, without making the instances, which takes
        longer. It is for those that `are_plain`. Return `None` if they have different fields.
        """
        labels = [self._label_tensors(self.samples.code(index)) for index in indices]
        keys = list(labels[0])
        if any(list(each) != keys for each in labels):
            return None
        batch: TensorDict = {key: torch.stack([each[key] for each in labels]) for key in keys}
        batch["metadata"] = [self.samples.metadata(index) for index in indices]
        return batch

    def _label_tensors(self, code: int) -> Dict[str, torch.Tensor]:
        """Return the label, or the labels, of the samples with a code."""
        if code not in self._labels:
            if len(self._labels) >= MOST_LABELS:  # sets of several labels can be many
                self._labels.clear()
            fields = self[self.samples.one_of_each_label()[code]].fields
            self._labels[code] = {
                name: field.as_tensor({})
                for name, field in fields.items()
                if isinstance(field, (LabelField, MultiLabelField))
            }
        return self._labels[code]

    def one_of_each_label(self) -> Iterator[Instance]:
        """Return the first instance with each label, not indexed."""
        return (self._make(*self.samples[i]) for i in self.samples.one_of_each_label())

    def __iter__(self) -> Iterator[Instance]:
        return (self[index] for index in range(len(self)))
