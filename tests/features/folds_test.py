import numpy as np

from allencv.features.folds import choose_folds


def test_classes_are_spread_evenly() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 13, 7]))
    folds = choose_folds(labels)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    counts = np.bincount(folds)
    assert len(counts) == 5
    assert counts.max() - counts.min() <= 1


def test_every_training_part_has_every_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [1, 2, 3, 20])
    folds = choose_folds(labels)
    assert folds[0] == -1
    assert (folds[1:] >= 0).all()
    for fold in range(5):
        assert set(labels[folds != fold]) == {0, 1, 2, 3}


def test_no_class_has_more_images_than_folds() -> None:
    assert choose_folds(np.arange(4)).tolist() == [-1] * 4
    assert sorted(choose_folds(np.array([0, 0, 1, 1]))) == [0, 0, 1, 1]


def test_several_labels() -> None:
    folds = choose_folds(np.zeros((12, 3), int))
    assert sorted(np.bincount(folds).tolist()) == [2, 2, 2, 3, 3]
    assert choose_folds(np.zeros((1, 3), int)).tolist() == [-1]
