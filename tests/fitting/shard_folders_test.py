import shutil
from pathlib import Path
from typing import Union

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers import ImageFolderReader
from allencv.data.packing import PackOptions, pack
from allencv.fitting import FolderOptions, FoundData, TableColumns, examine_data, find_data
from allencv.fitting.one_part import part_of_data
from tests.conftest import write_images


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """The folders train and val, of shards with an index."""
    for seed, (part, count) in enumerate({"train": 6, "val": 3}.items()):
        write_images(tmp_path / "photos" / part, {"cat": count, "dog": count}, seed=seed)
        folder = str(tmp_path / "shards" / part)
        pack(ImageFolderReader(), tmp_path / "photos" / part, folder, PackOptions(5), 1)
    return tmp_path / "shards"


def find(data: Union[Path, str], **options: str) -> FoundData:
    return find_data(str(data), TableColumns(), "elsewhere", FolderOptions(**options))  # type: ignore[arg-type]


def test_folders_of_shards_for_each_split(shards: Path) -> None:
    found = find(shards)
    assert found.reader == {"type": "webdataset"}
    assert (found.train_path, found.validation_path) == (f"{shards}/train", f"{shards}/val")
    assert (found.test_path, found.split) == (None, None)
    facts = examine_data(found)
    assert facts.counts == {"cat": 6, "dog": 6}
    assert (facts.num_train, facts.num_validation) == (12, 6)


def test_shards_of_calibration_images(shards: Path) -> None:
    shutil.copytree(shards / "val", shards / "calibration")
    found = find(shards)
    assert found.calibration_path == f"{shards}/calibration"
    assert examine_data(found).num_calibration == 6


def test_shards_without_an_index(shards: Path) -> None:
    for index in shards.glob("*/allencv_index.json"):
        index.unlink()
    found = find(shards)
    assert (found.train_path, found.validation_path) == (
        f"{shards}/train/*.tar",
        f"{shards}/val/*.tar",
    )
    assert found.reader == {"type": "webdataset", "streaming": False}
    assert examine_data(found).counts == {"cat": 6, "dog": 6}
    for data in ("s3://bucket/train-{0..9}.tar", "https://example.com/train.tar"):
        with pytest.raises(ConfigurationError, match="expected an existing folder, table or list"):
            find(data)


def test_shards_and_validation_data_given(shards: Path) -> None:
    for data in ("train", "train/shard-{000000..000002}.tar"):
        found = find(shards / data, validation=str(shards / "val"), test=str(shards / "val"))
        assert (found.train_path, found.validation_path) == (f"{shards}/{data}", f"{shards}/val")
        assert found.reader == {"type": "webdataset"}
        assert found.test_path == f"{shards}/val"
        assert examine_data(found).num_train == 12


def test_shards_alone(shards: Path) -> None:
    """They can be packed again, but not fitted."""
    found = find(shards / "train")
    with pytest.raises(ConfigurationError, match="has no validation data, and shards cannot be di"):
        examine_data(found)
    part = part_of_data(str(shards / "train"), None, TableColumns(), "data", FolderOptions())
    assert len(list(part.reader.read_samples(part.path))) == 12


def test_downloaded_archives_beside_images_are_no_shards(shards: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        shutil.copy(shards / part / "shard-000000.tar", tmp_path / "photos" / part / "images.tar")
    assert find(tmp_path / "photos").reader == {"type": "image_folder"}
    assert find(tmp_path / "photos" / "train").reader == {"type": "image_folder"}


def test_what_is_not_of_shards_is_refused(shards: Path, tmp_path: Path) -> None:
    photos = str(tmp_path / "photos" / "val")
    with pytest.raises(ConfigurationError, match=f"--validation is '{photos}'; expected shards,"):
        find(shards / "train", validation=photos)
    with pytest.raises(ConfigurationError, match="--layout is 'splits', but it has no effect on"):
        find(shards, layout="splits")
    shutil.rmtree(shards / "val")
    shutil.copytree(photos, shards / "val")
    assert f"not used: {shards}/val (no shards)" in find(shards).notes
    with pytest.raises(ConfigurationError, match="has no validation data"):
        examine_data(find(shards))
    with pytest.raises(ConfigurationError, match=r"lost-0.tar' of .* \(DATA\) does not exist"):
        examine_data(find(tmp_path / "lost-{0..1}.tar", validation=str(shards / "train")))
