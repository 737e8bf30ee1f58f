"""A program that uses the package is checked by mypy as strictly as its author wants."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = """
from typing import Any

from allencv.catalogue import check_file
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.transforms import RandomHorizontalFlip
from allencv.modules.losses import ClassificationLoss


@ImageDatasetReader.register("one_image")
class OneImage(ImageDatasetReader):
    def __init__(self, suffix: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.suffix = suffix

    def read_samples(self, file_path: Any) -> list[Sample]:
        return [Sample(f"{file_path}/a{self.suffix}", "a")]


OneImage(".png", transforms=[RandomHorizontalFlip(p=0.5)])
for mistake in check_file("config.jsonnet"):
    print(mistake.key, mistake.line)
"""


@pytest.mark.exhaustive
def test_mypy_is_strict(tmp_path: Path) -> None:
    readme = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    programs = [f"program{number}.py" for number in range(len(readme) + 1)]
    for name, text in zip(programs, [*readme, PROGRAM]):
        (tmp_path / name).write_text(text)
    (tmp_path / "wrong.py").write_text("from allencv.runtime import Classifier\nx: int = ''")
    options = ["--strict", "--follow-imports=silent", "--config-file="]
    command = [sys.executable, "-m", "mypy", *options, *programs, "wrong.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (only, _) = result.stdout.splitlines()
    assert only.startswith("wrong.py:2: error: Incompatible types in assignment"), result.stdout
