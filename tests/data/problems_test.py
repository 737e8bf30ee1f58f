import io
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from allennlp.common import Params
from allennlp.data import DatasetReader
from PIL import Image

from allencv.data import problems
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.inspection import examine_all, read_splits
from allencv.data.problems import KINDS, Problem, find_problems, imbalance
from allencv.runtime import images


@DatasetReader.register("test_given")
class Given(ImageDatasetReader):
    """Reads the samples that a test has put under a name."""

    data: Dict[str, List[Sample]] = {}

    def read_samples(self, file_path: Any) -> List[Sample]:
        return self.data[file_path]


def pattern(seed: int, size: Tuple[int, int] = (64, 64)) -> Image.Image:
    """An image of large blobs of colour, like no other."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def problems_of(**data: List[Sample]) -> List[Problem]:
    Given.data = data
    config = {f"{name}_data_path": name for name in data}
    splits = read_splits(Params({"dataset_reader": {"type": "test_given"}, **config}))
    return find_problems(splits, list(examine_all(splits, 2)))


def found(problems: List[Problem]) -> List[Tuple[str, str, List[Tuple[str, int]]]]:
    return [
        (kind, detail, [(i.split, i.index) for i in images]) for kind, detail, images in problems
    ]


def labelled(labels: str, first_seed: int = 0) -> List[Sample]:
    return [Sample(pattern(first_seed + i), label) for i, label in enumerate(labels)]


GOOD = labelled("aabb")


def test_nothing_is_wrong() -> None:
    assert problems_of(train=GOOD, validation=labelled("ab", 10)) == []


def in_a_file(image: Image.Image, format: str = "PNG", **kwargs: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **kwargs)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


JPEG = in_a_file(pattern(50), "JPEG")


@pytest.mark.parametrize(
    ("image", "kind", "detail"),
    [
        (b"", "empty_file", "the file is empty (0 bytes)"),
        (JPEG[: len(JPEG) // 2], "truncated", None),
        (in_a_file(pattern(50))[:2000], "truncated", None),
        (b"<html>404</html>", "unreadable", "not an image in a format that pillow reads"),
        ("/not/there.jpg", "unreadable", "No such file or directory"),
        (in_a_file(pattern(50).convert("CMYK"), "JPEG"), "odd_mode", "CMYK"),
        (in_a_file(pattern(50).quantize(16)), "odd_mode", "palette (P)"),
        (in_a_file(pattern(50).convert("RGBA")), "odd_mode", "RGBA, transparent"),
        (in_a_file(pattern(50).convert("L")), "odd_mode", "grey among colour"),
        (in_a_file(pattern(50, (40, 20))), "tiny", "40 x 20"),
        (in_a_file(pattern(50, (8000, 5001)), "JPEG"), "huge", "8000 x 5001"),
        (in_a_file(pattern(50, (400, 64))), "extreme_shape", "400 x 64"),
        (in_a_file(pattern(50, (64, 90)), "JPEG", exif=exif(6)), "rotated", "orientation 6"),
    ],
)
def test_one_image(image: Any, kind: str, detail: str) -> None:
    (problem,) = problems_of(train=[*GOOD, Sample(image, "a")])
    assert (problem.kind, [i.index for i in problem.images]) == (kind, [4])
    assert detail is None or problem.detail == detail


def test_sixteen_bits() -> None:
    grey = np.asarray(pattern(50).convert("L")).astype(np.uint16) << 8
    image = in_a_file(Image.fromarray(grey))
    (problem,) = problems_of(train=[*GOOD, Sample(image, "a")])
    assert (problem.kind, problem.detail) == ("odd_mode", "more than 8 bits a channel (I;16)")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("the file is empty (0 bytes)", "empty_file"),
        ("image file is truncated (10 bytes not processed)", "truncated"),
        ("broken data stream when reading image file", "unreadable"),
    ],
)
def test_kinds_of_damage(reason: str, kind: str) -> None:
    assert problems._kind_of_error(reason) == kind


def test_several_frames() -> None:
    image = in_a_file(pattern(50), "WEBP", save_all=True, append_images=[pattern(51), pattern(52)])
    problems = problems_of(train=[*GOOD, Sample(image, "a")])
    assert found(problems) == [("animated", "3 frames", [("train", 4)])]


def test_a_data_set_of_small_grey_images_is_not_odd() -> None:
    samples = [Sample(pattern(i, (8, 8)).convert("L"), "ab"[i % 2]) for i in range(6)]
    assert problems_of(train=samples) == []


def test_exact_copies() -> None:
    copy = Sample(in_a_file(pattern(0)), "a")  # the same pixels as GOOD[0], in a file
    assert found(problems_of(train=[*GOOD, copy])) == [
        ("duplicate", "", [("train", 0), ("train", 4)])
    ]
    validation = labelled("ab", 10)
    assert found(problems_of(train=GOOD, validation=[*validation, copy])) == [
        ("leakage", "", [("train", 0), ("validation", 2)])
    ]
    other = copy._replace(label="b")
    assert found(problems_of(train=[*GOOD, other])) == [
        ("contradiction", "", [("train", 0), ("train", 4)])
    ]
    kinds = [kind for kind, *_ in found(problems_of(train=GOOD, test=[*validation, other]))]
    assert kinds == ["leakage", "contradiction"]
    # An image without a label contradicts none.
    unlabelled = [copy._replace(label=None)]
    assert [kind for kind, *_ in found(problems_of(train=GOOD, test=unlabelled))] == ["leakage"]


def test_the_picture_of_a_website_for_missing_images() -> None:
    """A GIF under several labels, each of them its file's own."""
    missing = in_a_file(pattern(90).convert("P"), "GIF")
    groups = [
        [Sample(missing, label) for label in "abba"],
        [Sample(missing, labels=labels) for labels in ([], ["a"], ["b"], ["a", "b"])],
    ]
    for samples in groups:
        problems = problems_of(train=[*samples, samples[1]._replace(image=pattern(1))])
        (problem,) = (each for each in problems if each.kind == "contradiction")
        assert [image.index for image in problem.images] == [0, 1, 2, 3]
    assert "picture for a missing image" in KINDS["contradiction"].advice


@pytest.mark.parametrize(
    "near",
    [
        in_a_file(pattern(0), "JPEG", quality=60),
        pattern(0).resize((90, 70)),
        pattern(0).convert("L"),
        Image.fromarray((np.asarray(pattern(0)) * 0.8 + 20).astype(np.uint8)),
    ],
    ids=["compressed", "resized", "grey", "brightness"],
)
def test_near_copies(near: Any) -> None:
    problems = problems_of(train=GOOD, test=[*labelled("ab", 10), Sample(near, "b")])
    near_copies = [problem for problem in problems if problem.kind != "odd_mode"]
    assert found(near_copies) == [("near_leakage", "", [("train", 0), ("test", 2)])]
    problems = problems_of(train=[*GOOD, Sample(near, "a")])
    near_copies = [problem for problem in problems if problem.kind != "odd_mode"]
    assert found(near_copies) == [("near_duplicate", "", [("train", 0), ("train", 4)])]


def test_images_of_one_colour_are_like_no_other() -> None:
    flat = [Sample(Image.new("RGB", (64, 64), colour), "a") for colour in ("red", "blue", "white")]
    assert found(problems_of(train=[*GOOD, *flat])) == [
        ("constant", "every pixel is (255, 0, 0)", [("train", 4)]),
        ("constant", "every pixel is (0, 0, 255)", [("train", 5)]),
        ("constant", "every pixel is (255, 255, 255)", [("train", 6)]),
    ]


@pytest.mark.parametrize(
    ("lowest", "highest", "kind"), [(0, 31, "dark"), (120, 126, "blank"), (249, 256, "blank")]
)
def test_images_on_which_there_is_nothing_to_see(lowest: int, highest: int, kind: str) -> None:
    levels = np.random.default_rng(0).integers(lowest, highest, (64, 64, 1), np.uint8)
    pixels = np.repeat(levels, 3, axis=2)
    pixels[:4, :4] = 200  # a light of 0.4% of the pixels
    (problem,) = problems_of(train=[*GOOD, Sample(Image.fromarray(pixels), "a")])
    assert (problem.kind, [image.index for image in problem.images]) == (kind, [4])
    assert f"{lowest} to {highest - 1} of 255" in problem.detail


def test_a_bright_spot_of_one_in_fifty_pixels_is_something_to_see() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:10, :10] = 200
    assert problems_of(train=[*GOOD, Sample(Image.fromarray(pixels), "a")]) == []


def floats(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).random((64, 64), np.float32) * 0.4
    return Image.fromarray(values)


def test_images_that_decoding_flattens_are_no_copies() -> None:
    train = [Sample(floats(seed), "ab"[seed % 2]) for seed in range(4)]
    problems = [problem for problem in problems_of(train=train) if problem.kind != "odd_mode"]
    assert [(problem.kind, len(problem.images)) for problem in problems] == [("lost_range", 1)] * 4
    again = problems_of(train=[*train, Sample(floats(0), "a")])
    assert ("duplicate", "", [("train", 0), ("train", 4)]) in found(again)


def test_a_value_range_that_keeps_all_is_no_problem() -> None:
    Given.data = {"train": [Sample(floats(seed), "ab"[seed % 2]) for seed in range(4)]}
    reader = {"type": "test_given", "value_range": [0, 0.4]}
    splits = read_splits(Params({"dataset_reader": reader, "train_data_path": "train"}))
    assert {p.kind for p in find_problems(splits, list(examine_all(splits, 2)))} == {"odd_mode"}


def test_heic_is_told_from_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)
    monkeypatch.setattr(images, "FORMATS", ["JPEG", "PNG"])  # as without the package for it
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (problem,) = problems_of(train=[*GOOD, Sample(heic, "a")])
    assert problem.kind == "needs_package"
    assert problem.detail.endswith("pip install pillow-heif")


def test_labels() -> None:
    train = labelled("a" * 11 + "b" + "cc")
    problems = problems_of(train=train, validation=labelled("abd", 20))
    assert found(problems) == [
        ("unknown_label", "d (1 in validation)", [("validation", 2)]),
        ("missing_label", "c (2 in train, 0 in validation)", []),
        ("few_images", "b (1 in train)", []),
        ("imbalance", "11 times as many a (11) as b (1) in train", []),
    ]


@pytest.mark.parametrize(
    ("other", "spelling"),
    [("CAT", "'CAT'"), ("c at", "'c at'"), ("ca\u0301t", "'ca\\u0301t'")],
)
def test_labels_that_look_the_same(other: str, spelling: str) -> None:
    first = "cát" if "\u0301" in other else "cat"
    train = [Sample(pattern(i), label) for i, label in enumerate([first, first, "dog", "dog"])]
    validation = [Sample(pattern(10), other), Sample(pattern(11), "dog")]
    problems = problems_of(train=train, validation=validation)
    (detail,) = [problem.detail for problem in problems if problem.kind == "similar_labels"]
    assert sorted(detail.split(", ")) == sorted(
        [f"'{first}' (2 in train)", f"{spelling} (1 in validation)"]
    )
    assert "unknown_label" in [problem.kind for problem in problems]


def test_labels_that_cannot_be_written() -> None:
    train = [*GOOD, Sample(pattern(5), "a\rb"), Sample(pattern(6), "caf\udce9")]
    problems = [p for p in problems_of(train=train) if p.kind == "unwritable_label"]
    assert found(problems) == [
        ("unwritable_label", r"'a\rb' (1 in train): it has a line break", []),
        ("unwritable_label", r"'caf\xe9' (1 in train): it is not UTF-8", []),
    ]


def test_several_labels() -> None:
    train = [Sample(pattern(i), labels=labels) for i, labels in enumerate(["ab", "b", "", "a"])]
    assert problems_of(train=train) == []
    # The order of the labels means nothing.
    again = Sample(pattern(0), labels=["b", "a"])
    assert found(problems_of(train=[*train, again])) == [
        ("duplicate", "", [("train", 0), ("train", 4)])
    ]


def test_too_few_of_all() -> None:
    assert found(problems_of(train=labelled("aa"))) == [("one_class", "train has a", [])]
    assert found(problems_of(train=GOOD, test=[])) == [("empty_split", "test", [])]
    assert found(problems_of(train=[])) == [("empty_split", "train", [])]


def test_imbalance() -> None:
    assert imbalance({"a": 30, "b": 20}) == 1.5
    assert imbalance({}) == 1


def test_the_fatal_kinds_come_first() -> None:
    fatal = [kind.is_fatal for kind in KINDS.values()]
    assert fatal == sorted(fatal, reverse=True)
