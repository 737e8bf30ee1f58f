import shutil
from pathlib import Path

import pytest
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.runtime.errors import InputError
from tests.conftest import full_disk, run_in_process


def explain(*arguments: object) -> None:
    run_in_process("explain", *map(str, arguments))


@pytest.fixture(scope="module")
def run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "run"
    return shutil.copytree(trained_run, folder)


def test_a_picture_is_written(
    run: Path, cats_and_dogs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = next((cats_and_dogs / "test" / "Dog").iterdir())
    capsys.readouterr()
    for label in ("Cat", "Dog"):
        output = tmp_path / "new" / f"{label}.png"
        explain(run / "model.tar.gz", image, "-o", output, "--label", label)
        line = capsys.readouterr().out
        assert line.startswith(f"{label}, ")
        assert line.endswith(f"%: {output}\n")
        with Image.open(output) as picture:
            assert picture.format == "PNG"


def test_a_full_disk_leaves_the_picture_that_was_there(
    run: Path, cats_and_dogs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "cam.png"
    output.write_text("the good picture")
    image = next((cats_and_dogs / "test" / "Dog").iterdir())
    with full_disk(), pytest.raises(OSError, match=r"No space left on device: .*cam.png"):
        explain(run, image, "-o", output)
    assert output.read_text() == "the good picture"
    assert list(tmp_path.iterdir()) == [output]


def test_bad_input(run: Path, cats_and_dogs: Path, tmp_path: Path) -> None:
    image = next((cats_and_dogs / "test" / "Dog").iterdir())
    with pytest.raises(InputError, match="no model archive at 'missing.tar.gz'"):
        explain("missing.tar.gz", image, "-o", tmp_path / "cam.png")
    with pytest.raises(InputError, match="--label is 'Dogs'; expected one of Dog, Cat"):
        explain(run, image, "-o", tmp_path / "cam.png", "--label", "Dogs")
    with pytest.raises(InputError, match=r"the ending of --output is '.txt'"):
        explain(run, image, "-o", tmp_path / "cam.txt")
    with pytest.raises(InputError, match="is a folder"):
        explain(run, image, "-o", tmp_path)
    assert list(tmp_path.iterdir()) == []
