import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from matplotlib.figure import Figure
from PIL import Image

from allencv.reporting import batch_picture
from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import full_disk, run_in_process


def run_command(config: Dict[str, Any], folder: Path, *arguments: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    run_in_process("show-batch", str(path), *arguments)


def test_the_command(cats_and_dogs: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "pages" / "page.png"
    run_command(
        experiment(cats_and_dogs),
        tmp_path,
        *("-o", str(output), "--count", "3", "--epoch", "1"),
        *("--overrides", '{"data_loader.batch_size": 2}'),
    )
    assert capsys.readouterr().out == f"{output}: 3 images of the train data\n"
    with Image.open(output) as page:
        width, height = page.size
    assert 900 < width < 1200
    assert 500 < height < 800


def test_epochs_count_from_1(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the reader, as in the log. The loader counts from 0."""
    told: List[Any] = []

    def image_pairs(params: Any, split: str, count: int, epoch: int) -> List[Any]:
        told.append(epoch)
        return []

    def draw_page(shown: List[Any], title: str) -> Figure:
        told.append(title)
        return Figure()

    monkeypatch.setattr(batch_picture, "image_pairs", image_pairs)
    monkeypatch.setattr(batch_picture, "draw_page", draw_page)
    for arguments in ([], ["--epoch", "3"]):
        run_command(experiment(cats_and_dogs), tmp_path, "-o", str(tmp_path / "a.png"), *arguments)
    title = "config.json: train data, epoch "
    assert told == [0, f"{title}1", 2, f"{title}3"]


def test_a_full_disk_leaves_the_page_that_was_there(cats_and_dogs: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.png"
    output.write_text("the good page")
    with full_disk(), pytest.raises(OSError, match=r"No space left on device: .*page.png"):
        run_command(experiment(cats_and_dogs), tmp_path, "-o", str(output), "--count", "1")
    assert output.read_text() == "the good page"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "test"], "--split is 'test', but the config has no test_data_path"),
        (["--count", "0"], "--count is 0; expected at least 1"),
        (["--epoch", "0"], "--epoch is 0; expected at least 1"),
        (["-o", "page.txt"], "--output is 'page.txt'; expected a name that ends in one of .*png"),
        (
            ["--overrides", '{"data_loader": {"type": "multiprocess", "batch_size": 2}}'],
            "data_loader is a MultiProcessDataLoader; expected one of type 'image'",
        ),
    ],
)
def test_what_cannot_be_shown(
    cats_and_dogs: Path, tmp_path: Path, arguments: List[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_command(experiment(cats_and_dogs), tmp_path, *arguments)
