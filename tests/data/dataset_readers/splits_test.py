import logging
from collections import Counter
from typing import Any, List, Sequence, Set

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers import ImageSplit
from allencv.data.dataset_readers.image_dataset_reader import Sample

NAMES = [f"img_{number:03d}.jpg" for number in range(1000)]


def part(part: str, names: Sequence[str], labels: Any = None, **arguments: Any) -> List[str]:
    """The names in one part. Each image has a label, a list of labels, or none."""
    samples = [
        Sample(f"/photos/{name}", labels=label)
        if isinstance(label, list)
        else Sample(f"/photos/{name}", label)
        for name, label in zip(names, labels or [None] * len(names))
    ]
    chosen = ImageSplit(part, **arguments).select(samples, names, "here")
    return [str(sample.image).removeprefix("/photos/") for sample in chosen]


def held_out(names: Sequence[str], labels: Any = None, **arguments: Any) -> Set[str]:
    """The names held out, after a look at the other part."""
    train = part("train", names, labels, **arguments)
    validation = part("validation", names, labels, **arguments)
    assert sorted(train + validation) == sorted(names)
    for each in (train, validation):
        assert each == [name for name in names if name in set(each)]
    return set(validation)


def test_by_hash() -> None:
    assert 150 < len(held_out(NAMES)) < 250
    assert 450 < len(held_out(NAMES, fraction=0.5)) < 550
    assert held_out(NAMES) == held_out(NAMES[::-1])
    assert held_out(NAMES) != held_out(NAMES, seed=1)
    assert held_out(NAMES) < held_out(NAMES, fraction=0.3)


def test_images_that_are_added_move_no_other() -> None:
    few = set(NAMES[:100])
    assert held_out(NAMES[:100]) == held_out(NAMES) & few


def test_the_same_on_every_machine() -> None:
    expected = [0, 2, 6, 9, 15, 20, 24, 25, 28]
    assert sorted(held_out(NAMES[:30])) == [NAMES[number] for number in expected]
    composed, decomposed = "Größe.jpg", "Gro\u0308ße.jpg"
    for seed in range(10):
        share = [ImageSplit("train", seed=seed)._groups([n], "") for n in (composed, decomposed)]
        assert share[0] == share[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_stratified_meets_the_share_of_each_class(seed: int) -> None:
    labels = ["a"] * 10 + ["b"] * 25 + ["c"] * 2 + ["d"] * 3
    names = NAMES[: len(labels)]
    found = held_out(names, labels, by="stratified", fraction=0.2, seed=seed)
    counts = Counter(label for name, label in zip(names, labels) if name in found)
    assert counts == {"a": 2, "b": 5, "c": 1, "d": 1}
    other = held_out(names[::-1], labels[::-1], by="stratified", fraction=0.2, seed=seed)
    assert other == found
    assert found != held_out(names, labels, by="stratified", fraction=0.2, seed=seed + 1)


def test_a_large_share_leaves_one_to_train_on() -> None:
    found = held_out(NAMES[:4], ["a", "a", "b", "b"], by="stratified", fraction=0.99)
    assert len(found) == 2


def test_images_without_labels_are_one_class() -> None:
    assert len(held_out(NAMES, by="stratified", fraction=0.25)) == 250


def test_stratified_with_several_labels() -> None:
    labels = [
        [label for label, every in (("x", 1), ("y", 4), ("z", 50)) if number % every == 0]
        for number in range(1000)
    ]
    labels[1] = []
    found = held_out(NAMES, labels, by="stratified", fraction=0.2)
    counts = Counter(label for name, row in zip(NAMES, labels) if name in found for label in row)
    assert counts == {"x": 200, "y": 50, "z": 4}


GROUPED = [f"{group:02d}_{letter}.jpg" for group in range(40) for letter in "abc"]


@pytest.mark.parametrize("by", ["hash", "stratified"])
@pytest.mark.parametrize("pattern", [r"^\d+", r"(\d+)_", r"(\d+)_|x"])
def test_groups_stay_together(by: str, pattern: str) -> None:
    labels = ["cat" if int(name[:2]) % 2 else "dog" for name in GROUPED]
    found = held_out(GROUPED, labels, by=by, group=pattern)
    assert found
    assert set(Counter(name[:2] for name in found).values()) == {3}
    if by == "stratified":
        assert len(found) == 24


def test_a_group_in_two_classes_stays_together() -> None:
    labels = ["cat" if name[3] == "a" else "dog" for name in GROUPED]
    found = held_out(GROUPED, labels, by="stratified", group=r"^\d+")
    assert set(Counter(name[:2] for name in found).values()) == {3}
    assert len(found) == 24


def test_groups_too_large_for_the_share() -> None:
    names = ["a1", "a2", "a3", "a4", "b1"]
    assert held_out(names, by="stratified", group="[ab]") == {"b1"}
    names = ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert len(held_out(names, by="stratified", group="[ab]")) == 3


def test_a_class_on_one_side_alone_is_named(caplog: pytest.LogCaptureFixture) -> None:
    labels = ["a"] * 99 + ["lone"]
    assert "lone" not in held_out(NAMES[:100], labels, by="stratified")
    assert caplog.messages == ["here: the validation part of the split has no image of lone"]


def test_paths_without_a_group_are_named(caplog: pytest.LogCaptureFixture) -> None:
    names = [*GROUPED, "other.jpg"]
    part("train", names, group=r"\d+")
    assert caplog.messages == [
        "here: dataset_reader.split.group '\\\\d+' is found in all paths but 1: other.jpg"
    ]
    with pytest.raises(ConfigurationError, match="is found in none of the paths, such as '00_a.j"):
        part("train", GROUPED, group="img(.*)")


def test_what_is_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    part("train", NAMES, by="stratified")
    assert caplog.messages == [
        'here: read the train part of a split: 800 of 1000 images ("split": null reads all)'
    ]


@pytest.mark.parametrize(("name", "by"), [("validation", "stratified"), ("validation", "hash")])
def test_an_empty_part(name: str, by: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        part(name, ["a.jpg"], by=by, fraction=0.01)
    assert str(error.value) == (
        f"here: dataset_reader.split.part 'validation' holds none of the 1 images, with fraction "
        f"0.01 by {by} and seed 0; expected at least one"
    )


def test_from_params() -> None:
    split = ImageSplit.from_params(
        Params({"part": "train", "fraction": 0.1, "by": "stratified", "seed": 3, "group": "a"})
    )
    assert (split.part, split.fraction, split.by, split.seed) == ("train", 0.1, "stratified", 3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"part": "test"}, "dataset_reader.split.part is 'test'; expected one of train, valid"),
        ({"part": "train", "by": "hashed"}, "split.by is 'hashed'; expected one of hash, strat"),
        ({"part": "train", "fraction": 1.0}, "fraction is 1.0; expected more than 0 and less"),
        ({"part": "train", "fraction": 20}, "fraction is 20; expected more than 0 and less"),
        ({"part": "train", "group": "(a"}, r"split.group is '\(a'; expected a regular expression"),
        ({"part": "train", "parts": 2}, "parts"),
        ({}, "part"),
    ],
)
def test_wrong_arguments(params: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageSplit.from_params(Params(params))
