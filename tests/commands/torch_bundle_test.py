"""`allencv classify` and `serve` with a bundle of the format torch_export."""

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Tuple

import numpy as np
import pytest
import torch

import allencv
from allencv.exporting import TorchClassifier
from allencv.runtime import BundleError, Manifest
from allencv.runtime.bundle import MANIFEST, sha256_of
from allencv.runtime.errors import InputError
from allencv.serving.client import Client
from tests.conftest import ROOT, run_in_process, write_images
from tests.runtime.tiny_bundle import SCALE, SIZE, softmax_of, write_bundle


class MeanColour(torch.nn.Module):
    """The network of `write_bundle` in torch."""

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        mean = image.float().mean(dim=(1, 2))
        return torch.softmax(SCALE / 255 * mean, dim=1), mean


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = write_bundle(tmp_path_factory.mktemp("bundles") / "colours")
    images = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    sizes = {"image": {0: torch.export.Dim("batch")}}
    program = torch.export.export(MeanColour(), (images,), dynamic_shapes=sizes)
    content = io.BytesIO()
    torch.export.save(program, content)
    (bundle / "model.pt2").write_bytes(content.getbuffer())
    (bundle / "model.onnx").unlink()
    files = {"model.pt2": sha256_of(bundle / "model.pt2")}
    manifest = Manifest.from_bytes((bundle / MANIFEST).read_bytes())
    manifest = replace(manifest, format="torch_export", files=files)
    (bundle / MANIFEST).write_bytes(manifest.to_bytes())
    return bundle


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos", {"red": 2, "green": 1, "blue": 2})


def test_classify(bundle: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    run_in_process("classify", bundle, photos, "-o", output, "--trust-archive")
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(records) == 5
    for record in records:
        assert record["label"] == Path(record["path"]).parent.name
        expected = softmax_of(Path(record["path"])).max()
        assert record["top_k"][0]["probability"] == pytest.approx(expected, abs=1e-5)


def test_serve_needs_torch_and_nothing_of_allennlp(bundle: Path, photos: Path) -> None:
    images = sorted(photos.rglob("*.jpg"))
    arguments = ["serve", str(bundle), "--port", "0", "--trust-archive"]
    code = "import sys; sys.modules['allennlp'] = None; from allencv.__main__ import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("Serving"))
        answers = Client(line.split()[-1]).predict(images)
        process.terminate()
        assert process.wait(20) == 0
    assert [answer["label"] for answer in answers] == [image.parent.name for image in images]


def test_load(bundle: Path, photos: Path) -> None:
    image = next(photos.rglob("*.jpg"))
    assert allencv.load(bundle, trusted=True).predict(image).label == image.parent.name
    with pytest.raises(BundleError, match=r"model.pt2: torch may run code in such a file; set tru"):
        allencv.load(bundle)
    with pytest.raises(InputError, match="a torch_export bundle, .* no engine .'openvino'."):
        allencv.load(bundle, engine="openvino", trusted=True)


@pytest.mark.parametrize("command", ["classify", "serve"])
def test_options_that_it_has_not(bundle: Path, photos: Path, command: str) -> None:
    paths = [photos] if command == "classify" else ["--port", 0]
    for options, error, message in (
        ([], BundleError, r"torch may run code .*\(--trust-archive\) if you trust its author"),
        (["--engine", "cuda"], InputError, "which torch runs on the CPU; expected no --engine"),
        (["--device", "cpu"], InputError, "which torch runs on the CPU; expected no --device"),
    ):
        with pytest.raises(error, match=message) as raised:
            run_in_process(command, bundle, *paths, *options)
        assert "\n" not in str(raised.value)


def test_without_torch(bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allencv.exporting.torch_bundle.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"torch_export bundle, which needs torch: pip install"):
        run_in_process("classify", bundle, photos, "--trust-archive")


def test_threads_get_their_own_answers(bundle: Path) -> None:
    classifier = TorchClassifier(bundle, trusted=True)
    pixels = np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3), np.uint8)
    expected = classifier.probabilities(pixels)
    with ThreadPoolExecutor(4) as pool:
        given = pool.map(lambda i: classifier.probabilities(pixels[i % 16 :][:1]), range(64))
        for number, row in enumerate(given):
            np.testing.assert_allclose(row[0], expected[number % 16], atol=1e-6)
