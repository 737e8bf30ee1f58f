from pathlib import Path

import numpy as np
import pytest

from allencv.predictions.predictions_file import (
    Picture,
    Predictions,
    confident_mistakes,
    likely_label_errors,
    pictured,
    unsure_hits,
)


def single() -> Predictions:
    probs = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [0.55, 0.45]]
    return Predictions(
        ["cat", "dog"],
        [f"{index}.jpg" for index in range(5)],
        np.array(probs, dtype=np.float32),
        np.array([0, 0, 0, 1, 0]),
    )


def several() -> Predictions:
    probs = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
    return Predictions(
        ["red", "blue"],
        ["a", "b", "c"],
        np.array(probs, dtype=np.float32),
        np.array([[True, True], [True, True], [False, False]]),
        np.array([0.3, 0.5], dtype=np.float32),
    )


def noisy(seed: int, planted: int, multi_label: bool = False) -> "tuple[Predictions, set[int]]":
    """300 images of three labels, of which a good model finds nearly all; some labels are wrong."""
    random = np.random.default_rng(seed)
    true = random.integers(0, 3, 300)
    scores = random.normal(0, 1, (300, 3))
    scores[np.arange(300), true] += 5
    probs = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wrong = random.choice(300, planted, replace=False)
    labelled = true.copy()
    labelled[wrong] = (true[wrong] + random.integers(1, 3, planted)) % 3
    targets = np.eye(3, dtype=bool)[labelled] if multi_label else labelled
    found = Predictions(
        ["a", "b", "c"],
        [str(index) for index in range(300)],
        probs.astype(np.float32),
        targets,
        np.full(3, 0.5, dtype=np.float32) if multi_label else None,
    )
    return found, set(wrong.tolist())


@pytest.mark.parametrize("make", [single, several])
def test_what_is_saved_is_loaded(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    predictions = make()
    heat = np.array([[0, 0.5], [1, 0.25]], dtype=np.float32)
    predictions.pictures = {(1, 1): Picture(b"first", heat), (0, 1): Picture(b"second")}
    predictions.save(tmp_path / "test.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["test.npz"]
    loaded = Predictions.load(tmp_path / "test.npz")
    assert loaded.labels == predictions.labels
    assert loaded.names == predictions.names
    assert loaded.probs.dtype == np.float32
    assert np.array_equal(loaded.probs, predictions.probs)
    assert np.array_equal(loaded.targets, predictions.targets)
    assert loaded.multi_label == predictions.multi_label
    assert np.array_equal(loaded.given, predictions.given)
    assert list(loaded.pictures) == [(1, 1), (0, 1)]
    assert np.array_equal(loaded.pictures[1, 1].heat, heat)  # type: ignore[arg-type]
    assert loaded.pictures[0, 1] == Picture(b"second")


def test_damaged_files(tmp_path: Path) -> None:
    file = tmp_path / "validation.npz"
    single().save(file)
    content = file.read_bytes()
    np.savez(tmp_path / "other.npz", labels=np.array(["a"]))
    np.savez(tmp_path / "pickled.npz", labels=np.array([{}], dtype=object))
    file.write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.npz").touch()
    for name in ("validation", "empty", "other", "pickled", "missing"):
        with pytest.raises(ValueError, match=f"{name}.npz does not hold predictions"):
            Predictions.load(tmp_path / f"{name}.npz")


def test_mistakes_and_hits() -> None:
    predictions = single()
    assert predictions.given.tolist() == [0, 1, 1, 1, 0]
    assert confident_mistakes(predictions) == [(2, 1), (1, 1)]
    assert unsure_hits(predictions) == [(4, 0), (3, 1), (0, 0)]


def test_mistakes_and_hits_of_several_labels() -> None:
    predictions = several()
    assert predictions.given.tolist() == [[True, False], [True, True], [False, True]]
    # The first image is rather surely not blue; the last is blue with 0.8.
    assert confident_mistakes(predictions) == [(0, 1), (2, 1)]
    # 0.1 above its threshold, both; and 0.6.
    assert set(unsure_hits(predictions)[:2]) == {(1, 0), (1, 1)}
    assert unsure_hits(predictions)[2] == (0, 0)


def test_label_errors_by_hand() -> None:
    """
    Mean probability of "cat" over the images labelled so: (.9 + .4 + .2 + .55) / 4 = .5125; of
    "dog": .7. Confidently a dog are .8 and .7; only the first of them is labelled a cat.
    """
    assert likely_label_errors(single()) == [(2, 1)]


def test_a_label_that_no_image_has() -> None:
    predictions = single()
    predictions.labels.append("bird")
    predictions.probs = np.concatenate([predictions.probs * 0.4, np.full((5, 1), 0.6)], axis=1)
    assert likely_label_errors(predictions) == [(2, 1)]


@pytest.mark.parametrize("multi_label", [False, True])
def test_planted_label_errors_are_found(multi_label: bool) -> None:
    predictions, planted = noisy(seed=0, planted=20, multi_label=multi_label)
    found = likely_label_errors(predictions)
    images = list(dict.fromkeys(image for image, _ in found))
    assert len(planted & set(images)) >= 19
    assert len(planted & set(images[:20])) >= 18
    if not multi_label:
        # The label that it should have is the one that it was made for.
        right = sum(predictions.given[image] == label for image, label in found if image in planted)
        assert right >= 19


def test_no_label_error_where_the_model_agrees() -> None:
    predictions, _ = noisy(seed=1, planted=0)
    predictions.targets = predictions.given
    assert likely_label_errors(predictions) == []


def test_each_picture_once() -> None:
    predictions = single()
    assert pictured(predictions, 12) == [(2, 1), (1, 1), (4, 0), (3, 1), (0, 0)]
    assert pictured(predictions, 1) == [(2, 1), (4, 0)]
    assert pictured(predictions, 0) == []
