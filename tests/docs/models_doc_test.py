"""The commands and the code of docs/models.md, run as they are printed."""

import os
import re
import shlex
from pathlib import Path
from typing import Any, List

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models import Model

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.models import BasicImageClassifier
from allencv.models.views import VIEWS
from allencv.modules.losses import ClassificationLoss
from tests.conftest import ROOT, Run, write_images

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
QUICK = '{"trainer.num_epochs": 2}'


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


FRAGMENTS = [text for text in blocks("jsonnet") if re.match(r"\w+: ", text)]
PETS, POSTERS = (text for text in blocks("jsonnet") if text not in FRAGMENTS)
TRAIN, STUDENT = blocks("bash")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, split in enumerate(("train", "val")):
        write_images(folder / "pets" / split, {"cat": 12, "dog": 12}, seed=seed)
    (folder / "pets.jsonnet").write_text(PETS)
    write_images(folder / "posters", {"images": 12})
    for number in range(12):
        image = folder / "posters" / "images" / f"{number:03d}.jpg"
        image.rename(image.with_stem(str(number)))
    genres = ["Comedy|Drama", "Drama", "", "Action|Comedy"]
    rows = [f"images/{number}.jpg,{genres[number % 4]}" for number in range(12)]
    for split, part in (("train", rows[:8]), ("val", rows[8:])):
        (folder / "posters" / f"{split}.csv").write_text("\n".join(["path,genres", *part, ""]))
    (folder / "posters.jsonnet").write_text(POSTERS)
    return folder


@pytest.fixture(scope="module")
def posters(folder: Path, run: Run) -> Path:
    run(*shlex.split(TRAIN), "-o", QUICK, cwd=folder)
    return folder


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"jsonnet", "bash", "python"}
    assert len(FRAGMENTS) == 3


@pytest.mark.parametrize("text", FRAGMENTS)
def test_keys_of_a_model(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.jsonnet").write_text(f"{{ {text} }}")
    given = Params.from_file(str(tmp_path / "model.jsonnet")).as_dict()
    pooling = {"type": "pooling", "input_channels": 3}
    vocab = Vocabulary()
    for label in ("ant", "bee", "cat", "dog", "eel"):
        vocab.add_token_to_namespace(label, "labels")
    params = Params({"type": "basic_image_classifier", "im2vec_encoder": pooling, **given})
    model: Any = Model.from_params(params, vocab=vocab)
    outputs = model(torch.rand(2, 3, 8, 8), torch.tensor([1, 4]))
    assert outputs["loss"].isfinite()
    metrics = model.get_metrics(reset=True)
    assert set(given.get("metrics", {})) <= set(metrics)


def test_every_name_is_registered() -> None:
    table = re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE, re.MULTILINE)
    models = [name for name in table if name.endswith("classifier")]
    losses = [name for name in table if name not in (*models, "type")]
    ours = ClassificationLoss.list_available()
    assert sorted(losses) == sorted(
        name for name in ours if ClassificationLoss.by_name(name).__module__.startswith("allencv.")
    )
    assert set(models) <= set(Model.list_available())
    assert len(models) == 2
    assert all(f"`{name}`" in PAGE for name in VIEWS)


def test_views_and_the_jsd_loss(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    params = Params.from_file("pets.jsonnet", QUICK)
    assert isinstance(train_model(params, "runs/pets"), BasicImageClassifier)


def test_the_python_way(posters: Path, capsys: pytest.CaptureFixture) -> None:
    (code,) = blocks("python")
    before = Path.cwd()
    os.chdir(posters)
    try:
        exec(compile(code, "models.md", "exec"), {})
    finally:
        os.chdir(before)
    lines = capsys.readouterr().out.splitlines()
    assert 0 <= float(lines[0]) <= 1
    assert sorted(line.split()[:2] for line in lines[1:4]) == [
        ["Action", "1"],
        ["Comedy", "2"],
        ["Drama", "2"],
    ]
    assert "'probability'" in lines[4]


def test_looking_twice_at_an_image_afterwards(posters: Path) -> None:
    (overrides,) = re.findall(r"--overrides '(.*?)'", PAGE)
    archive = posters / "runs" / "posters" / "model.tar.gz"
    image = torch.rand(1, 3, 16, 16)
    once = load_archive(archive).model.eval()
    twice = load_archive(archive, overrides=overrides).model.eval()
    expected = (once(image)["probs"] + once(image.flip(-1))["probs"]) / 2
    assert torch.allclose(twice(image)["probs"], expected, atol=1e-6)


def test_a_teacher(posters: Path, run: Run) -> None:
    overrides = STUDENT.replace("-o '{", f"-o '{QUICK[:-1]},")
    run(*shlex.split(overrides), cwd=posters)
    student = posters / "runs" / "student"
    assert (student / "model.tar.gz").exists()
    assert '"training_distillation_loss"' in (student / "metrics.json").read_text()
