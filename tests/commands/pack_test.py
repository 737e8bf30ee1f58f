import json
import os
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.common import Params
from allennlp.data import Vocabulary

from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import run_in_process


@pytest.fixture(scope="module")
def pets(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packed images: train, with 24 images in 5 shards, and val, with 10."""
    folder = tmp_path_factory.mktemp("packed")
    run_in_process("pack", cats_and_dogs / "train", folder / "train", "--shard-size", 5)
    run_in_process("pack", cats_and_dogs, folder / "val", "--split", "validation")
    return folder


def config_of(pets: Path, **changes: Any) -> Dict[str, Any]:
    reader = {"type": "webdataset", "transforms": [{"type": "resize", "size": [16, 16]}]}
    changes = {"dataset_reader": reader, "validation_dataset_reader": reader, **changes}
    return experiment(pets, **changes)


def test_what_it_prints(cats_and_dogs: Path, tmp_path: Path, capsys: Any) -> None:
    shards = tmp_path / "shards"
    for _ in range(2):
        run_in_process("pack", cats_and_dogs / "train", shards, "--shard-size", "10kB")
    first, again = capsys.readouterr().out.split("packing ")[1:]
    name, *_, last = first.splitlines()
    assert name == f"{cats_and_dogs}/train, read by ImageFolderReader"
    assert f"{shards}: 24 images with 2 labels in " in first
    assert last == 'to read them: dataset_reader: { type: "webdataset" }'
    count = len(list(shards.glob("*.tar")))
    assert f"{count} shards kept, as already written\n" in again


def test_the_image_files_of_every_part(cats_and_dogs: Path, pets: Path) -> None:
    for part, count in (("train", 24), ("val", 10)):
        found = {}
        for shard in (pets / part).glob("*.tar"):
            with tarfile.open(shard) as tar:
                files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
                found.update(files)
        images = {name: data for name, data in found.items() if name.endswith(".jpg")}
        assert len(images) == count
        for name, data in images.items():
            assert data == (cats_and_dogs / part / name).read_bytes()


def test_a_config_and_its_parts(cats_and_dogs: Path, tmp_path: Path, capsys: Any) -> None:
    config = experiment(cats_and_dogs)
    config["dataset_reader"] = {"type": "image_folder", "exclude": ["*Dog*"]}
    config["test_data_path"] = f"{cats_and_dogs}/test"
    (tmp_path / "config.json").write_text(json.dumps(config))
    for part, count in (("train", 12), ("test", 8)):
        run_in_process("pack", tmp_path / "config.json", tmp_path / part, "--split", part)
        assert f"{tmp_path}/{part}: {count} images" in capsys.readouterr().out
    overrides = '{"dataset_reader.exclude": ["*Cat*", "*00?.jpg"]}'
    arguments = ("--split", "train", "-o", overrides)
    run_in_process("pack", tmp_path / "config.json", tmp_path / "dogs", *arguments)
    assert f"{tmp_path}/dogs: 2 images with 1 label" in capsys.readouterr().out


def test_a_list_without_labels_and_an_index(
    cats_and_dogs: Path, tmp_path: Path, capsys: Any
) -> None:
    reader = {"type": "image_folder", "labelled": False, "recursive": True}
    config = {"dataset_reader": reader, "train_data_path": str(cats_and_dogs / "test")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    run_in_process("pack", tmp_path / "config.json", tmp_path / "shards")
    packed = capsys.readouterr().out
    assert f"{tmp_path}/shards: 8 images with no labels in 1 shard" in packed
    assert packed.endswith('dataset_reader: { type: "webdataset", label_key: null }\n')
    config["dataset_reader"] = {"type": "webdataset", "label_key": None}
    config["train_data_path"] = f"{tmp_path}/shards/*.tar"
    (tmp_path / "config.json").write_text(json.dumps(config))
    index = tmp_path / "shards" / "allencv_index.json"
    index.unlink()
    run_in_process("pack", "--index-only", tmp_path / "config.json")
    assert json.loads(index.read_text())["images"] == 8


def test_training_and_the_other_commands_read_the_shards(
    pets: Path, tmp_path: Path, capsys: Any
) -> None:
    from allennlp.commands.train import train_model

    config = config_of(pets, trainer__num_epochs=1)
    (tmp_path / "config.json").write_text(json.dumps(config))
    run_in_process("check-data", tmp_path / "config.json")
    assert "34 images checked" in capsys.readouterr().out
    run_in_process("show-batch", tmp_path / "config.json", "-o", tmp_path / "page.png")
    assert "8 images of the train data" in capsys.readouterr().out
    run_in_process("build-vocab", tmp_path / "config.json", tmp_path / "vocabulary.tar.gz")
    vocab = Vocabulary.from_files(tmp_path / "vocabulary.tar.gz")
    assert set(vocab.get_token_to_index_vocabulary("labels")) == {"Cat", "Dog"}
    train_model(Params(config), str(tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["epoch"] == 0


BAD: List[Any] = [
    (["DATA/train"], "SHARDS is missing; expected the folder to write the shards to"),
    (["DATA", "NEW"], "has train, validation, test; choose one of them with --split"),
    (["DATA/train", "NEW", "--split", "test"], "--split is test, but '.*' has only train"),
    (["DATA/train", "NEW", "--shard-size", "0"], "--shard-size is '0'; expected a size such as"),
    (["DATA/train", "NEW", "--shard-size", "1TB"], "--shard-size is '1TB'; expected"),
    (["DATA/train", "NEW", "--shuffle", "x"], "--shuffle is 'x'; expected a number, or none"),
    (["DATA/train", "NEW", "--workers", "0"], "--workers is 0; expected at least 1"),
    (["DATA/train", "NEW", "-o", "{}"], "--overrides is for a config, but DATA is"),
    (["DATA/train", "DATA/train/NEW"], "/NEW', which is in DATA; expected a folder outside it"),
    (["DATA/train", "DATA/train"], "SHARDS is '.*train', which is in DATA"),
    (["DATA/train", "DATA"], "holds .*test, train, val; expected a new or empty folder"),
    (["EMPTY", "NEW"], "has no folders with images and no table"),
    (["lost", "NEW"], "DATA is 'lost'; expected an existing folder, table or list"),
    (["CONFIG", "NEW", "--layout", "classes"], "--layout has no effect on the config"),
    (["--index-only", "DATA/train"], "a shard of .* does not exist; .* holds Cat, Dog"),
    (["--index-only", "DATA/train", "NEW"], "SHARDS is .*; --index-only writes into the folder"),
    (["--index-only", "CONFIG", "--split", "train"], "has a ImageFolderReader; expected type web"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_one_line_for_each_mistake(
    arguments: List[str], message: str, cats_and_dogs: Path, tmp_path: Path
) -> None:
    (tmp_path / "EMPTY").mkdir()
    config = tmp_path / "config.json"
    config.write_text(json.dumps(experiment(cats_and_dogs)))
    names = {"DATA": cats_and_dogs, "NEW": tmp_path / "NEW", "CONFIG": config}
    names["EMPTY"] = tmp_path / "EMPTY"
    for name, path in names.items():
        arguments = [each.replace(name, str(path)) for each in arguments]
    with pytest.raises(InputError, match=message) as caught:
        run_in_process("pack", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "NEW").exists()


def test_a_folder_that_cannot_be_written(cats_and_dogs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"Not a directory: '{tmp_path}/file/shards'"):
        run_in_process("pack", cats_and_dogs / "train", tmp_path / "file" / "shards")
    if os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "locked").mkdir(0o500)
        with pytest.raises(PermissionError, match="locked"):
            run_in_process("pack", cats_and_dogs / "train", tmp_path / "locked" / "shards")
