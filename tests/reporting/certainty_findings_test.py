import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from PIL import Image

from allencv.certainty.calibration_record import CalibrationRecord, read_record, record_of
from allencv.certainty.fit_certainty import Wanted, fit_certainty
from allencv.certainty.held_out import held_out
from allencv.predictions.predictions_file import Predictions
from allencv.reporting.certainty_findings import certainty_findings, read_certainty_findings
from allencv.reporting.findings import Findings
from allencv.reporting.run_html import as_html
from allencv.reporting.split_findings import split_findings
from allencv.runtime.certainty import Certainty, UnknownRule
from allencv.runtime.certainty.files import write_certainty
from tests.certainty.draws import drawn_answers, drawn_label_sets
from tests.certainty.fit_certainty_test import outputs
from tests.runtime.certainty.certainties import rule

LABELS = ["<b>ant</b>", "bee", "cat"]


def recorded(folder: Path, **wanted: object) -> "tuple[Certainty, CalibrationRecord]":
    known = outputs(drawn_answers(800, labels=3, width=2.0))
    Image.new("RGB", (300, 200), "red").save(folder / "red.png")
    known = known._replace(names=[str(folder / "red.png")] * 800)
    options = Wanted(target_accuracy=0.9, **wanted).for_model(False)  # type: ignore[arg-type]
    rule = UnknownRule("max_probability", 0.0, 0.95)
    certainty = fit_certainty(known, options, None, rule, "pets", "float32", "abc", 3)
    found = held_out(known, options, None)
    other = np.linspace(0, 1, 50, dtype=np.float32)
    record = record_of(certainty, known, found, LABELS, None, other)
    write_certainty(folder, certainty)
    record.write(folder)
    return certainty, record


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    _, record = recorded(tmp_path)
    again = read_record(tmp_path)
    assert again is not None
    for name, value in vars(record).items():
        if name == "pictures":
            assert again.pictures == value
            assert len(value) == 12
        else:
            assert np.array_equal(getattr(again, name), value)
    assert list(again.pictures) == np.argsort(-record.scores, kind="stable")[:12].tolist()


def test_what_the_report_says(tmp_path: Path) -> None:
    certainty, record = recorded(tmp_path)
    found = read_certainty_findings(tmp_path)
    assert found is not None
    assert found.error_after < found.error_before
    assert sum(each.count for each in found.after) == 800
    assert found.coverage == pytest.approx(0.95, abs=0.02)
    assert sum(found.sizes.values()) == pytest.approx(1)
    assert sum(row.images for row in found.labels) == 800
    assert [row.coverage for row in found.labels] == sorted(row.coverage for row in found.labels)
    ant = next(row for row in found.labels if row.label == LABELS[0])
    own = record.targets[:, 0]
    assert ant.coverage is not None
    assert ant.coverage[0] == record.members[own, 0].mean()
    assert ant.coverage[1] < ant.coverage[0] < ant.coverage[2]
    assert ant.size == record.members[own].sum(axis=1).mean()
    answered = sum(row.images * row.answered for row in found.labels) / 800
    assert certainty.selection is not None
    assert answered == pytest.approx(certainty.selection.coverage)
    unknown = sum(row.images * row.unknown for row in found.labels) / 800
    assert unknown == pytest.approx(0.05, abs=0.005)
    # The last point answers all images that are not unknown.
    coverage, risk = found.risk[-1]
    assert coverage == pytest.approx(1 - unknown)
    kept = record.scores <= certainty.unknown.limit  # type: ignore[union-attr]
    assert risk == pytest.approx(1 - record.is_right[kept].mean())
    assert sum(share for _, share in found.known) == pytest.approx(1)
    assert found.other_unknown == (record.other_scores > certainty.unknown.limit).mean()  # type: ignore[union-attr]
    assert [each.score for each in found.most_unlike] == np.sort(record.scores)[::-1][:12].tolist()


def test_the_page(tmp_path: Path) -> None:
    certainty, record = recorded(tmp_path, by_class=True, levels=[0.9])
    page = as_html(findings_of(certainty, record), ["certainty"])
    text = re.sub(r"\s+", " ", page)
    assert "3 of these images also trained the model" in text
    assert "<b>ant</b>" not in text
    assert "&lt;b&gt;ant" in text
    shown = certainty_findings(certainty, record)
    intervals = len(shown.before) + len(shown.after)
    assert page.count('class="interval"') == 2 * intervals  # charts in two sizes
    assert page.count("<img") == 12
    assert page.count('class="marked"') == 4
    assert "90.0 % were asked for, for each label by itself" in text


def test_what_is_from_before_the_calibration_says_so(tmp_path: Path) -> None:
    findings = findings_of(*recorded(tmp_path))
    probs = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]], np.float32)
    predictions = Predictions(LABELS, ["a", "b"], probs, np.array([0, 1]))
    findings.splits = [split_findings("validation", predictions)]
    assert findings.certainty is not None
    after = f"{100 * findings.certainty.error_after:.1f} %"
    text = " ".join(as_html(findings).split())
    said = (
        "calibration error before calibration</span>",
        f"<span>{after} after it, on the calibration images</span>",
        "The probabilities on this page are those before calibration, except in",
        f"After it the error is {after} on the calibration images.",
        "<figcaption>Fraction correct before calibration</figcaption>",
        "<figcaption>Number of predictions before calibration</figcaption>",
    )
    assert [each for each in said if each not in text] == []
    findings.certainty = None
    text = " ".join(as_html(findings).split())
    assert "<figcaption>Fraction correct</figcaption>" in text
    assert "before calibration" not in text
    assert "<span>0 is best</span>" in text


def findings_of(certainty: Certainty, record: CalibrationRecord) -> Findings:
    return Findings(
        name="run",
        network="resnet18",
        started=None,
        is_finished=True,
        has_run_json=True,
        epochs=1,
        planned_epochs=1,
        best_epoch=1,
        train_images=10,
        train_labels=[],
        splits=[],
        curves=[],
        speed=None,
        facts={},
        config={},
        metrics={},
        certainty=certainty_findings(certainty, record),
    )


def test_several_labels_without_selection_or_scores(tmp_path: Path) -> None:
    known = outputs(drawn_label_sets(400))
    wanted, thresholds = Wanted().for_model(True), [0.5] * 6
    certainty = fit_certainty(known, wanted, thresholds, None, "posters", "float32", "abc", None)
    found = held_out(known, wanted, thresholds)
    names = [f"label {place}" for place in range(6)]
    record = record_of(certainty, known, found, names, thresholds, None)
    shown = certainty_findings(certainty, record)
    assert len(record.before) == 2400
    assert shown.coverage == pytest.approx(0.95, abs=0.03)
    assert {row.unknown for row in shown.labels} == {0.0}
    assert {row.answered for row in shown.labels} == {None}
    page = " ".join(as_html(findings_of(certainty, record), ["certainty"]).split())
    assert "It is not known whether these images trained the model" in page
    assert "of the labels of its image" in page
    assert "Unknown images" not in page
    assert "answered</th>" not in page


def test_without_sets(tmp_path: Path) -> None:
    certainty, record = recorded(tmp_path, sets=None)
    shown = certainty_findings(certainty, record)
    assert (shown.coverage, shown.sizes) == (None, {})
    assert "Sets of labels" not in as_html(findings_of(certainty, record), ["certainty"])


@pytest.mark.parametrize("kind", ["energy", "mahalanobis", "nearest"])
def test_scores_of_vectors(tmp_path: Path, kind: str) -> None:
    certainty, _ = recorded(tmp_path)
    write_certainty(tmp_path, replace(certainty, unknown=rule(kind)))
    found = read_certainty_findings(tmp_path)
    assert found is not None
    assert found.certainty.unknown is not None
    assert found.certainty.unknown.kind == kind


def test_a_record_of_another_calibration_is_left_out(tmp_path: Path) -> None:
    recorded(tmp_path)
    content = json.loads((tmp_path / "certainty.json").read_text())
    (tmp_path / "certainty.json").write_text(json.dumps({**content, "model": "other"}))
    assert read_certainty_findings(tmp_path) is None
    (tmp_path / "certainty.json").unlink()
    assert read_certainty_findings(tmp_path) is None


def test_damaged_files(tmp_path: Path) -> None:
    assert read_certainty_findings(tmp_path) is None
    recorded(tmp_path)
    (tmp_path / "certainty.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"certainty.json.*calibrate the run again"):
        read_certainty_findings(tmp_path)
    (tmp_path / "predictions" / "calibration.npz").write_bytes(b"PK none")
    assert read_certainty_findings(tmp_path) is None
