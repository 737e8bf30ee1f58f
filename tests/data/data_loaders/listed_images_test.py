from pathlib import Path

import pytest

from allencv.data.data_loaders import ImageDataLoader
from allencv.data.dataset_readers import ImageFolderReader
from tests.conftest import write_images


def test_training_warns_of_labels_that_look_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path, {"Cat": 2, "cat": 3, "dog": 1}, size=4)
    for shuffle in (False, True):
        caplog.clear()
        ImageDataLoader(ImageFolderReader(), str(tmp_path), shuffle=shuffle, num_workers=0)
        warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        expected = f"{tmp_path}: labels that look the same: 'Cat' (2 in train), 'cat' (3 in train)"
        assert warnings == ([expected] if shuffle else [])
