import logging
from array import array
from typing import Dict, List, Optional

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.dataset_readers.messages import some

logger = logging.getLogger(__name__)


class UniqueSamples:
    """
    Collects listed images, each once. An image repeated with the same labels is skipped, with a
    warning; with different labels it is an error.

    # Parameters

    place : `str`
        The name of the list in messages.
    unit : `str`
        The unit of the images' numbers: "line" or "row".
    """

    def __init__(self, place: str, unit: str) -> None:
        self.place = place
        self.unit = unit
        self.samples: List[Sample] = []
        self.numbers = array("Q")
        self.index_of: Dict[str, int] = {}
        self._repeated: List[str] = []
        self._contradictory: List[str] = []

    def add(self, number: int, sample: Sample, name: Optional[str]) -> None:
        """Add an image; `name` identifies it, or is `None` if unknown."""
        size = len(self.samples)
        index = size if name is None else self.index_of.setdefault(name, size)
        if index == size:
            self.samples.append(sample)
            self.numbers.append(number)
            return
        first = self.samples[index]
        where = f"'{name}' in {self.unit}s {self.numbers[index]} and {number}"
        if first.label == sample.label and set(first.labels or ()) == set(sample.labels or ()):
            self._repeated.append(where)
        else:
            self._contradictory.append(f"{where} ({_shown(first)} and {_shown(sample)})")

    def check(self) -> None:
        """Raise or warn about images listed more than once."""
        if self._contradictory:
            raise ConfigurationError(
                f"{self.place}: the same image with different labels ({len(self._contradictory)}): "
                f"{some(self._contradictory)}; expected each image once"
            )
        if self._repeated:
            logger.warning(
                "%s: repeated images are used once (%d): %s",
                self.place,
                len(self._repeated),
                some(self._repeated),
            )


def _shown(sample: Sample) -> str:
    return str(sample.label) if sample.labels is None else str(list(sample.labels))
