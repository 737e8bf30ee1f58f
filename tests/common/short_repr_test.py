from pathlib import Path

from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import ConcatReader, ImageFolderReader
from allencv.data.transforms import Cutout, EvalTransform, RandomHorizontalFlip
from tests.conftest import write_images


def test_a_reader_shows_the_arguments_that_are_not_defaults() -> None:
    assert repr(ImageFolderReader()) == "ImageFolderReader()"
    reader = ImageFolderReader(
        recursive=True,
        include=["*.png"],
        transforms=[RandomHorizontalFlip(0.25), EvalTransform(size=32), Cutout(size=8)],
        color_mode="L",
        value_range=[0, 4095],
        max_instances=5,
    )
    assert repr(reader) == (
        "ImageFolderReader(transforms=[RandomHorizontalFlip(p=0.25), EvalTransform(size=[32, 32]), "
        "Cutout(size=8)], color_mode='L', max_instances=5, value_range=(0, 4095), recursive=True, "
        "include=['*.png'])"
    )


def test_a_reader_of_readers_shows_them() -> None:
    reader = ConcatReader({"b": ImageFolderReader(recursive=True), "a": ImageFolderReader()})
    expected = "{'a': ImageFolderReader(), 'b': ImageFolderReader(recursive=True)}"
    assert repr(reader) == f"ConcatReader(readers={expected})"


def test_a_loader_shows_what_it_loads(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 1}, size=8)
    loader = ImageDataLoader(
        ImageFolderReader(), str(tmp_path), batch_size=2, num_workers=1, seed=3
    )
    assert repr(loader) == (
        f"ImageDataLoader(reader=ImageFolderReader(), data_path='{tmp_path}', batch_size=2, "
        "num_workers=1, seed=3)"
    )


def test_eval_shows_what_is_not_default() -> None:
    transform = EvalTransform(size=[24, 40], fit="pad", interpolation="bicubic")
    assert repr(transform) == "EvalTransform(size=[24, 40], fit='pad', interpolation='bicubic')"
    assert repr(EvalTransform(8192, "pad")) == "EvalTransform(size=[8192, 8192], fit='pad')"
