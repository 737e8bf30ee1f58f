import hashlib
from array import array
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, overload

from allennlp.data import Instance, Vocabulary

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.runtime.garbage import paused_collector

LabelKey = Tuple[Optional[str], Optional[Tuple[str, ...]]]


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
        image = self._sources.get(index)
        if image is None:
            start = self._ends[index - 1] if index else 0
            image = self._paths[start : self._ends[index]].decode("utf-8", "surrogateescape")
        label, labels = self._labels[self._codes[index]]
        return Sample(image, label, labels, self._metadata.get(index))

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
        self.vocab: Optional[Vocabulary] = None
        self._make = reader.text_to_instance

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        instance = self._make(*self.samples[index])
        if self.vocab is not None:
            instance.index_fields(self.vocab)
        return instance

    def one_of_each_label(self) -> Iterator[Instance]:
        """Return the first instance with each label, not indexed."""
        return (self._make(*self.samples[i]) for i in self.samples.one_of_each_label())

    def __iter__(self) -> Iterator[Instance]:
        return (self[index] for index in range(len(self)))
