import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from sklearn.metrics.pairwise import cosine_similarity

from allencv.predictions.predictions_file import (
    FOLDER,
    Predictions,
    confident_mistakes,
)
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.reporting.findings import Findings, run_findings
from allencv.reporting.run_folder import read_run
from allencv.reporting.run_html import as_html
from allencv.reporting.similar_images import add_similar_images
from allencv.runtime.errors import InputError
from tests.conftest import run_in_process
from tests.models.multilabel_data import multilabel_experiment, write_tables
from tests.reporting.run_html_test import Page

COUNT = 2
"""The number of mistakes."""


@pytest.fixture
def run(
    trained_run: Path, cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A run with two mistakes, beside its images and an empty cache."""
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    shutil.copytree(cats_and_dogs, tmp_path / "data")
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    for file in (run / "config.json", run / "model.tar.gz"):
        if file.suffix == ".json":
            file.write_text(file.read_text().replace(str(cats_and_dogs), str(tmp_path / "data")))
        else:
            file.unlink()
    file = run / FOLDER / "validation.npz"
    found = Predictions.load(file)
    found.names = [name.replace(str(cats_and_dogs), str(tmp_path / "data")) for name in found.names]
    found.targets = found.given.copy()
    found.targets[:COUNT] = 1 - found.targets[:COUNT]
    found.save(file)
    return run


def findings_of(run: Path) -> Findings:
    return run_findings(read_run(run))


def vectors(run: Path, names: list) -> np.ndarray:
    classifier = ArchiveClassifier(run, "cpu")
    return classifier.vectors(np.stack([classifier.preprocess(name) for name in names]))


def test_the_most_similar_training_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = findings_of(run)
    compared = add_similar_images(findings, run, 3, "cpu")
    assert findings.compared is compared
    assert (compared.count, compared.errors, compared.problem) == (24, {}, "")
    (split,) = findings.splits
    assert len(split.mistakes.images) == COUNT
    train = sorted(map(str, (run.parent / "data" / "train").glob("*/*.jpg")))
    expected = cosine_similarity(
        vectors(run, [each.name for each in split.mistakes.images]), vectors(run, train)
    )
    for mistake, cosines in zip(split.mistakes.images, expected):
        similarities = [each.similarity for each in mistake.similar]
        np.testing.assert_allclose(similarities, np.sort(cosines)[:-4:-1], atol=1e-3)
        for each in mistake.similar:
            assert cosines[train.index(each.name)] == pytest.approx(each.similarity, abs=1e-3)
            assert each.labels == [Path(each.name).parent.name]
            assert each.picture is not None
            assert max(each.picture.size) <= 200
    assert not any(each.similar for each in split.close_hits.images)
    with monkeypatch.context() as patched:
        patched.delattr(ArchiveClassifier, "preprocess")  # all vectors are kept
        again = findings_of(run)
        add_similar_images(again, run, 3, "cpu")
    assert [each.similar[0][:3] for each in again.splits[0].mistakes.images] == [
        each.similar[0][:3] for each in split.mistakes.images
    ]


def test_the_page_shows_them(run: Path) -> None:
    (run.parent / "data" / "train" / "Cat" / "000.jpg").write_text("none")
    findings = findings_of(run)
    before = as_html(findings)
    assert "similar" not in Page(before).text
    add_similar_images(findings, run, 4, "cpu")
    html = as_html(findings)
    page = Page(html)
    assert not page.open
    assert html.count("<img") == before.count("<img") + 4 * COUNT
    assert "Below each picture are the most similar of 23 training images" in page.text
    assert "Images that could not be compared (1)" in page.text
    similar = findings.splits[0].mistakes.images[0].similar[0]
    assert f"{similar.labels[0]} {similar.similarity:.3f}" in page.text
    findings.splits[0].mistakes.images[0].similar[0] = similar._replace(picture=None, labels=[])
    assert "no longer readable" in Page(as_html(findings)).text


@pytest.mark.parametrize("is_there", [False, True])
def test_missing_training_images(run: Path, is_there: bool) -> None:
    train = run.parent / "data" / "train"
    if is_there:
        for image in train.glob("*/*.jpg"):
            image.write_text("none")
        expected = r"000.jpg: not an image"
    else:
        shutil.rmtree(train)
        expected = f"{train}"
    findings = findings_of(run)
    compared = add_similar_images(findings, run, 3, "cpu")
    assert expected in compared.problem
    assert compared.count == 0
    text = Page(as_html(findings)).text
    assert "There are no similar training images below the pictures: " in text
    assert "Below each picture" not in text


def test_mistakes_that_are_not_in_the_data(run: Path) -> None:
    findings = findings_of(run)
    names = [each.name for each in findings.splits[0].mistakes.images]
    Path(names[0]).unlink()
    compared = add_similar_images(findings, run, 3, "cpu")
    assert compared.errors == {names[0]: f"{names[0]}: not in validation_data_path"}
    assert [len(each.similar) for each in findings.splits[0].mistakes.images] == [0, 3]
    other = json.dumps({"validation_data_path": str(run.parent / "data" / "test")})
    compared = add_similar_images(findings_of(run), run, 3, "cpu", other)
    assert compared.problem.endswith("not in validation_data_path")


def test_images_with_several_labels_in_two_splits(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    write_tables(cats_and_dogs, tmp_path)
    run = tmp_path / "run"
    train_model(Params(multilabel_experiment(tmp_path)), str(run))
    file = run / FOLDER / "validation.npz"
    found = Predictions.load(file)
    found.targets = ~found.given
    picture = next(iter(found.pictures.values()))
    found.pictures = dict.fromkeys(confident_mistakes(found)[:5], picture)
    for split in ("validation", "test"):
        found.save(file.with_name(f"{split}.npz"))
    findings = findings_of(run)
    compared = add_similar_images(findings, run, 2, "cpu")
    test, validation = findings.splits
    rows = (tmp_path / "train.csv").read_text().splitlines()[1:]
    labels = {
        path: set(filter(None, text.split("|"))) for path, text in (r.split(",") for r in rows)
    }
    assert len(validation.mistakes.pictured) == 5
    for mistake in validation.mistakes.pictured:
        assert len(mistake.similar) == 2
        assert all(set(each.labels) == labels[each.name] for each in mistake.similar)
    # The config has no test data.
    assert not any(each.similar for each in test.mistakes.pictured)
    assert {reason.partition(": ")[2] for reason in compared.errors.values()} == {
        "not in test_data_path"
    }


def test_without_pictures_the_model_is_not_opened(run: Path) -> None:
    (run / "best.th").unlink()
    file = run / FOLDER / "validation.npz"
    found = Predictions.load(file)
    found.pictures = {}
    found.save(file)
    compared = add_similar_images(findings_of(run), run, 3)
    assert compared.problem == "the run has no pictures of mistakes"


def test_the_command(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run.parent / "data" / "train" / "Cat" / "000.jpg").write_text("none")
    run_in_process("report", run, "--similar")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "similar images: of 23 training images"
    assert said[1].startswith("images that cannot be compared: 1 (")
    assert said[2] == f"report: {run}/report.html"
    assert (run / "report.html").read_text().count('<div class="similar">') == COUNT
    run_in_process("report", run, "--similar", "1", "--overrides", '{"train_data_path": "/gone"}')
    assert capsys.readouterr().out.startswith("no similar images: ")
    with pytest.raises(InputError, match=r"--similar is 0; expected at least 1"):
        run_in_process("report", run, "--similar", "0")
    (run / "best.th").unlink()
    with pytest.raises(InputError, match=r"best\.th|weights"):
        run_in_process("report", run, "--similar")
