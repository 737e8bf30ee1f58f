"""The configs of docs/data_loading.md, used as they are printed."""

import re
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Vocabulary

import allencv.plugin  # noqa: F401
from allencv.data.transforms import ImageTransform
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "data_loading.md").read_text(encoding="utf-8")


def fragments(folder: Path) -> List[Dict[str, Any]]:
    texts = re.findall(r"^```jsonnet\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    parsed = []
    for text in texts:
        (folder / "fragment.jsonnet").write_text(f"{{ {text} }}")
        parsed.append(Params.from_file(str(folder / "fragment.jsonnet")).as_dict())
    return parsed


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"jsonnet"}


@pytest.fixture
def batches(cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def load(fragment: Dict[str, Any]) -> List[Any]:
        reader = fragment.get(
            "dataset_reader",
            {"type": "image_folder", "transforms": [{"type": "train_light", "size": 32}]},
        )
        loader = DataLoader.from_params(
            Params(fragment["data_loader"]),
            reader=DatasetReader.from_params(Params(reader)),
            data_path=fragment.get("train_data_path", str(cats_and_dogs / "train")),
        )
        loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
        return [batch["image"] for batch in loader]

    return load


def test_the_configs(batches: Any, cats_and_dogs: Path, tmp_path: Path) -> None:
    plain, skipping, scaled, cached, stream = fragments(tmp_path)
    assert [len(each) for each in batches(plain)] == [24]
    assert [len(each) for each in batches(skipping)] == [24]
    assert [each.shape for each in batches(cached)] == [(24, 3, 32, 32)]
    for params in scaled["transforms"]:
        assert ImageTransform.from_params(Params(params)).dct_scaling is True

    (tmp_path / "data").mkdir()
    for shard in range(147):  # most of them empty
        with tarfile.open(tmp_path / "data" / f"train-{shard:03d}.tar", "w") as tar:
            for path in sorted((cats_and_dogs / "train" / "Cat").glob("*.jpg"))[shard::147]:
                tar.add(path, f"{path.stem}.jpg")
                (tmp_path / "label").write_text("cat")
                tar.add(tmp_path / "label", f"{path.stem}.cls")
    assert [tuple(each.shape) for each in batches(stream)] == [(12, 3, 224, 224)]
