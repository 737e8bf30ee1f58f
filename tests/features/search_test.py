import argparse
import inspect
import json
import shutil
from pathlib import Path
from typing import List

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import allencv
from allencv.commands.embed import add_vector_options, vector_options
from allencv.features.embedding import embed, image_vectors, open_encoder
from allencv.features.search import search
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import list_images
from tests.conftest import write_images


@pytest.fixture
def archive(trained_run: Path) -> Path:
    return trained_run / "model.tar.gz"


@pytest.fixture
def photos(cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The images of `photos` in the working directory, with an empty cache beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    shutil.copytree(cats_and_dogs / "test", "photos")
    write_images(Path("new"), {"fish": 2}, seed=9)
    return sorted(map(str, Path("photos").glob("*/*.jpg")))


def test_the_most_similar_come_first(archive: Path, photos: List[str]) -> None:
    found = allencv.search(archive, "new", Path("photos"), count=3, cache=False)
    assert (found.images, found.errors, found.others) == (len(photos), {}, [])
    assert [query.path for query in found.queries] == ["new/fish/000.jpg", "new/fish/001.jpg"]
    encoder = open_encoder(archive)
    images = list_images(["new", "photos"], "path").images
    vectors = image_vectors(encoder, images, cache=False).vectors
    for query, cosines in zip(found.queries, cosine_similarity(vectors[:2], vectors[2:])):
        order = np.argsort(-cosines)[:3]
        assert [each.path for each in query.similar] == [photos[row] for row in order]
        assert [each.label for each in query.similar] == [
            Path(photos[row]).parent.name for row in order
        ]
        similarities = [each.similarity for each in query.similar]
        np.testing.assert_allclose(similarities, cosines[order], rtol=1e-5)


def test_copies_are_found_but_not_the_file_itself(archive: Path, photos: List[str]) -> None:
    shutil.copyfile(photos[0], "photos/Dog/copy.jpg")
    Path("link.jpg").symlink_to(photos[0])
    for query in (photos[0], Path(photos[0]).absolute(), "link.jpg"):
        (found,) = search(archive, query, "photos", count=100).queries
        assert sorted(each.path for each in found.similar) == sorted(
            [*photos[1:], "photos/Dog/copy.jpg"]
        )
        assert found.similar[0].path == "photos/Dog/copy.jpg"
        assert found.similar[0].similarity == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_file_of_vectors_is_searched_without_images(
    archive: Path, photos: List[str], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("photos/Dog/zebra.jpg").write_text("none")
    expected = search(archive, photos[0], "photos", count=4)
    assert list(expected.errors) == ["photos/Dog/zebra.jpg"]
    embed(archive, "photos", f"vectors{suffix}")
    with monkeypatch.context() as patched:
        patched.delattr(ArchiveClassifier, "preprocess")  # all vectors are kept
        shutil.move("photos/Dog", "gone")
        assert search(archive, photos[0], f"vectors{suffix}", count=4) == expected
    with pytest.raises(InputError, match=rf"in 'vectors{suffix}' are of another model or option"):
        search(other_model(archive), photos[0], f"vectors{suffix}")
    with pytest.raises(InputError, match=r"expected one file of vectors, or images"):
        search(archive, photos[0], [f"vectors{suffix}", "photos"])


def other_model(archive: Path) -> Path:
    """A copy of a run with another normalisation: its vectors are not comparable."""
    folder = Path(shutil.copytree(archive.parent, "other"))
    config = json.loads((folder / "config.json").read_text())
    config["model"]["pixel_mean"] = [0.5, 0.5, 0.5]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_images_that_cannot_be_read(archive: Path, photos: List[str]) -> None:
    Path("broken.jpg").write_text("none")
    Path("photos/Cat/broken.jpg").write_text("none")
    Path("photos/Cat/notes.txt").write_text("none")
    found = search(archive, ["broken.jpg", "new"], "photos", count=1)
    broken, *others = found.queries
    assert broken.error is not None
    assert broken.error.startswith("broken.jpg: ")
    assert broken.similar == []
    assert [query.error for query in others] == [None, None]
    assert all(len(query.similar) == 1 for query in others)
    assert list(found.errors) == ["photos/Cat/broken.jpg"]
    assert found.others == ["photos/Cat/notes.txt"]
    assert found.images == len(photos)


def test_nothing_to_search_is_an_error(archive: Path, photos: List[str]) -> None:
    Path("broken.jpg").write_text("none")
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"^no image to search for: broken.jpg: .*not an image"):
        search(archive, "broken.jpg", "photos")
    with pytest.raises(InputError, match=r"^no image to compare with: broken.jpg: "):
        search(archive, photos[0], "broken.jpg")
    with pytest.raises(InputError, match=r"^'empty' gives no image"):
        search(archive, photos[0], "empty")
    with pytest.raises(InputError, match=r"^'missing.jpg' gives no image"):
        search(archive, "missing.jpg", "photos")
    with pytest.raises(InputError, match=r"^--count is 0; expected at least 1"):
        search(archive, photos[0], "photos", count=0)


def test_the_precision_is_not_ignored(archive: Path, photos: List[str]) -> None:
    with pytest.raises(InputError, match="--precision is for"):
        allencv.search(archive, "new", "photos", precision="bfloat16")
    arguments = argparse.ArgumentParser()
    add_vector_options(arguments)
    values = vector_options(arguments.parse_args(["--precision", "bfloat16"]))
    assert values["precision"] == "bfloat16"
    for function in (embed, search):
        assert values.keys() <= inspect.signature(function).parameters.keys()
