import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.predictions.predictions_file import FOLDER, Predictions
from allencv.reporting import run_html
from allencv.reporting.findings import run_findings
from allencv.reporting.run_folder import read_run
from allencv.reporting.scores import Score
from allencv.reporting.split_findings import ImageFinding, ImageList
from tests.configs import experiment
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment, write_tables

CALLBACKS = [{"type": "write_predictions", "pictures": 2}]


def as_html(folder: Path) -> str:
    return run_html.as_html(run_findings(read_run(folder)))


class Page(HTMLParser):
    """The text of a page, its tags, and what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: List[Tuple[str, Dict[str, Any]]] = []
        self.texts: List[str] = []
        self.open: List[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attributes: List[Tuple[str, Any]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "line", "circle", "rect", "polyline", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag, f"{tag} is closed where another is open"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, trained on three classes, and the images of it in `data`."""
    root = tmp_path_factory.mktemp("trained")
    for seed, (split, count) in enumerate({"train": 8, "val": 6}.items()):
        write_images(
            root / "data" / split, {"<b>red": count, "green": count, "blue": count}, seed=seed
        )
    config = experiment(root / "data", trainer__num_epochs=4, trainer__callbacks=CALLBACKS)
    train_model(Params(config), str(root / "run"))
    return root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run, moved to where its images are not."""
    return Path(shutil.copytree(trained / "run", tmp_path / "moved"))


def test_one_file_without_the_images(trained: Path, run: Path) -> None:
    """Made in another folder, when the images are gone, by a page that loads nothing."""
    (trained / "data").rename(trained / "gone")
    try:
        html = as_html(run)
    finally:
        (trained / "gone").rename(trained / "data")
    page = Page(html)
    assert not page.open
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "audio", "video", "base")
        for key in ("src", "href", "srcset", "xlink:href", "data"):
            value = attributes.get(key) or "#"
            assert value.startswith(("data:image/", "#")), f"<{tag} {key}={value[:50]!r}>"
        assert not any(key.startswith("on") for key in attributes)
    assert "@import" not in html
    assert not re.search(r"url\(", html)
    assert "http" not in re.sub(r"<pre>.*?</pre>", "", html, flags=re.DOTALL)
    found = Predictions.load(run / FOLDER / "validation.npz")
    assert page.count("img") >= 2 * len(found.pictures)
    targets = {attributes.get("id") for _, attributes in page.tags}
    links = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert len(links) >= 8
    assert links <= targets


def test_what_it_says(run: Path) -> None:
    page = Page(as_html(run))
    metrics = json.loads((run / "metrics.json").read_text())
    accuracy = metrics["best_validation_accuracy"]
    assert f"{100 * accuracy:.1f} %" in page.text
    assert "small_resnet, trained on 24 images with 3 labels for 4 epochs" in page.text
    assert "Validation: 18 images" in page.text
    assert f"Best epoch: {metrics['best_epoch'] + 1} of 4 (dotted line)" in page.text
    assert "adamw (lr 0.01)" in page.text
    assert "random_seed 13370, numpy_seed 1337, pytorch_seed 133" in page.text
    assert "<b>red" in page.text, "names are text, whatever they hold"
    for title in (
        *("Results", "Learning curves", "Labels", "Confusion matrix", "Calibration"),
        *("Most confident mistakes", "Least confident correct predictions"),
        *("Likely label errors", "Speed", "Training setup"),
    ):
        assert title in page.text
    assert "Training has not finished" not in page.text
    # The legend, two curves and two charts of calibration. A chart has a small and a large version.
    assert page.count("svg") == 2 + 2 * 2 + 2 * 2


def test_the_matrix_is_that_of_the_predictions(run: Path) -> None:
    file = run / FOLDER / "validation.npz"
    predictions = Predictions.load(file)
    predictions.targets[:2] = (predictions.given[:2] + 1) % 3
    predictions.save(file)
    html = as_html(run)
    (table,) = re.findall(r'<table class="matrix">(.*?)</table>', html, re.DOTALL)
    rows = [re.findall(r"<td[^>]*>(\d+)</td>", row) for row in table.split("</tr>")[1:4]]
    counts = np.array(rows, dtype=int)
    # In alphabetical order, which is not that of the vocabulary.
    order = np.argsort(predictions.labels)
    for row, true in enumerate(order):
        for column, given in enumerate(order):
            both = (predictions.targets == true) & (predictions.given == given)
            assert counts[row, column] == both.sum()
    assert f"{(predictions.given != predictions.targets).sum()} of 18 images" in Page(html).text


def test_numbers_as_text() -> None:
    assert [run_html.duration(seconds) for seconds in (0.04, 9.94, 99.4, 100, 3725)] == [
        *("0.0 s", "9.9 s", "99 s", "1 min 40 s", "1 h 02 min"),
    ]
    assert (
        run_html.interval_text(Score("accuracy", 0.9, 0.8125, 0.95))
        == "81.2 to 95.0\N{NO-BREAK SPACE}%"
    )
    assert run_html.interval_text(Score("log loss", 0.9, 0.8125, 1.2)) == "0.812 to 1.200"
    right = ImageFinding("a.jpg", "cat", 0.6, True, None, "dog", 0.3)
    assert run_html.comparison(right) == "second: dog, 30.0\N{NO-BREAK SPACE}%"
    wrong = ImageFinding("a.jpg", "cat", 0.6, False, None, "dog", 0.3)
    assert run_html.comparison(wrong) == "labelled: dog, 30.0\N{NO-BREAK SPACE}%"
    several = ImageFinding("a.jpg", "cat", 0.6, False, 0.25)
    assert run_html.comparison(several) == "threshold 25.0\N{NO-BREAK SPACE}%, labelled not cat"


def test_lists_of_images_with_several_labels(run: Path) -> None:
    """A likely label error suggests the opposite of what is labelled, whatever is predicted."""
    findings = run_findings(read_run(run))
    (split,) = findings.splits
    images = [
        ImageFinding("a.jpg", "<b>", 0.6, True, 0.5),
        ImageFinding("b.jpg", "dog", 0.4, False, 0.5),
    ]
    split.multi_label = True
    split.mistakes, split.label_errors = ImageList(2, images), ImageList(3, images)
    text = Page(run_html.as_html(findings)).text
    row = "a.jpg {} {} 60.0 % b.jpg not dog {} 40.0 %"
    assert row.format("<b>", "<b>", "not dog") in text
    assert row.format("<b>", "not <b>", "dog") in text
    assert "All 2 in a list image true predicted probability" in text
    assert "The first 2 in a list image true suggested probability" in text
    assert "2 of 54 decisions are wrong. The run has no pictures of them." in text


def test_several_labels_and_a_test_split(cats_and_dogs: Path, tmp_path: Path) -> None:
    write_tables(cats_and_dogs, tmp_path)
    config = multilabel_experiment(tmp_path, trainer__callbacks=CALLBACKS)
    train_model(Params(config), str(tmp_path / "run"))
    file = tmp_path / "run" / FOLDER / "validation.npz"
    shutil.copy(file, file.with_name("test.npz"))
    page = Page(as_html(tmp_path / "run"))
    for text in ("mAP", "macro F1", "threshold", "average precision", "Test: 10 images"):
        assert text in page.text
    assert page.text.index("Test: 10 images") < page.text.index("Validation: 10 images")
    assert "Confusion" not in page.text
    assert "decisions are wrong" in page.text or "There are no mistakes" in page.text
    # No validation image has the label, so that there is nothing to say of it.
    assert page.text.count("Labels without images (1) small") == 2
    assert not re.search(r"small 0 0\.50", page.text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_many_labels(run: Path) -> None:
    """A list of what is confused takes the place of the matrix; the table is cut."""
    random = np.random.default_rng(0)
    labels = [f"label {number}" for number in range(80)]
    probs = random.dirichlet(np.full(80, 0.1), 200).astype(np.float32)
    names = [str(number) for number in range(200)]
    targets = random.integers(0, 80, 200)
    targets[:5], probs[:5] = 3, np.eye(80, dtype=np.float32)[7]
    Predictions(labels, names, probs, targets).save(run / FOLDER / "validation.npz")
    page = Page(as_html(run))
    left_out = len(set(targets.tolist())) - 60
    assert f"50 more labels The labels with the lowest and the highest F1. {left_out} labels" in (
        page.text
    )
    assert f"Labels without images ({20 - left_out}) label " in page.text
    assert "true label predicted label images of the true label label 3 label 7 5 " in page.text
    assert "top-5 accuracy" in page.text
    assert "The run has no pictures of them." in page.text


def test_rows_and_columns_of_zeros_are_folded(run: Path) -> None:
    """No image has the label "eel", and "cat" is never predicted."""
    probs = np.eye(3, dtype=np.float32)[[1, 1, 2, 2]]
    predictions = Predictions(["cat", "dog", "eel"], list("abcd"), probs, np.array([0, 1, 0, 1]))
    predictions.save(run / FOLDER / "validation.npz")
    (split,) = run_findings(read_run(run)).splits
    assert run_html.confusion_matrix(split) == (
        ["dog", "eel"],
        [("cat", [1, 1]), ("dog", [1, 1])],
        ["eel"],
        ["cat"],
    )
    text = Page(as_html(run)).text
    assert "Without a row: labels without images (1) eel" in text
    assert "Without a column: labels that are never predicted (1) cat" in text


def test_most_pictures_are_folded(run: Path) -> None:
    """A page of many pictures would be 12,000 pixels long on a phone."""
    findings = run_findings(read_run(run))
    (split,) = findings.splits
    picture = next(each.picture for each in split.close_hits.images if each.picture)
    images = [ImageFinding(f"{i}.jpg", "cat", 0.6, True, picture=picture) for i in range(7)]
    split.mistakes = ImageList(7, images)
    html = run_html.as_html(findings)
    shown, folded = html.split("<summary>3 more pictures</summary>")
    assert 'alt="3.jpg"' in shown
    assert 'alt="4.jpg"' not in shown
    assert 'alt="6.jpg"' in folded


def test_one_section(run: Path) -> None:
    page = Page(run_html.as_html(run_findings(read_run(run)), ["learning"]))
    assert not page.open
    assert "Best epoch" in page.text
    for other in (
        "trained on",
        "18 images",
        "Confusion",
        "Calibration",
        "Most confident",
        "Speed",
        "config",
    ):
        assert other not in page.text


def test_a_run_without_predictions(run: Path) -> None:
    shutil.rmtree(run / FOLDER)
    page = Page(as_html(run))
    assert "no predictions for single images" in page.text
    assert "--evaluate" in page.text
    assert "predictions/run.json" in page.text
    assert "Learning curves" in page.text
    assert "Calibration" not in page.text
    assert "small_resnet, trained on images for 4 epochs" in page.text


def test_a_run_that_was_killed(run: Path) -> None:
    (run / "metrics.json").unlink()
    (run / FOLDER / "validation.npz").unlink()
    (run / "metrics_epoch_2.json").unlink()
    (run / "metrics_epoch_3.json").write_text('{"best_epoch": 3, "tr')
    page = Page(as_html(run))
    assert "Training has not finished" in page.text
    assert "for 2 of 4 epochs" in page.text


def test_a_run_that_was_killed_in_its_first_epoch(run: Path) -> None:
    for file in [*run.glob("metrics*.json"), run / "out.log"]:
        file.unlink()
    shutil.rmtree(run / FOLDER)
    page = Page(as_html(run))
    assert "for 0 of 4 epochs" in page.text
    assert "Learning curves" not in page.text
    assert "Training setup" in page.text
