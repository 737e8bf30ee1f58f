"""
Archives with random damage: each is refused in one line, or answers as it did before. Nothing is
written anywhere else, and nothing is left behind.
"""

import json
import random
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError

from allencv.common.write_archive import archive_model
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime import ImageError
from tests.common.tiny_archive import files_of, packed, write_run
from tests.serving.fuzz_test import damage

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
VALUES: List[Any] = [None, True, -1, 0, 3, 1.5, float("nan"), "", "x", "labels", "image_folder"]
VALUES += ["../../etc", "os.system", [], [1, 2], {}, {"type": "x"}, {"type": "pooling"}, [[[]]]]
"""What takes the place of a value in a config. A large number could ask for a large network."""

Mutate = Callable[[Path, Path, random.Random], None]
Answer = Tuple[List[str], List[float]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(archive_model(write_run(tmp_path_factory.mktemp("archive") / "run")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the mutated archives, with nothing else beside or in it at the end."""
    for name in ("archives", "temporary", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "archives"
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert kept == ["archives", "archives/m.tar.gz", "temporary", "work"]


def answer_of(archive: Path) -> Answer:
    classifier = ArchiveClassifier(archive, "cpu")
    (row,) = classifier.probabilities(classifier.preprocess(IMAGE)[None])
    return classifier.labels, row.tolist()


def mutated_file(archive: Path, folder: Path, dice: random.Random) -> None:
    (folder / "m.tar.gz").write_bytes(damage(archive.read_bytes(), dice))


def mutated_member(archive: Path, folder: Path, dice: random.Random) -> None:
    """A whole archive, of which one file is not as it was."""
    files = files_of(archive)
    name = dice.choice(sorted(files))
    files[name] = damage(files[name], dice)
    packed(folder / "m.tar.gz", files)


def mutated_structure(archive: Path, folder: Path, dice: random.Random) -> None:
    """An archive without checksums, whose config holds something else, or that lacks a file."""
    files = files_of(archive)
    del files["checksums.json"]
    kind = dice.randrange(8)
    if kind == 0:
        del files[dice.choice(sorted(files))]
    elif kind == 1:
        name = dice.choice(sorted(files))
        files[name] = damage(files[name], dice)
    else:
        config = json.loads(files["config.json"])
        for _ in range(dice.randint(1, 3)):
            change_a_value(config, dice)
        files["config.json"] = json.dumps(config).encode()
    packed(folder / "m.tar.gz", files)


def change_a_value(config: Dict[str, Any], dice: random.Random) -> None:
    container: Any = config
    while True:
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        if not keys:
            return
        key = dice.choice(keys)
        if isinstance(container[key], (dict, list)) and dice.random() < 0.8:
            container = container[key]
            continue
        if dice.random() < 0.2:
            del container[key]
        else:
            container[key] = deepcopy(dice.choice(VALUES))
        return


def refusals(
    archive: Path, folder: Path, mutate: Mutate, count: int, may_differ: bool = False
) -> List[str]:
    """Why mutated archives are refused. The others must answer as the archive does."""
    expected, dice, messages = answer_of(archive), random.Random(count), []
    for _ in range(count):
        mutate(archive, folder, dice)
        try:
            answer = answer_of(folder / "m.tar.gz")
        except (ConfigurationError, ImageError) as error:
            messages.append(str(error))
        else:
            assert may_differ or answer == expected
    assert not [message for message in messages if "\n" in message or "m.tar.gz" not in message]
    return messages


COUNTS = [40, pytest.param(1000, marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("count", COUNTS)
def test_changed_bytes_of_an_archive(archive: Path, folder: Path, count: int) -> None:
    """What is opened all the same has another time or name in the header of gzip."""
    assert len(refusals(archive, folder, mutated_file, count)) > 0.8 * count


@pytest.mark.parametrize("count", COUNTS)
def test_changed_bytes_of_a_file_in_an_archive(archive: Path, folder: Path, count: int) -> None:
    assert len(refusals(archive, folder, mutated_member, count)) > 0.9 * count


@pytest.mark.parametrize("count", COUNTS)
def test_an_archive_of_other_contents(archive: Path, folder: Path, count: int) -> None:
    """Without checksums a change may be meant. It may give other answers, but no traceback."""
    messages = refusals(archive, folder, mutated_structure, count, may_differ=True)
    assert len(messages) > 0.3 * count
