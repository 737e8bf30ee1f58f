"""A review: the queue of images, and what the page shows and does."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from allencv.data.corrections import LABEL, SKIP, Labels
from allencv.data.fields.image_field import Source
from allencv.reviewing.answers_file import AnswersFile
from allencv.runtime.classifier import RankedLabel
from allencv.runtime.value_ranges import ValueRange


class Picture(NamedTuple):
    """
    An image to show.

    # Parameters

    key : its absolute path, or its URL.
    name : its path as the user gave it.
    source : to decode it.
    value_range : of the reader that has it.
    labels : its labels, `None` without.
    """

    key: str
    name: str
    source: Source
    value_range: Optional[ValueRange]
    labels: Optional[Labels]


@dataclass
class QueuedImage:
    """
    An image in the queue.

    # Parameters

    picture : the image. Its labels are those that it has before the review.
    title : why it is here, in a few words for the person.
    reason : the same in a sentence, with the labels.
    suggestion : the labels that Enter accepts.
    top : the most probable labels, the most probable first.
    similar : the labelled images that are most similar to it.
    """

    picture: Picture
    title: str
    reason: str
    suggestion: Labels
    top: List[RankedLabel]
    similar: Sequence[int] = ()


class AnsweredAlready(Exception):
    """The image has an answer: from another window, for example."""


class ReviewSession:
    """
    Shows one image after the other, and saves each answer. Images that were answered before are not
    shown. Skipped images come again at the end.

    # Parameters

    name : the model.
    labels : all labels that can be chosen.
    multi_label : whether an image may have several labels, or none.
    queue : the images, the most useful first, each once.
    labelled : the images that `QueuedImage.similar` refers to.
    answers : the file for the answers.
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        multi_label: bool,
        queue: Sequence[QueuedImage],
        labelled: Sequence[Picture],
        answers: AnswersFile,
    ) -> None:
        self.name = name
        self.labels = list(labels)
        self.multi_label = multi_label
        self.queue = list(queue)
        self.labelled = list(labelled)
        self.answers = answers
        self._number_of = {label: number for number, label in enumerate(self.labels)}
        self._place_of = {each.picture.key: place for place, each in enumerate(self.queue)}
        earlier = answers.corrections.of_images
        places: List[Tuple[bool, int]] = []
        for place, each in enumerate(self.queue):
            answer = earlier.get(each.picture.key)
            if answer is None or answer.answer == SKIP:
                places.append((answer is not None, place))
        self._left = OrderedDict.fromkeys(place for _, place in sorted(places))
        """The images without an answer, in the order in which they are shown."""

    @property
    def left(self) -> int:
        """The number of images without an answer."""
        return len(self._left)

    @property
    def answered(self) -> int:
        """The number of images with an answer."""
        return len(self.queue) - self.left

    def as_json(self) -> Dict[str, object]:
        """Return what does not change during the review."""
        return {
            "name": self.name,
            "labels": self.labels,
            "multi_label": self.multi_label,
            "file": self.answers.path,
        }

    def view(self) -> Dict[str, object]:
        """Return the image to show, and the progress."""
        places = iter(self._left)
        current, following = next(places, None), next(places, None)
        return {
            "image": None if current is None else self._image(current),
            "next": following,
            "answered": self.answered,
            "total": len(self.queue),
            "can_undo": self.answers.can_undo,
        }

    def answer(self, place: int, answer: str, numbers: Sequence[int]) -> None:
        """
        Save the answer to an image.

        # Parameters

        place : of the image in the queue.
        answer : one of `allencv.data.corrections.ANSWERS`.
        numbers : the places of the labels in `labels`.

        # Raises

        `AnsweredAlready`; `ValueError` for an answer that does not fit; and as `AnswersFile.add`.
        """
        self._check(place, answer, numbers)
        if place not in self._left:
            raise AnsweredAlready
        picture = self.queue[place].picture
        labels = tuple(self.labels[number] for number in sorted(numbers))
        self.answers.add(picture.key, answer, labels, picture.labels)
        if answer == SKIP:
            self._left.move_to_end(place)
        else:
            del self._left[place]

    def undo(self) -> bool:
        """Take the last answer back, and show its image. Return whether there was one."""
        key = self.answers.undo()
        if key is None:
            return False
        place = self._place_of[key]
        self._left[place] = None
        self._left.move_to_end(place, last=False)
        return True

    def _check(self, place: int, answer: str, numbers: Sequence[int]) -> None:
        if not 0 <= place < len(self.queue):
            raise ValueError(f"image is {place}; expected 0 to {len(self.queue) - 1}")
        if not all(0 <= number < len(self.labels) for number in numbers):
            raise ValueError(f"labels are {numbers}; expected 0 to {len(self.labels) - 1}")
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"labels are {numbers}; expected each once")
        count = len(numbers)
        if answer != LABEL and count:
            raise ValueError(f"answer is {answer} with labels {numbers}; expected no labels")
        if answer == LABEL and not self.multi_label and count != 1:
            raise ValueError(f"labels are {numbers}; expected one label")

    def _image(self, place: int) -> Dict[str, object]:
        queued = self.queue[place]
        labels = queued.picture.labels
        return {
            "place": place,
            "name": queued.picture.name,
            "title": queued.title,
            "reason": queued.reason,
            "labels": None if labels is None else self._numbers(labels),
            "suggestion": self._numbers(queued.suggestion),
            "top": [
                {"label": self._number_of[each["label"]], "probability": each["probability"]}
                for each in queued.top
            ],
            "similar": [
                {"place": each, "labels": self._numbers(self.labelled[each].labels or ())}
                for each in queued.similar
            ],
        }

    def _numbers(self, labels: Labels) -> List[int]:
        return [self._number_of[label] for label in labels]
