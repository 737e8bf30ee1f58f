import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from PIL import Image

from allencv.classify.arguments import SUFFIXES, add_arguments
from allencv.classify.command import run
from allencv.classify.joining import join
from allencv.classify.output_files import WRITERS
from allencv.runtime.certainty import LabelSets, Scaling, Selection, UnknownRule
from allencv.runtime.errors import InputError
from allencv.runtime.onnx_classifier import OnnxClassifier
from tests.conftest import full_disk, write_images
from tests.runtime.certainty.certainties import certainty
from tests.runtime.terminal_test import Terminal
from tests.runtime.tiny_bundle import LABELS, sigmoid_of, softmax_of, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "colours")


@pytest.fixture(scope="module")
def multi_label_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "colours"
    return write_bundle(folder, ["r|d", "green", "blue"], [0.9, 0.9, 0.9])


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory has `photos/a/000.jpg` and so on, of which `photos/b` is empty."""
    write_images(tmp_path / "photos", {"a": 2, "c": 2, "d": 2})
    (tmp_path / "photos" / "b.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def classify(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args([str(argument) for argument in arguments]))


def lines_of(path: str) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


IN_ORDER = [
    "photos/b.jpg",
    *(f"photos/{folder}/{number:03d}.jpg" for folder in "acd" for number in range(2)),
]


def test_a_folder_becomes_a_file(bundle: Path, photos: Path, capsys: pytest.CaptureFixture) -> None:
    (photos / "no\x1b[2Jtes.txt").write_text("of the day")
    classify(bundle, "photos", "photos/a/000.jpg", "-o", "new/folder/out.jsonl", "--top-k", 9)
    records = lines_of("new/folder/out.jsonl")
    assert [record["path"] for record in records] == IN_ORDER
    assert records[0].keys() == {"path", "error"}
    for record in records[1:]:
        expected = softmax_of(Path(record["path"]))
        assert record.keys() == {"path", "label", "top_k"}
        assert record["label"] == LABELS[int(expected.argmax())]
        top_k = {entry["label"]: entry["probability"] for entry in record["top_k"]}
        assert [top_k[label] for label in LABELS] == pytest.approx(expected)
    assert os.listdir("new/folder") == ["out.jsonl"]
    assert capsys.readouterr().out.splitlines() == [
        r"skipped files that are not images: 1 (photos/no\x1b[2Jtes.txt ...)",
        "images named several times, classified once: 1",
        "new/folder/out.jsonl: 7 images, 1 error",
    ]


def test_a_terminal_gets_text(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (photos / "notes.txt").write_text("of the day")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    classify(bundle, "photos/a/000.jpg")
    probabilities = softmax_of(Path("photos/a/000.jpg"))
    best = LABELS[int(probabilities.argmax())]
    title, *lines = shown.getvalue().splitlines()
    assert title == f"photos/a/000.jpg: {best}"
    assert [line.split()[0] for line in lines] == [LABELS[i] for i in np.argsort(-probabilities)]
    percentages = [f"{share:.1%}" for share in sorted(probabilities, reverse=True)]
    assert [line.split()[-1] for line in lines] == percentages
    shown.truncate(0)
    classify(bundle, "photos")
    first, *lines = shown.getvalue().strip("\0").splitlines()
    assert first == "photos/b.jpg      error: the file is empty (0 bytes)"
    assert [line.split()[0] for line in lines] == IN_ORDER[1:]
    assert lines[0].split()[1] == best
    assert (
        capsys.readouterr().err == "skipped files that are not images: 1 (photos/notes.txt ...)\n"
    )


@pytest.mark.parametrize("arguments", [(), ("-o", "-"), ("--format", "csv")])
def test_elsewhere_the_table_is_printed(
    bundle: Path, photos: Path, arguments: Tuple[str, ...], capsys: pytest.CaptureFixture
) -> None:
    classify(bundle, "photos", "photos/a", "-o", "out.csv")
    capsys.readouterr()
    classify(bundle, "photos", "photos/a", *arguments)
    said = capsys.readouterr()
    assert said.out == Path("out.csv").read_text()
    assert said.err.splitlines() == [
        "images named several times, classified once: 2",
        "7 images, 1 error",
    ]


def test_json_lines_are_printed_for_paths_of_standard_input(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    os.rename("photos/a", b"photos/caf\xe9")
    lines = b"photos/caf\xe9/000.jpg\n\nphotos/b.jpg\r\nphotos/d/001.jpg"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    with pytest.raises(SystemExit, match="^allencv: 3 images, 1 error$"):
        classify(bundle, "-", "--format", "jsonl", "--probabilities", "--fail-on-error")
    said = capsys.readouterr().out.splitlines()
    Path("list.txt").write_text("photos/b.jpg\nphotos/d/001.jpg\n")
    classify(bundle, "list.txt", "-o", "out.jsonl", "--probabilities")
    first, *others = map(json.loads, said)
    assert first["path"] == "photos/caf\udce9/000.jpg"
    assert set(first) == {"path", "label", "top_k", "probabilities"}
    assert others == lines_of("out.jsonl")


def test_a_failure_is_said_once(bundle: Path, photos: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="^allencv: out.csv: 7 images, 1 error$"):
        classify(bundle, "photos", "-o", "out.csv", "--fail-on-error")
    assert capsys.readouterr().out == ""


def test_an_output_can_be_read_again(bundle: Path, photos: Path) -> None:
    classify(bundle, "photos", "-o", "out.csv")
    assert len(Path("out.csv").read_text().splitlines()) == 8
    classify(bundle, "out.csv", "-o", "again.parquet")
    classify(bundle, "again.parquet", "-o", "again.csv")
    assert Path("again.csv").read_text() == Path("out.csv").read_text()


def test_the_engine_that_was_chosen_is_told(
    bundle: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    classify(bundle, "photos", "-o", "out.jsonl", "--engine", "auto")
    assert "The engine is " in caplog.text
    assert len(lines_of("out.jsonl")) == 7


def test_it_fails_for_a_bad_image_where_asked(bundle: Path, photos: Path) -> None:
    with pytest.raises(SystemExit, match=r"allencv: out.csv: 7 images, 1 error"):
        classify(bundle, "photos", "-o", "out.csv", "--fail-on-error")
    assert len(Path("out.csv").read_text().splitlines()) == 8
    assert not Path("out.csv.part").exists()
    classify(bundle, "photos/a", "-o", "out.csv", "--fail-on-error")


@pytest.mark.parametrize("given", ["none", "one", "some"])
def test_thresholds(multi_label_bundle: Path, photos: Path, given: str) -> None:
    Path("thresholds.json").write_text('{"blue": 0.999, "green": 0.5}')
    options, thresholds = {
        "none": ([], [0.9, 0.9, 0.9]),
        "one": (["--threshold", "0.95"], [0.95, 0.95, 0.95]),
        "some": (["--thresholds", "thresholds.json"], [0.9, 0.5, 0.999]),
    }[given]
    classify(multi_label_bundle, "photos", "-o", "out.jsonl", *options)
    for record in lines_of("out.jsonl")[1:]:
        assert record.keys() == {"path", "labels", "top_k"}
        probabilities = sigmoid_of(Path(record["path"]))
        order = np.argsort(-probabilities)
        labels = ["r|d", "green", "blue"]
        above = [labels[i] for i in order if probabilities[i] > thresholds[i]]
        assert record["labels"] == above


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-o", "out.csv"], r"'nowhere' gives no image"),
        (["photos/a", "-o", "out.txt"], r"--output is 'out.txt'; expected a file whose name ends"),
        (["photos/a", "-o", "folder.csv"], r"--output is 'folder.csv'; expected a file"),
        (["list.csv", "-o", "./list.csv"], r"--output is './list.csv', also an input"),
        (["photos/a", "-o", "out.csv", "--top-k", "0"], r"--top-k is 0; expected at least 1"),
        (["photos/a", "-o", "out.csv", "--workers", "0"], r"--workers is 0; expected at least 1"),
        (
            ["photos/a", "-o", "out.csv", "--workers", "9999"],
            r"--workers is 9999; expected at most",
        ),
        (["photos/a", "-o", "out.csv", "--batch-size", "-1"], r"--batch-size is -1; expected"),
        (["photos/a", "-o", "out.csv", "--threshold", "0.5"], r"gives each image one label"),
        (["photos/a", "-o", "out.csv", "--device", "cpu"], r"is a bundle; --device and"),
        (
            ["photos/a", "-o", "out.csv", "--format", "csv"],
            r"--format is csv, but --output 'out.csv'",
        ),
        (["photos/a", "-o", "out.csv", "--shard", "3/2"], r"^--shard is '3/2'; expected K/N"),
        (["photos/a", "--shard", "1/2"], r"^--shard 1/2 needs a file to write; expected --output"),
        (
            ["photos/a", "-o", "photos/b.jpg/out.csv"],
            r"cannot be written: 'photos/b.jpg' is not a fold",
        ),
    ],
)
def test_bad_arguments(bundle: Path, photos: Path, arguments: List[str], message: str) -> None:
    Path("folder.csv").mkdir()
    Path("list.csv").write_text("path\nphotos/a/000.jpg\n")
    with pytest.raises(InputError, match=message):
        classify(bundle, *arguments)
    assert not list(Path().glob("out*"))


def test_a_label_with_the_delimiter_of_csv_is_refused(
    multi_label_bundle: Path, photos: Path
) -> None:
    with pytest.raises(InputError, match=r"the model has the label 'r|d', but '|' separates"):
        classify(multi_label_bundle, "photos", "-o", "out.csv")


def test_parquet_without_pyarrow_is_refused_before_the_work(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"'out.parquet': Parquet needs pyarrow"):
        classify(bundle, "photos", "-o", "out.parquet")


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_interrupted_run_goes_on(
    bundle: Path,
    tmp_path: Path,
    number: signal.Signals,
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its images are so large that it is still at work when it is stopped, or killed."""
    names = [f"{index:02d}.jpg" for index in range(20)]
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(pixels).save(images / names[0])
    for name in names[1:]:
        (images / name).symlink_to(names[0])
    output, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    arguments = [str(bundle), str(images), "-o", str(output), "--batch-size", "1", "--workers", "1"]
    command = [sys.executable, "-m", "allencv", "classify", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not part.exists() or part.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    said = f"\nallencv: the same command resumes from {part}\nallencv: stopped by {number.name}\n"
    assert errors == ("" if number == signal.SIGKILL else said)
    assert not output.exists()
    lines = [line for line in part.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert 4 <= len(lines) < 21
    # What is done is not done again: it stays as it is, even if it is wrong.
    part.write_text("".join(lines).replace('"label": "', '"label": "first '))
    classify(*arguments)
    assert capsys.readouterr().out == f"{output}: 20 images, no errors\n"
    records = lines_of(str(output))
    assert [record["path"] for record in records] == [str(images / name) for name in names]
    done = [record["label"].startswith("first ") for record in records]
    assert done == [True] * (len(lines) - 1) + [False] * (21 - len(lines))
    assert not part.exists()


def test_another_model_or_other_options_are_refused(
    bundle: Path, multi_label_bundle: Path, photos: Path
) -> None:
    """A run is interrupted where it writes its output."""
    with full_disk(), pytest.raises(InputError, match=r"'out.jsonl' cannot be written: No space"):
        classify(bundle, "photos", "-o", "out.jsonl")
    for arguments, reason in (
        ((bundle, "photos", "--top-k", 1), "has --top-k 3, not 1"),
        ((bundle, "photos", "--probabilities"), "has --probabilities False, not True"),
        ((multi_label_bundle, "photos"), "has another model and has thresholds None, not "),
    ):
        with pytest.raises(InputError, match=reason):
            classify(*arguments, "-o", "out.jsonl")
    # Images may come and go; a bad one is tried again.
    write_images(photos.parent, {"photos": 1})
    os.replace("photos/000.jpg", "photos/b.jpg")
    classify(bundle, "photos/b.jpg", "photos/d", "-o", "out.jsonl", "--fail-on-error")
    assert [record["path"] for record in lines_of("out.jsonl")] == IN_ORDER[:1] + IN_ORDER[5:]


def test_a_shard_goes_on(bundle: Path, photos: Path) -> None:
    """Only in batches of the same size, as these make the part."""
    for batch_size in (2, 3):
        shard = ("--shard", "2/2", "--batch-size", batch_size)
        with full_disk(), pytest.raises(InputError, match="No space" if batch_size == 2 else "not"):
            classify(bundle, "photos", "-o", "out.jsonl", *shard)
    part = Path("out.jsonl.part")
    part.write_text(part.read_text().replace('"label": "', '"label": "first '))
    classify(bundle, "photos", "-o", "out.jsonl", "--shard", "2/2", "--batch-size", 2)
    records = lines_of("out.jsonl")
    assert [record["path"] for record in records] == IN_ORDER[4:]
    assert all(record["label"].startswith("first ") for record in records)


def test_the_endings_of_outputs_are_those_that_are_written() -> None:
    assert tuple(WRITERS) == SUFFIXES


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    It gives images with a highest probability of at most 0.6 for unknown, and answers from 0.7 on.
    """
    found = certainty(
        sets=LabelSets("lac", [0.95], [[0.8]]),
        selection=Selection(0.99, 0.95, 0.7, 0.9, 0.995),
        unknown=UnknownRule("max_probability", 0.4, 0.95),
    )
    folder = tmp_path_factory.mktemp("bundles") / "calibrated"
    return write_bundle(folder, certainty=found)


COLOURS = {"unknown": (128, 128, 128), "unsure": (210, 185, 60), "two": (210, 170, 60)}


@pytest.fixture
def mixed(photos: Path) -> Path:
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 20), colour).save(photos / f"{name}.png")
    return photos


@pytest.mark.usefixtures("mixed")
def test_a_calibrated_model(calibrated: Path) -> None:
    classify(calibrated, "photos", "-o", "out.jsonl", "--probabilities")
    records = [record for record in lines_of("out.jsonl") if "error" not in record]
    found = {(r["is_unknown"], r["is_answered"], len(r["labels"])) for r in records}
    assert found == {(True, False, 3), (False, False, 2), (False, True, 2), (False, True, 1)}
    for record in records:
        probabilities = softmax_of(Path(record["path"]))
        order = np.argsort(-probabilities)
        assert record["label"] == LABELS[order[0]]
        assert record["labels"] == [
            LABELS[i] for place, i in enumerate(order) if place == 0 or probabilities[i] >= 0.2
        ]
        assert record["is_unknown"] == (probabilities.max() < 0.6)
        assert record["is_answered"] == (probabilities.max() >= 0.7)
    classify(calibrated, "photos", "-o", "out.csv")
    header, empty, first, *_ = Path("out.csv").read_text().splitlines()
    assert header.startswith("path,label,probability,labels,is_unknown,is_answered,label_2,")
    assert empty.startswith("photos/b.jpg,,,,,,")
    row = dict(zip(header.split(","), first.split(",")))
    assert row["labels"] == "|".join(records[0]["labels"])
    assert row["is_answered"] == json.dumps(records[0]["is_answered"])


def test_parts_of_a_calibrated_model_are_joined(calibrated: Path, photos: Path) -> None:
    for suffix in SUFFIXES:
        classify(calibrated, "photos", "-o", f"whole{suffix}", "--batch-size", 2)
        parts = []
        for shard in ("1/2", "2/2"):
            parts.append(f"part-{shard[0]}{suffix}")
            classify(*(calibrated, "photos", "-o", parts[-1], "--shard", shard, "--batch-size", 2))
        join(parts, f"joined{suffix}")
        assert Path(f"joined{suffix}").read_bytes() == Path(f"whole{suffix}").read_bytes()


def test_a_label_with_the_delimiter_cannot_be_in_a_set(
    calibrated: Path, photos: Path, tmp_path: Path
) -> None:
    labels = ["r|d", "green", "blue"]
    sets = certainty(sets=LabelSets("lac", [0.95], [[0.8]]))
    bundle = write_bundle(tmp_path / "delimiter", labels, certainty=sets)
    with pytest.raises(InputError, match=r"the model has the label 'r\|d', but '\|' separates"):
        classify(bundle, "photos", "-o", "out.csv")
    classify(bundle, "photos", "-o", "out.jsonl")
    plain = write_bundle(tmp_path / "plain", labels, certainty=certainty())
    classify(plain, "photos", "-o", "out.csv")


def test_a_run_is_not_resumed_with_another_calibration(
    bundle: Path, calibrated: Path, photos: Path
) -> None:
    header = {"model": OnnxClassifier(bundle).checksum, "--engine": "onnxruntime", "--top-k": 3}
    header |= {"--probabilities": False, "thresholds": None}
    Path("out.csv.part").write_text(f"{json.dumps(header)}\n")
    with pytest.raises(InputError, match="is of a run that has another model"):
        classify(calibrated, "photos", "-o", "out.csv")
    # A file from before there were calibrations is resumed.
    classify(bundle, "photos", "-o", "out.csv")
    assert not Path("out.csv.part").exists()


def test_thresholds_are_for_calibrated_probabilities(photos: Path, tmp_path: Path) -> None:
    found = certainty(
        scaling=Scaling([0.5] * 3, [0.0] * 3), sets=LabelSets("missed", [0.9], [[0.45]])
    )
    bundle = write_bundle(tmp_path / "several", thresholds=[0.9] * 3, certainty=found)
    for options, threshold in (([], 0.75), (["--threshold", 0.7], 0.7)):  # sigmoid(logit(0.9) / 2)
        classify(bundle, "photos", "-o", "out.jsonl", "--probabilities", *options)
        for record in lines_of("out.jsonl")[1:]:
            odds = sigmoid_of(Path(record["path"])) / (1 - sigmoid_of(Path(record["path"])))
            calibrated = np.sqrt(odds) / (1 + np.sqrt(odds))
            given = [record["probabilities"][label] for label in LABELS]
            assert given == pytest.approx(calibrated, rel=1e-4)
            order = np.argsort(-calibrated)
            assert record["labels"] == [LABELS[i] for i in order if calibrated[i] > threshold]
            possible = [LABELS[i] for n, i in enumerate(order) if n == 0 or calibrated[i] >= 0.55]
            assert record["possible_labels"] == possible
        Path("out.jsonl").unlink()


@pytest.mark.usefixtures("mixed")
def test_a_calibrated_answer_as_text(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    classify(calibrated, *(f"photos/{name}.png" for name in COLOURS))
    unknown, unsure, two = terminal.getvalue().splitlines()
    assert unknown.endswith("33.3%  unknown")
    assert unsure.endswith("  red or green  not answered: hand to a person")
    assert two.endswith("  red or green")
    classify(calibrated, "photos/two.png")
    assert terminal.getvalue().splitlines()[3] == "photos/two.png: red or green (95%)"
