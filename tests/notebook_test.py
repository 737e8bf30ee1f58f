"""What a notebook displays. The frames are looked at in a real browser, where there is one."""

import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from PIL import Image

import allencv
from allencv.notebook import RunReport
from allencv.predictions.predictions_file import FOLDER, Predictions
from tests.configs import experiment
from tests.conftest import full_disk

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def run(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown") / "run"
    train_model(Params(experiment(cats_and_dogs)), str(folder))
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> RunReport:
    return allencv.report(run)


def page_in(frame: str) -> str:
    found = re.search(r'srcdoc="([^"]*)"', frame)
    assert found is not None
    return html.unescape(found.group(1))


def test_the_report_is_displayed(report: RunReport, tmp_path: Path) -> None:
    frame = report._repr_html_()
    assert frame.startswith("<iframe ")
    page = page_in(frame)
    assert page.replace('<base href="about:srcdoc">', "") == report.html
    report.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report.html
    with full_disk(), pytest.raises(OSError, match="No space left"):
        report.save(tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_parts_of_the_report(report: RunReport) -> None:
    parts = {
        "Learning curves": report.learning_curves,
        "precision": report.scores,
        "Confusion matrix": report.confusion_matrix,
        "Most confident mistakes": report.mistakes,
    }
    for title, part in parts.items():
        for other in [*parts, "Training setup"]:
            assert (other in part.html) == (other == title)
        assert "<iframe " in part._repr_html_()


def test_parts_that_are_not_there(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "pets"))
    targets = np.array([[True, False], [True, True]])
    predictions = Predictions(
        ["cat", "dog"], ["a", "b"], np.eye(2, dtype=np.float32), targets, np.full(2, 0.5)
    )
    predictions.save(folder / FOLDER / "validation.npz")
    with pytest.raises(ConfigurationError, match="expected one for a confusion matrix"):
        allencv.report(folder).confusion_matrix  # noqa: B018
    shutil.rmtree(folder / FOLDER)
    for file in folder.glob("metrics_epoch_*"):
        file.unlink()
    without = allencv.report(folder)
    with pytest.raises(ConfigurationError, match=r"pets has no predictions/validation\.npz"):
        without.mistakes  # noqa: B018
    with pytest.raises(ConfigurationError, match="pets has no metrics_epoch"):
        without.learning_curves  # noqa: B018


def test_a_batch_is_displayed(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = tmp_path / "pets.json"
    config.write_text(json.dumps(experiment(cats_and_dogs)))
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    batch = allencv.show_batch(config, split="validation", count=3)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002 - the notebook's numbers
    with Image.open(io.BytesIO(batch._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert 900 < picture.width < 1200
    assert batch.figure.texts[0].get_text() == "pets.json: validation data, epoch 0"
    batch.save(tmp_path / "batch.jpg")
    with Image.open(tmp_path / "batch.jpg") as saved:
        assert (saved.format, saved.size) == ("JPEG", picture.size)
    with pytest.raises(ConfigurationError, match="count is 0; expected at least 1"):
        allencv.show_batch(config, count=0)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium")
def test_the_frame_in_a_browser(report: RunReport) -> None:
    """It keeps its style to itself, grows to its content, and its links stay in it."""
    api = pytest.importorskip("playwright.sync_api")

    def height_of(page: Any) -> int:
        return int(page.locator("iframe").bounding_box()["height"])

    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.set_content(f"<p>a notebook</p>{report._repr_html_()}")
        frame = page.frame_locator("iframe")
        frame.locator("h1").wait_for()
        family = "(each) => getComputedStyle(each).fontFamily"
        assert page.locator("p").evaluate(family) != frame.locator("p").first.evaluate(family)
        assert height_of(page) == 900
        frame.get_by_role("link", name="Setup").click()
        assert frame.locator("#training").evaluate("(each) => scrollY > 100")
        page.set_content(report.confusion_matrix._repr_html_())
        page.frame_locator("iframe").locator(".matrix").wait_for()
        assert 100 < height_of(page) < 480
        browser.close()
