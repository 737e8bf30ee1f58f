import gzip
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Iterator, List

import pytest
from allennlp.common.checks import ConfigurationError

import allencv
from allencv.data import remote
from allencv.fitting import FitOptions, FolderOptions
from allencv.fitting.fit import config_for
from tests.conftest import write_images


def test_a_folder_of_images_becomes_a_model(cats_and_dogs: Path, tmp_path: Path) -> None:
    said: List[str] = []
    options = FitOptions(
        epochs=1,
        image_size=32,
        seed=7,
        folders=FolderOptions(layout="splits"),
        backbone="small_resnet",
    )
    fitted = allencv.fit(str(cats_and_dogs), str(tmp_path / "run"), options, say=said.append)
    assert fitted.metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (tmp_path / "run.jsonnet").read_text().startswith("// Written by: allencv.fit\n")
    found, chosen, config = said
    assert "--layout" in found
    assert chosen.startswith("Chosen:")
    assert config == f"Config: {tmp_path / 'run.jsonnet'}"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pytorch_seed"] == 7
    assert sorted(allencv.load(fitted.archive).labels) == ["Cat", "Dog"]
    assert "Best epoch: 1 of 1." in fitted.lines()[0]
    with pytest.raises(ConfigurationError, match="which has files; expected a new folder"):
        allencv.fit(str(cats_and_dogs), str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; expected 1 or more"),
        ({"image_size": 7}, "--image-size is 7; expected 8 or more"),
        ({"epochs": 1, "time": "1m"}, "--epochs is 1 and --time is 1m; expected one of them"),
        ({"lr": "fast"}, "--lr is 'fast'; expected a number above 0, or 'auto'"),
        ({"lr": -1}, "--lr is -1; expected"),
        ({"lr": float("inf")}, "--lr is inf; expected"),
        ({"on_error": "stop"}, "--on-error is 'stop'; expected skip or fail"),
    ],
)
def test_options_that_cannot_be_used(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FitOptions(**options)


def test_a_table_or_list_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the columns, the delimiter and the samples of each split, even if it is compressed."""
    write_images(tmp_path, {"images": 12})
    rows = [f"images/{i:03d}.jpg{{0}}{'ab'[i % 2]}" for i in range(12)]
    table = "\n".join(["image{0}label", *rows]).format(";")
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(table.encode()))
    (tmp_path / "list.txt").write_text("\n".join(rows).format(" "))
    opened: List[str] = []

    @contextmanager
    def counted(path: str) -> Iterator[IO[bytes]]:
        opened.append(os.path.basename(path))
        with open(path, "rb") as file:
            yield file

    monkeypatch.setattr(remote, "open_file", counted)
    for data in ("table.csv.gz", "list.txt"):
        options = FitOptions(weights="none", backbone="small_resnet")
        config_for(str(tmp_path / data), "run", options, "the test", lambda text: None)
    assert opened == ["table.csv.gz", "list.txt"]


def test_the_learning_rate_may_be_a_number_or_a_word() -> None:
    assert FitOptions(lr="0.1").learning_rate() == FitOptions(lr=0.1).learning_rate() == 0.1
    assert FitOptions(lr="auto").learning_rate() is FitOptions().learning_rate() is None
