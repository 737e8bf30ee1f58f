import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from allencv.classify.joining import join
from allencv.classify.output_files import columns, write_answers
from allencv.classify.shards import Shard, describe_part, list_digest
from allencv.runtime.errors import InputError
from allencv.runtime.path_tables import paths_in
from tests.classify.command_test import bundle, classify  # noqa: F401 - a fixture
from tests.conftest import write_images

SHARDS = 3


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """17 images, of which the second is damaged, and two have names that CSV quotes."""
    write_images(tmp_path / "photos", {"a": 9, "c": 8})
    (tmp_path / "photos" / "a" / "001.jpg").write_bytes(b"")
    os.rename(tmp_path / "photos/a/003.jpg", tmp_path / 'photos/a/003, "old".jpg')
    os.rename(tmp_path / "photos/c/002.jpg", tmp_path / "photos/c/00\r2.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def classify_parts(bundle: Path, suffix: str, *options: object) -> List[str]:  # noqa: F811
    parts = [f"part-{number}{suffix}" for number in range(1, SHARDS + 1)]
    for number, part in enumerate(parts, 1):
        shard = f"{number}/{SHARDS}"
        classify(bundle, "photos", "-o", part, "--shard", shard, "--batch-size", 2, *options)
    return parts


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_joined_parts_are_the_file_of_one_run(
    bundle: Path,  # noqa: F811
    photos: Path,
    suffix: str,
    capsys: pytest.CaptureFixture,
) -> None:
    parts = classify_parts(bundle, suffix, "--probabilities")
    assert [len(list(paths_in(part, "path"))) for part in parts] == [6, 6, 5]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"part-1{suffix}: 6 images, 1 error"
    classify(bundle, "photos", "-o", f"one{suffix}", "--batch-size", 2, "--probabilities")
    assert join([parts[2], parts[0], parts[1]], f"joined{suffix}") == 17
    assert Path(f"joined{suffix}").read_bytes() == Path(f"one{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_parts_may_be_empty(bundle: Path, photos: Path, suffix: str) -> None:  # noqa: F811
    for number in range(1, 6):
        classify(
            *(bundle, "photos", "-o", f"part-{number}{suffix}"),
            *("--shard", f"{number}/5", "--batch-size", 10),
        )
    counts = [len(list(paths_in(f"part-{number}{suffix}", "path"))) for number in range(1, 6)]
    assert sorted(counts) == [0, 0, 0, 7, 10]
    classify(bundle, "photos", "-o", f"one{suffix}", "--batch-size", 10)
    assert join([f"part-{number}{suffix}" for number in range(1, 6)], f"all{suffix}") == 17
    assert Path(f"all{suffix}").read_bytes() == Path(f"one{suffix}").read_bytes()


def change(name: str, value: Any) -> Callable[[], None]:
    """Change what the description of part 2 says."""

    def changed() -> None:
        file = Path("part-2.csv.shard")
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return changed


def change_answers(name: str, value: Any) -> Callable[[], None]:
    def changed() -> None:
        answers = json.loads(Path("part-2.csv.shard").read_text())["answers"]
        change("answers", {**answers, name: value})()

    return changed


def cut() -> None:
    text = Path("part-2.csv").read_text()
    Path("part-2.csv").write_text(text[: len(text) // 2])


MISTAKES: Dict[str, Any] = {
    "a part of another model": (
        change_answers("model", "abc"),
        "'part-2.csv' has another model than 'part-1.csv'; expected parts of the same",
    ),
    "other options": (
        change_answers("--top-k", 1),
        r"'part-2.csv' has another --top-k than 'part-1.csv': 1, not 3;",
    ),
    "another number of shards": (change("shards", 4), r"another number of shards .*: 4, not 3"),
    "another list": (change("all_images", "abc"), "'part-2.csv' is a part of another list of"),
    "a part twice": (change("shard", 1), "'part-1.csv' and 'part-2.csv' are both shard 1/3"),
    "other columns": (change("columns", {}), "are of different versions of AllenCV"),
    "a damaged description": (
        lambda: Path("part-2.csv.shard").write_text("{"),
        "'part-2.csv.shard' is damaged; classify this part again",
    ),
    "a part that was cut": (cut, "'part-2.csv' has changed since it was written"),
    "a missing file": (lambda: os.remove("part-2.csv"), "'part-2.csv' does not exist; expected"),
    "a missing description": (
        lambda: os.remove("part-2.csv.shard"),
        "'part-2.csv' has no 'part-2.csv.shard' beside it",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_parts_that_do_not_fit_are_refused(
    bundle: Path,  # noqa: F811
    photos: Path,
    mistake: str,
) -> None:
    parts = classify_parts(bundle, ".csv")
    make, message = MISTAKES[mistake]
    make()
    with pytest.raises(InputError, match=message):
        join(parts, "all.csv")
    assert not Path("all.csv").exists()


def test_a_part_that_is_given_twice(bundle: Path, photos: Path) -> None:  # noqa: F811
    first, *others = classify_parts(bundle, ".csv")
    with pytest.raises(InputError, match=f"'{first}' is given twice; expected each part once"):
        join([first, first, *others], "all.csv")


def swap(folder: Path, name: str, content: bytes) -> str:
    """Replace an image by another. Return the error of parts made before and after."""
    file = folder / name
    before = f"{file.stat().st_size} bytes" if file.exists() else "no file"
    file.write_bytes(content)
    return f"'photos/{name}' had {len(content)} bytes, not {before}; classify the parts again"


@pytest.mark.parametrize("name", ["a/000.jpg", "c/007.jpg"])
def test_parts_of_other_images_with_the_same_names(
    bundle: Path,  # noqa: F811
    photos: Path,
    name: str,
) -> None:
    """Wherever they are in the list; whichever part they are in."""
    parts = classify_parts(bundle, ".csv")
    said = swap(photos, name, b"another")
    classify(bundle, "photos", "-o", parts[1], "--shard", "2/3", "--batch-size", 2)
    with pytest.raises(InputError, match=f"^'{parts[1]}' was made from other images.*: {said}"):
        join(parts, "all.csv")
    assert not Path("all.csv").exists()
    for number in (1, 3):
        shard = f"{number}/3"
        classify(bundle, "photos", "-o", parts[number - 1], "--shard", shard, "--batch-size", 2)
    assert join(parts, "all.csv") == 17


def test_a_file_that_only_some_jobs_see(bundle: Path, tmp_path: Path) -> None:  # noqa: F811
    """A table lists it."""
    write_images(tmp_path, {"photos": 2})
    (tmp_path / "list.txt").write_text("photos/000.jpg\nphotos/001.jpg\n")
    parts = [str(tmp_path / f"{number}.csv") for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        shard = f"{number}/2"
        classify(bundle, tmp_path / "list.txt", "-o", part, "--shard", shard, "--batch-size", 1)
        (tmp_path / "photos" / "000.jpg").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"'photos/000.jpg' had no file, not \d+ bytes; classify"):
        join(parts, str(tmp_path / "all.csv"))


def test_copies_of_the_images_elsewhere_are_the_same(
    bundle: Path,  # noqa: F811
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on other machines: with other times, in another folder."""
    classify(bundle, "photos", "-o", "1.csv", "--shard", "1/2")
    elsewhere = photos.parent / "elsewhere"
    shutil.copytree(photos, elsewhere / "photos", copy_function=shutil.copyfile)
    monkeypatch.chdir(elsewhere)
    classify(bundle, "photos", "-o", "../2.csv", "--shard", "2/2")
    assert join(["../1.csv", "../2.csv"], "all.csv") == 17


def test_missing_parts_are_named(bundle: Path, photos: Path) -> None:  # noqa: F811
    parts = classify_parts(bundle, ".csv")
    with pytest.raises(InputError, match="^1 part given; expected 3: --shard 1/3, 3/3 missing$"):
        join(parts[1:2], "all.csv")
    for arguments, message in (
        ((parts, "all.jsonl"), "'part-1.csv' and --output 'all.jsonl' have different formats"),
        ((parts, "all.txt"), "--output is 'all.txt'; expected a file whose name ends in .csv"),
        ((parts, "./part-1.csv"), "--output is './part-1.csv', also a part"),
    ):
        with pytest.raises(InputError, match=message):
            join(*arguments)


def test_many_missing_parts_are_counted(bundle: Path, photos: Path) -> None:  # noqa: F811
    classify(bundle, "photos", "-o", "part.csv", "--shard", "2/999999999")
    missing = ", ".join(f"{number}/999999999" for number in (1, *range(3, 12)))
    message = f"^1 part given; expected 999999999: --shard {missing} and 999999988 more missing$"
    with pytest.raises(InputError, match=message):
        join(["part.csv"], "all.csv")


def test_a_joined_file_may_replace_a_part_of_another_run(
    bundle: Path,  # noqa: F811
    photos: Path,
) -> None:
    classify(bundle, "photos", "-o", "all.csv", "--shard", "1/2")
    join(classify_parts(bundle, ".csv"), "all.csv")
    assert not Path("all.csv.shard").exists()


def test_parts_whose_list_comes_from_standard_input(
    bundle: Path,  # noqa: F811
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = b"photos/c/001.jpg\nphotos/a/000.jpg\nphotos/a/001.jpg\n"
    for number in (1, 2):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(names)))
        shard = f"{number}/2"
        classify(bundle, "-", "-o", f"{number}.csv", "--shard", shard, "--batch-size", 1)
    assert join(["2.csv", "1.csv"], "all.csv") == 3
    assert list(paths_in("all.csv", "path")) == names.decode().split()


def test_a_shard_resumes_after_the_list_has_changed(
    bundle: Path,  # noqa: F811
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it joins with are parts of the new list alone."""
    parts = classify_parts(bundle, ".csv")
    with monkeypatch.context() as patch:
        patch.setattr("allencv.classify.command.write_answers", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            classify(bundle, "photos", "-o", parts[0], "--shard", "1/3", "--batch-size", 2)
    assert Path("part-1.csv.part").exists()
    (photos / "a" / "000.jpg").unlink()
    classify(bundle, "photos", "-o", parts[0], "--shard", "1/3", "--batch-size", 2)
    with pytest.raises(InputError, match=f"'{parts[1]}' is a part of another list of images"):
        join(parts, "all.csv")
    assert join(classify_parts(bundle, ".csv"), "all.csv") == 16
    classify(bundle, "photos", "-o", "one.csv", "--batch-size", 2)
    assert Path("all.csv").read_bytes() == Path("one.csv").read_bytes()


def test_an_image_twice_or_missing_is_found_by_the_names_in_the_parts(tmp_path: Path) -> None:
    """Whatever the descriptions say."""
    kinds = columns(["dog", "cat"], False, 1, False)
    digest = list_digest(["a.jpg", "b.jpg"])
    for names in (["a.jpg", "a.jpg"], ["a.jpg"], ["b.jpg", "a.jpg"], ["a.jpg", "b.jpg", "c.jpg"]):
        output = str(tmp_path / "part.csv")
        write_answers(output, kinds, [{"path": name, "error": "bad"} for name in names])
        describe_part(output, Shard(1, 1), digest, [], {}, kinds)
        with pytest.raises(InputError, match="do not have each image of their list once"):
            join([output], str(tmp_path / "all.csv"))
        assert not (tmp_path / "all.csv").exists()


def test_a_part_replaces_an_older_one_with_its_description(
    bundle: Path,  # noqa: F811
    photos: Path,
) -> None:
    """Of a plain run over the same file none is left."""
    classify(bundle, "photos", "-o", "part.csv", "--shard", "1/1")
    before = Path("part.csv.shard").read_bytes()
    shutil.rmtree("photos/c")
    classify(bundle, "photos", "-o", "part.csv", "--shard", "1/1")
    assert Path("part.csv.shard").read_bytes() != before
    assert join(["part.csv"], "all.csv") == 9
    classify(bundle, "photos", "-o", "part.csv")
    assert not Path("part.csv.shard").exists()
