import logging
from collections import Counter
from typing import Any, List, Sequence, Set

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from sklearn.model_selection import StratifiedKFold

from allencv.data.dataset_readers import ImageSplit
from allencv.data.dataset_readers.image_dataset_reader import Sample


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # another test may have set the root logger's


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
        'here: read the train part of the split: 800 of 1000 images ("split": null reads all)'
    ]


@pytest.mark.parametrize(("name", "by"), [("validation", "stratified"), ("validation", "hash")])
def test_an_empty_part(name: str, by: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        part(name, ["a.jpg"], by=by, fraction=0.01)
    assert str(error.value) == (
        f"here: dataset_reader.split.part 'validation' holds none of the 1 image, with fraction "
        f"0.01 by {by} and seed 0; expected at least one"
    )


# Folds.


def all_folds(count: int, names: Sequence[str], labels: Any = None, **arguments: Any) -> List[Set]:
    """What each of the folds holds out, after a look at the other parts."""
    folds = [held_out(names, labels, fold=k, folds=count, **arguments) for k in range(count)]
    assert sorted(name for fold in folds for name in fold) == sorted(names)
    return folds


def test_folds_by_hash() -> None:
    folds = all_folds(4, NAMES)
    assert all(200 < len(fold) < 300 for fold in folds)
    assert folds == all_folds(4, NAMES[::-1])
    assert folds != all_folds(4, NAMES, seed=1)
    # Images that are added move no other.
    few = set(NAMES[:100])
    assert [fold & few for fold in folds] == all_folds(4, NAMES[:100])


def test_folds_are_the_same_on_every_machine() -> None:
    expected = [[0, 2, 5, 6, 9, 15, 16, 20, 24, 25, 28], [8, 10, 12, 18, 22, 26, 29]]
    folds = all_folds(3, NAMES[:30])
    assert [sorted(int(name[4:7]) for name in fold) for fold in folds[:2]] == expected


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("count", [2, 5])
def test_stratified_folds_are_as_even_as_scikit_learns(count: int, seed: int) -> None:
    labels = ["a"] * 13 + ["b"] * 27 + ["c"] * 5 + ["d"] * 11
    names = NAMES[: len(labels)]
    folds = all_folds(count, names, labels, by="stratified", seed=seed)
    label_of = dict(zip(names, labels))
    counts = [Counter(label_of[name] for name in fold) for fold in folds]
    reference = StratifiedKFold(count, shuffle=True, random_state=seed).split(names, labels)
    expected = [Counter(labels[place] for place in places) for _, places in reference]
    for label in "abcd":
        assert sorted(c[label] for c in counts) == sorted(c[label] for c in expected)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    # The order does not count, the seed does.
    reversed_ = all_folds(count, names[::-1], labels[::-1], by="stratified", seed=seed)
    assert reversed_ == folds
    assert all_folds(count, names, labels, by="stratified", seed=seed + 1) != folds


def test_stratified_folds_of_several_labels() -> None:
    labels = [
        [label for label, every in (("x", 1), ("y", 4), ("z", 50)) if number % every == 0]
        for number in range(1000)
    ]
    labels[1] = []
    for fold in all_folds(5, NAMES, labels, by="stratified"):
        each = [labels[NAMES.index(name)] for name in fold]
        counts = Counter(label for row in each for label in row)
        assert counts["z"] == 4
        assert counts["y"] == pytest.approx(50, abs=1)
        assert counts["x"] == pytest.approx(200, abs=2)


@pytest.mark.parametrize("by", ["hash", "stratified"])
def test_folds_of_groups(by: str) -> None:
    labels = ["cat" if int(name[:2]) % 2 else "dog" for name in GROUPED]
    for fold in all_folds(4, GROUPED, labels, by=by, group=r"^\d+"):
        assert set(Counter(name[:2] for name in fold).values()) == {3}
        if by == "stratified":
            assert Counter(labels[GROUPED.index(name)] for name in fold) == {"cat": 15, "dog": 15}


def test_large_groups_are_spread_first() -> None:
    sizes = {"a": 6, "b": 1, "c": 1, "d": 1, "e": 5, "f": 1}
    names = [f"{group}{number}" for group, size in sizes.items() for number in range(size)]
    folds = all_folds(3, names, by="stratified", group="^.")
    assert sorted(map(len, folds)) == [4, 5, 6]


def test_a_class_without_an_image_in_a_fold_is_named(caplog: pytest.LogCaptureFixture) -> None:
    labels = ["a"] * 20 + ["two"] * 2 + ["one"]
    split = {"by": "stratified", "folds": 3}
    for fold in range(3):
        part("validation", NAMES[:23], labels, fold=fold, **split)
        part("train", NAMES[:23], labels, fold=fold, **split)
    # The one image of a class is in the fold that has none of the two of another.
    found = [text.partition(" has no image of ") for text in caplog.messages]
    assert sorted((where.split()[2], label) for where, _, label in found) == [
        ("train", "one"),
        ("validation", "one"),
        ("validation", "one"),
        ("validation", "two"),
    ]
    assert caplog.messages[0].startswith("here: the validation part of fold 0 of 3 has no image")


def test_what_is_read_of_a_fold_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    part("train", NAMES, by="stratified", fold=1, folds=4)
    assert caplog.messages == [
        'here: read the train part of fold 1 of 4: 750 of 1000 images ("split": null reads all)'
    ]


def test_an_empty_fold() -> None:
    with pytest.raises(ConfigurationError) as error:
        part("validation", ["a", "b"], by="stratified", fold=2, folds=3)
    assert str(error.value) == (
        "here: dataset_reader.split.part 'validation' holds none of the 2 images, with fold 2 of 3 "
        "by stratified and seed 0; expected at least one"
    )


def test_from_params() -> None:
    split = ImageSplit.from_params(
        Params({"part": "train", "fraction": 0.1, "by": "stratified", "seed": 3, "group": "a"})
    )
    assert (split.part, split.fraction, split.by, split.seed) == ("train", 0.1, "stratified", 3)
    split = ImageSplit.from_params(Params({"part": "train", "fold": 0, "folds": 2}))
    assert (split.fold, split.folds, split.by) == (0, 2, "hash")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"part": "test"}, "dataset_reader.split.part is 'test'; expected one of .*train, valid"),
        ({"part": "train", "by": "hashed"}, "split.by is 'hashed'; expected one of hash, strat"),
        ({"part": "train", "fraction": 1.0}, "fraction is 1.0; expected more than 0 and less"),
        ({"part": "train", "fraction": 20}, "fraction is 20; expected more than 0 and less"),
        ({"part": "train", "group": "(a"}, r"split.group is '\(a'; expected a regular expression"),
        ({"part": "train", "parts": 2}, "parts"),
        ({"part": "train", "fold": 1}, "split.fold is 1 and folds is None; expected both, such as"),
        ({"part": "train", "folds": 5}, "split.fold is None and folds is 5; expected both"),
        ({"part": "train", "fold": 0, "folds": 1}, "split.folds is 1; expected 2 or more"),
        ({"part": "train", "fold": 5, "folds": 5}, "fold is 5; expected 0 to 4, as folds is 5"),
        ({"part": "train", "fold": -1, "folds": 5}, "fold is -1; expected 0 to 4, as folds is 5"),
        (
            {"part": "train", "fold": 0, "folds": 5, "fraction": 0.2},
            "split.fraction is 0.2 and folds is 5; expected one of them",
        ),
        ({}, "part"),
    ],
)
def test_wrong_arguments(params: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageSplit.from_params(Params(params))


@pytest.mark.parametrize(
    "arguments",
    [
        {"fraction": 0.2, "by": "stratified"},
        {"fraction": 0.3},
        {"fold": 1, "folds": 4, "by": "stratified"},
        {"fraction": 0.2, "by": "stratified", "group": "img_(...?)"},
    ],
)
def test_images_for_calibration(arguments: Any) -> None:
    labels = ["ant" if number % 3 else "bee" for number in range(1000)]
    both = dict(arguments, calibration_fraction=0.1)
    parts = [part(name, NAMES, labels, **both) for name in ("train", "validation", "calibration")]
    assert sorted(name for each in parts for name in each) == NAMES
    _, validation, calibration = map(set, parts)
    # The images for validation are those without calibration.
    assert validation == held_out(NAMES, labels, **arguments)
    assert not calibration & validation
    if arguments.get("by") == "stratified" and "group" not in arguments:
        counts = Counter(labels[NAMES.index(name)] for name in calibration)
        assert counts == {"ant": 67, "bee": 33}
    else:
        assert 60 < len(calibration) < 140


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calibration_fraction": 0.8}, "calibration_fraction is 0.8; expected more than 0 and .*"),
        ({"calibration_fraction": 0}, "calibration_fraction is 0; expected"),
        ({}, "part is 'calibration', but there is no calibration_fraction; expected one"),
    ],
)
def test_fractions_for_calibration_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageSplit("calibration", **arguments)
