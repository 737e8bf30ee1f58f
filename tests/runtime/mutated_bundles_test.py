"""Bundles with random damage: each is refused in one line, or answers as it did before."""

import json
import random
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest

from allencv.runtime import BundleError, Manifest, OnnxClassifier
from allencv.runtime.bundle import MANIFEST, sha256_of
from allencv.runtime.manifest import NO_CHECKSUM, _sha256, _with_checksum
from tests.runtime.tiny_bundle import write_bundle
from tests.serving.fuzz_test import damage

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
VALUES: List[Any] = [None, True, -1, 0, 1, 16, 8000, 200_000, 10**30, 0.5, 1e-9, float("nan")]
VALUES += ["", "x", "RGB", "onnx", "../model.onnx", [], ["a", "b", "c"], [0.5] * 3, {}, [[[]]]]
COUNTS = [40, pytest.param(1000, marks=pytest.mark.exhaustive)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("runtime") / "colours")


def answer_of(bundle: Path) -> "tuple[List[str], List[float]]":
    classifier = OnnxClassifier(bundle)
    (row,) = classifier.probabilities(classifier.preprocess(IMAGE)[None])
    return classifier.labels, row.tolist()


def mutated_file(bundle: Path, dice: random.Random) -> None:
    file = dice.choice(sorted(bundle.iterdir()))
    file.write_bytes(damage(file.read_bytes(), dice))


def mutated_network(bundle: Path, dice: random.Random) -> None:
    """Another network, whose checksum is right."""
    file = bundle / "model.onnx"
    file.write_bytes(damage(file.read_bytes(), dice))
    manifest = Manifest.from_bytes((bundle / MANIFEST).read_bytes())
    manifest = replace(manifest, files={"model.onnx": sha256_of(file)})
    (bundle / MANIFEST).write_bytes(manifest.to_bytes())


def mutated_manifest(bundle: Path, dice: random.Random) -> None:
    """Another manifest, whose checksum is right."""
    content = json.loads((bundle / MANIFEST).read_bytes())
    for _ in range(dice.randint(1, 2)):
        container = dice.choice([content, content["preprocessing"], content])
        if not isinstance(container, dict) or not container:
            continue
        key = dice.choice(sorted(container))
        if dice.random() < 0.2:
            del container[key]
        else:
            container[key] = deepcopy(dice.choice(VALUES))
        content.setdefault("preprocessing", {})
    data = json.dumps({**content, "checksum": NO_CHECKSUM}).encode()
    (bundle / MANIFEST).write_bytes(_with_checksum(data, NO_CHECKSUM, _sha256(data)))


def refusals(
    bundle: Path,
    folder: Path,
    mutate: Callable[[Path, random.Random], None],
    count: int,
    may_differ: bool = False,
) -> List[str]:
    """Why mutated bundles are refused. The others must answer as the bundle does."""
    expected, dice, messages = answer_of(bundle), random.Random(count), []
    for _ in range(count):
        shutil.copytree(bundle, folder / "bundle")
        mutate(folder / "bundle", dice)
        try:
            answer = answer_of(folder / "bundle")
        except BundleError as error:
            messages.append(str(error))
        else:
            assert may_differ or answer == expected
        shutil.rmtree(folder / "bundle")
    assert not [message for message in messages if "\n" in message or "bundle" not in message]
    assert not list(folder.iterdir())
    return messages


@pytest.mark.parametrize("count", COUNTS)
def test_changed_bytes_of_a_bundle(bundle: Path, tmp_path: Path, count: int) -> None:
    assert len(refusals(bundle, tmp_path, mutated_file, count)) > 0.95 * count


@pytest.mark.parametrize("count", COUNTS)
def test_a_network_that_is_damaged(bundle: Path, tmp_path: Path, count: int) -> None:
    messages = refusals(bundle, tmp_path, mutated_network, count, may_differ=True)
    assert len(messages) > 0.9 * count


@pytest.mark.parametrize("count", COUNTS)
def test_a_manifest_of_other_values(bundle: Path, tmp_path: Path, count: int) -> None:
    """With the right checksum a change may be meant. Other answers are right then."""
    messages = refusals(bundle, tmp_path, mutated_manifest, count, may_differ=True)
    assert len(messages) > 0.8 * count
