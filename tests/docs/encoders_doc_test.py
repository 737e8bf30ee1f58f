"""
The commands and the code of docs/encoders.md, run as they are printed, but that nothing is
downloaded: networks start from random weights.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Dict, List

import pytest
import timm
import torch
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from tests.conftest import ROOT, Run, write_images

PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


FRAGMENTS = [text for text in blocks("jsonnet") if text.startswith("im2im_encoder:")]
(CONFIG,) = [text for text in blocks("jsonnet") if text not in FRAGMENTS]
(TRAIN,) = blocks("bash")


def without_download(params: Dict[str, Any]) -> Dict[str, Any]:
    if params["type"] == "timm":
        return params if "weights" in params else {**params, "pretrained": False}
    if params["type"] == "whitening":
        return params
    return {**params, "weights": None}


@pytest.mark.parametrize("text", FRAGMENTS)
def test_encoders_fit(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(timm.create_model("test_vit").state_dict(), "weights.pth")
    Path("model.jsonnet").write_text(f"{{ {text} }}")
    params = Params.from_file("model.jsonnet").as_dict()
    im2im_encoder = Im2ImEncoder.from_params(Params(without_download(params["im2im_encoder"])))
    im2vec_encoder = Im2VecEncoder.from_params(Params(params["im2vec_encoder"]))
    size = params["im2im_encoder"].get("image_size", 224)
    with torch.no_grad():
        vectors = im2vec_encoder.eval()(im2im_encoder.eval()(torch.zeros(1, 3, size, size)))
    assert vectors.shape == (1, im2vec_encoder.get_output_dim())


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"jsonnet", "bash", "python"}


def test_every_name_is_registered() -> None:
    tables = re.findall(r"^\| `(\w+)` \| what it is \|\n\|[-|]*\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    registries = {"im2im_encoder": Im2ImEncoder, "im2vec_encoder": Im2VecEncoder}
    assert {name for name, _ in tables} == set(registries)
    for registry, rows in tables:
        names = re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)
        assert len(names) >= 3
        assert set(names) <= set(registries[registry].list_available())


def test_every_kind_of_pooling_is_one() -> None:
    (rows,) = re.findall(r"^\| pool \|.*\n\|[-|]*\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    for pool in re.findall(r"^\| `(\w+)`", rows, re.MULTILINE):
        Im2VecEncoder.by_name("pooling")(3, pool)


def test_training(run: Run, tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        write_images(tmp_path / "pets" / split, {"cat": 8, "dog": 8}, seed=seed)
    (tmp_path / "pets.jsonnet").write_text(CONFIG)
    smaller = {
        "model.im2im_encoder.model_name": "test_convnext",
        "model.im2im_encoder.pretrained": False,
        "model.im2vec_encoder.input_channels": 64,
        "trainer.num_epochs": 1,
    }
    run(*shlex.split(TRAIN), "-o", json.dumps(smaller), cwd=tmp_path)
    assert (tmp_path / "runs" / "pets" / "model.tar.gz").exists()


@pytest.mark.parametrize(
    ("code", "first_line"),
    zip(
        blocks("python"),
        [
            "(0.5, 0.5, 0.5) (0.5, 0.5, 0.5) (3, 224, 224) bicubic",
            "512",
            "torch.Size([2, 12, 32, 32])",
        ],
        strict=True,
    ),
)
def test_the_python_way(code: str, first_line: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(code, "encoders.md", "exec"), {"__name__": "own"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == first_line
    if first_line == "512":
        assert lines[1:3] == ["['backbone.conv1', 'backbone.bn1']", "['backbone.layer1']"]
