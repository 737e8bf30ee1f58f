from itertools import pairwise
from pathlib import Path

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers import ImageTableReader
from allencv.exporting.sample_images import evenly, given_images, validation_images
from allencv.runtime.errors import InputError
from tests.conftest import write_images
from tests.exporting.archives import archive_of, small_resnet


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 19, 20, 21, 999, 1000])
def test_items_are_evenly_spread(count: int) -> None:
    chosen = evenly(iter(range(count)), 10)
    assert len(chosen) == min(count, 10)
    assert chosen == sorted(set(chosen))
    gaps = [after - before for before, after in pairwise(chosen)]
    if count > 10:
        assert chosen[0] == 0
        assert max(gaps) <= 2 * min(gaps)
        assert count - chosen[-1] <= 2 * max(gaps)


def test_files_are_found_in_folders_patterns_and_tables(tmp_path: Path) -> None:
    root = write_images(tmp_path / "photos", {"a": 2, "b": 2})
    (tmp_path / "some.csv").write_text("image\nphotos/b/001.jpg\n")
    paths = [str(tmp_path / "some.csv"), str(root / "a"), str(root / "b" / "*0.jpg")]
    found = [Path(file).relative_to(root).as_posix() for file in given_images(paths)]
    assert found == ["b/001.jpg", "a/000.jpg", "a/001.jpg", "b/000.jpg"]
    with pytest.raises(InputError, match="gives no image"):
        given_images([str(tmp_path / "nowhere")])


def test_validation_data_of_the_config(tmp_path: Path) -> None:
    root = write_images(tmp_path / "val", {"ant": 3, "bee": 3})
    archive = archive_of(small_resnet())
    with pytest.raises(ConfigurationError, match="the config has no validation_data_path to com"):
        validation_images(archive, 10)
    archive.config["validation_data_path"] = str(root)
    assert len(validation_images(archive, 10)) == 6
    names = [Path(each).parent.name for each in validation_images(archive, 4)]
    assert names == ["ant", "ant", "bee", "bee"]
    rows = [f"{label}/000.jpg,{label},{part}" for label in ("ant", "bee") for part in ("a", "b")]
    (root / "t.csv").write_text("\n".join(["file,label,part", rows[0], rows[3]]))
    columns = {"image_column": "file", "label_column": "label", "split_column": "part"}
    split = {"path": str(root / "t.csv"), "split": "b"}
    table = archive._replace(
        config=Params({"validation_data_path": split}),
        validation_dataset_reader=ImageTableReader(**columns),
    )
    assert validation_images(table, 10) == [str(root / "bee" / "000.jpg")]
    for folder in ("nowhere", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        moved = archive._replace(config=Params({"validation_data_path": str(tmp_path / folder)}))
        with pytest.raises(ConfigurationError, match=rf"{folder}.*give some with --parity-images"):
            validation_images(moved, 10)
