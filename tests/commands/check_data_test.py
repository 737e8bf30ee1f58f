import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, Dict, List

import pytest
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.features import embedding
from allencv.runtime.errors import InputError
from tests.conftest import ROOT, Run, full_disk, run_in_process, write_images
from tests.data.problems_test import pattern
from tests.features.colour_encoder import ColourEncoder

PAGE = (ROOT / "docs" / "check_data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def check(tmp_path: Path, *arguments: object) -> int:
    """The exit status of the command."""
    args = ["check-data", str(tmp_path / "pets.jsonnet"), *map(str, arguments)]
    try:
        run_in_process(*args)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """The data and the config of docs/check_data.md, without the mistakes."""
    for seed, split in enumerate(("train", "val")):
        counts = {"cat": 4 - 2 * seed, "dog": 4 - 2 * seed}
        write_images(tmp_path / "pets" / split, counts, seed=seed)
    (config,) = re.findall(r"^```jsonnet\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "pets.jsonnet").write_text(config.replace("pets/", f"{tmp_path}/pets/"))
    return tmp_path


def copy(folder: Path, source: str, target: str) -> None:
    (folder / target).parent.mkdir(exist_ok=True)
    shutil.copy(folder / source, folder / target)


def cut(folder: Path, path: str) -> None:
    file = folder / path
    file.write_bytes(file.read_bytes()[:-500])


def test_nothing_is_wrong(pets: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(pets) == 0
    text = capsys.readouterr().out
    assert "No problems found in these images and labels." in text
    assert "12 images checked in" in text
    assert sorted(path.name for path in pets.iterdir()) == ["pets", "pets.jsonnet"]


def test_the_page_of_the_docs(pets: Path, run: Run) -> None:
    """The real command: its text is the one that is printed there."""
    copy(pets, "pets/train/cat/000.jpg", "pets/val/cat/copy.jpg")
    cut(pets, "pets/train/dog/003.jpg")
    config = (pets / "pets.jsonnet").read_text().replace(f"{pets}/", "")
    (pets / "pets.jsonnet").write_text(config)
    command, _ = COMMANDS
    (text,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    result = run(*shlex.split(command), cwd=pets, fails=True)
    assert result.returncode == 1
    assert text in re.sub(r"truncated \(.*?\)", "truncated", result.stdout)
    assert re.search("13 images checked in [0-9.]+ s: 2 errors, 0 warnings", result.stdout)
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in (pets / "pets_report").iterdir()) == [
        "data.html",
        "data.json",
    ]


def test_everything_is_in_the_json(pets: Path) -> None:
    copy(pets, "pets/train/cat/000.jpg", "pets/val/dog/copy.jpg")
    assert check(pets, "--json", pets / "new" / "found.json") == 1
    content: Dict[str, Any] = json.loads((pets / "new" / "found.json").read_text())
    assert content["ok"] is False
    assert content["splits"] == {
        "train": {"path": f"{pets}/pets/train", "images": 8, "labels": {"cat": 4, "dog": 4}},
        "validation": {"path": f"{pets}/pets/val", "images": 5, "labels": {"cat": 2, "dog": 3}},
    }
    images = [
        {"split": "train", "image": f"{pets}/pets/train/cat/000.jpg", "labels": ["cat"]},
        {"split": "validation", "image": f"{pets}/pets/val/dog/copy.jpg", "labels": ["dog"]},
    ]
    leakage, contradiction = content["problems"]
    assert (leakage["kind"], contradiction["kind"]) == ("leakage", "contradiction")
    assert leakage["images"] == contradiction["images"] == images
    assert leakage["is_fatal"] is True
    assert leakage["title"] == "exact copies in several splits"


def test_a_warning_is_no_failure(pets: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(5):
        copy(pets, "pets/train/cat/000.jpg", f"pets/train/cat/copy{number}.jpg")
    assert check(pets, "--json", pets / "found.json") == 0
    content = json.loads((pets / "found.json").read_text())
    assert content["ok"] is True
    assert [problem["kind"] for problem in content["problems"]] == ["duplicate"]
    assert "copy1.jpg [cat] (and 3 more)" in capsys.readouterr().out


FATAL = {
    "unreadable": lambda pets: (pets / "pets/train/cat/000.jpg").write_bytes(b"no image"),
    "empty_file": lambda pets: (pets / "pets/val/cat/000.jpg").write_bytes(b""),
    "truncated": lambda pets: cut(pets, "pets/train/cat/000.jpg"),
    "unknown_label": lambda pets: write_images(pets / "pets" / "val", {"eel": 1}, seed=7),
    "leakage": lambda pets: copy(pets, "pets/train/cat/000.jpg", "pets/val/cat/2.jpg"),
    "contradiction": lambda pets: copy(pets, "pets/train/cat/000.jpg", "pets/train/dog/7.jpg"),
}


@pytest.mark.parametrize("kind", FATAL)
def test_the_exit_status(pets: Path, kind: str) -> None:
    FATAL[kind](pets)
    assert check(pets, "--json", pets / "found.json") == 1
    problems = json.loads((pets / "found.json").read_text())["problems"]
    assert [problem["kind"] for problem in problems] == [kind]


def test_the_exit_status_of_one_class(pets: Path) -> None:
    shutil.rmtree(pets / "pets" / "train" / "dog")
    shutil.rmtree(pets / "pets" / "val" / "dog")
    assert check(pets, "--json", pets / "found.json") == 1
    problems = json.loads((pets / "found.json").read_text())["problems"]
    assert [problem["kind"] for problem in problems] == ["one_class"]


def test_the_page_shows_each_image_in_question(pets: Path) -> None:
    planted: List[str] = ["pets/val/cat/copy & <b>.jpg", "pets/train/dog/again.jpg"]
    copy(pets, "pets/train/cat/000.jpg", planted[0])
    copy(pets, "pets/train/dog/000.jpg", planted[1])
    cut(pets, "pets/train/dog/003.jpg")
    assert check(pets, "--html", pets / "data.html") == 1
    page = (pets / "data.html").read_text()
    shown = ["cat/copy &amp; &lt;b&gt;.jpg", "dog/again.jpg", "dog/003.jpg"]
    assert all(name in page for name in [*shown, "cat/000.jpg", "dog/000.jpg"])
    assert "cat/001.jpg" not in page
    assert page.count('<img src="data:image/jpeg;base64,') == 4
    # A frame with the reason takes the place of the picture, and the reason is not said twice.
    assert page.count('<div class="none">image file is truncated') == 1
    assert page.count("image file is truncated") == 1
    assert '<meta name="viewport" content="width=device-width' in page
    assert (
        "<p>2 errors, 1 warning. Training on this data would fail or its scores would mislead.</p>"
        in page
    )
    assert not re.findall(r"<script|https?://|<link", page)
    assert len(page) < 40_000


def test_a_page_of_many_stays_small(pets: Path) -> None:
    for number in range(30):
        (pets / "pets" / "train" / "cat" / f"bad{number:02d}.jpg").write_bytes(b"no image")
        copy(pets, "pets/train/dog/000.jpg", f"pets/train/dog/copy{number:02d}.jpg")
    assert check(pets, "-o", pets / "report") == 1
    page = (pets / "report" / "data.html").read_text()
    assert "and 10 more, in the JSON file" in page
    assert "and 23 more" in page
    assert '<td>dog</td><td class="number">34 <meter max="34" value="34"></meter></td>' in page
    content = (pets / "report" / "data.json").read_text()
    assert all(f"bad{number:02d}.jpg" in content for number in range(30))


def test_many_classes_are_shown_in_part(pets: Path, capsys: pytest.CaptureFixture) -> None:
    counts = {f"class {number:02d}": 60 - number for number in range(52)}
    for label in counts:
        copy(pets, "pets/train/cat/000.jpg", f"pets/train/{label}/1.jpg")
    assert check(pets, "--html", pets / "data.html") == 1
    lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert lines[0].split() == ["class", "train", "validation"]
    assert lines[1].split() == ["cat", "4", "2"]
    assert [lines[11], len(lines)] == ["(34 more)", 22]
    assert lines[-1].split() == ["class", "51", "1", "0"]
    page = (pets / "data.html").read_text()
    assert "<td>(4 more, in the JSON file)</td>" in page
    assert "<td>class 20</td>" in page
    assert "<td>class 24</td>" not in page


def test_a_name_in_no_known_encoding(pets: Path, run: Run) -> None:
    """It is in the report, and does not end the command."""
    name = os.fsdecode(b"caf\xe9.jpg")
    (pets / "pets" / "train" / "cat" / name).write_bytes(b"no image")
    result = run("allencv", "check-data", "pets.jsonnet", "-o", "report", cwd=pets, fails=True)
    assert "caf?.jpg [cat]: not an image" in result.stdout
    assert "caf?.jpg" in (pets / "report" / "data.html").read_text()
    (problem,) = json.loads((pets / "report" / "data.json").read_text())["problems"]
    assert problem["images"][0]["image"].endswith(name)


def test_overrides(pets: Path, capsys: pytest.CaptureFixture) -> None:
    overrides = {"test_data_path": str(pets / "pets" / "val")}
    assert check(pets, "--overrides", json.dumps(overrides)) == 1
    assert "exact copies in several splits" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_full_disk_leaves_the_report_that_was_there(pets: Path, option: str) -> None:
    (pets / "report").write_text("the good report")
    with full_disk(), pytest.raises(OSError, match=r"No space left on device: .*report"):
        check(pets, option, pets / "report")
    assert (pets / "report").read_text() == "the good report"


def test_where_the_report_cannot_be(pets: Path) -> None:
    with pytest.raises(InputError, match=r"pets' is a folder; expected the name of a file"):
        check(pets, "--json", pets / "pets")
    with pytest.raises(InputError, match="cannot be written: "):
        check(pets, "-o", pets / "pets.jsonnet" / "report")


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The backbone is one without weights."""
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    monkeypatch.setattr(embedding, "open_encoder", lambda *arguments: ColourEncoder())


def write_patterns(pets: Path) -> None:
    """Replace the images by such of which no two are alike."""
    for number, path in enumerate(sorted((pets / "pets").glob("*/*/*.jpg"))):
        pattern(number).save(path, quality=95)


@pytest.mark.usefixtures("colours")
def test_features_show_what_pixels_do_not(pets: Path, capsys: pytest.CaptureFixture) -> None:
    write_patterns(pets)
    image = Image.open(pets / "pets/train/cat/000.jpg")
    image.crop((3, 3, 61, 61)).save(pets / "pets/val/dog/crop & <b>.jpg")
    assert check(pets, "-o", pets / "plain") == 0
    assert json.loads((pets / "plain" / "data.json").read_text())["problems"] == []
    assert check(pets, "-o", pets / "report", "--features", "colours") == 0
    content = json.loads((pets / "report" / "data.json").read_text())
    assert content["ok"] is True
    assert (content["features"]["model"], content["features"]["images"]) == ("colours", 13)
    found = {problem["kind"]: problem for problem in content["problems"]}
    assert {"feature_leakage", "feature_contradiction"} <= set(found)
    assert [image["image"] for image in found["feature_leakage"]["images"]] == [
        f"{pets}/pets/train/cat/000.jpg",
        f"{pets}/pets/val/dog/crop & <b>.jpg",
    ]
    text = capsys.readouterr().out
    assert "warning       1  near copies in several splits, by features" in text
    assert all(note in " ".join(text.split()) for note in content["features"]["notes"])
    page = (pets / "report" / "data.html").read_text()
    assert '<h2 id="map">Map of the images <small>13</small></h2>' in page
    assert page.count('class="cell of-') > 5
    assert (
        sum(len(re.findall("h0", path)) for path in re.findall('<path .*? d="(.*?)"', page)) == 13
    )
    assert "crop &amp; &lt;b&gt;.jpg" in page
    assert not re.findall(r"<script|https?://|<link", page)
    assert "Map of the images" not in (pets / "plain" / "data.html").read_text()


@pytest.mark.usefixtures("colours")
def test_the_features_of_the_docs(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_patterns(pets)
    monkeypatch.chdir(pets)
    _, command, *arguments = shlex.split(COMMANDS[1])
    run_in_process(command, *arguments)
    assert "Map of the images" in (pets / "pets_report" / "data.html").read_text()


@pytest.mark.usefixtures("colours")
def test_features_of_several_labels_and_of_no_image(pets: Path) -> None:
    for split in ("train", "val"):
        files = sorted((pets / "pets" / split).glob("*/*.jpg"))
        rows = [f"{file},{'cat dog' if n == 1 else 'cat'}" for n, file in enumerate(files)]
        (pets / f"{split}.csv").write_text("\n".join(["path,labels", *rows]) + "\n")
    config = {
        "dataset_reader": {
            "type": "image_table",
            "image_column": "path",
            "labels_column": "labels",
            "labels_delimiter": " ",
        },
        "train_data_path": f"{pets}/train.csv",
        "validation_data_path": f"{pets}/val.csv",
    }
    (pets / "pets.jsonnet").write_text(json.dumps(config))
    assert check(pets, "-o", pets / "report", "--features", "colours") == 0
    content = json.loads((pets / "report" / "data.json").read_text())
    assert content["features"]["notes"][-1].endswith("because images have several labels")
    for path in (pets / "pets").glob("*/*/*.jpg"):
        path.write_bytes(b"no image")
    assert check(pets, "-o", pets / "report", "--features", "colours") == 1
    content = json.loads((pets / "report" / "data.json").read_text())
    assert content["features"]["images"] == 0
    assert "Map of the images" not in (pets / "report" / "data.html").read_text()


def test_options_that_need_features(pets: Path) -> None:
    with pytest.raises(InputError, match="--no-cache has no effect without --features"):
        check(pets, "--no-cache")
    with pytest.raises(InputError, match="no model 'resnet81'; expected an archive"):
        check(pets, "--features", "resnet81")


def test_data_without_a_config(pets: Path, capsys: pytest.CaptureFixture) -> None:
    copy(pets, "pets/train/cat/000.jpg", "pets/val/cat/copy.jpg")
    with pytest.raises(SystemExit):
        run_in_process("check-data", pets / "pets", "--json", pets / "found.json")
    content = json.loads((pets / "found.json").read_text())
    assert [problem["kind"] for problem in content["problems"]] == ["leakage"]
    assert content["splits"]["validation"]["images"] == 5
    # One part of data is not divided.
    run_in_process("check-data", pets / "pets" / "train", "--json", pets / "found.json")
    content = json.loads((pets / "found.json").read_text())
    assert {name: split["images"] for name, split in content["splits"].items()} == {"train": 8}
    with pytest.raises(InputError, match="--overrides is for a config"):
        run_in_process("check-data", pets / "pets", "--overrides", "{}")
    with pytest.raises(InputError, match="--layout has no effect on the config"):
        check(pets, "--layout", "splits")
