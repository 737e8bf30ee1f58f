import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pyarrow.parquet
import pytest
import torch

import allencv
from allencv.classify.partial_output import UnfinishedRun
from allencv.common.archives import load_archive
from allencv.features import embedding
from allencv.features.embedding import (
    CachedEncoder,
    embed,
    image_vectors,
    open_encoder,
    open_store,
)
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime import BundleError, ImageError, open_bundle
from allencv.runtime.bundle import MANIFEST
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile, list_images
from tests.conftest import run_in_process
from tests.runtime.tiny_bundle import write_bundle


@pytest.fixture
def archive(trained_run: Path) -> Path:
    return trained_run / "model.tar.gz"


@pytest.fixture
def photos(cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The images of `photos` in the working directory, with an empty cache beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    shutil.copytree(cats_and_dogs / "test", "photos")
    return sorted(map(str, Path("photos").glob("*/*.jpg")))


def read_npz(path: str) -> Dict[str, Any]:
    with np.load(path) as file:
        return dict(file)


@torch.no_grad()
def expected_vectors(archive: Path, images: List[str]) -> np.ndarray:
    """The output of the archive's encoders."""
    loaded = load_archive(archive)
    model, reader = loaded.model.eval(), loaded.validation_dataset_reader
    pixels = [reader.text_to_instance(image)["image"].as_tensor({}) for image in images]
    encoded = model._im2im_encoder(model.normalize(torch.stack(pixels)))
    return model._im2vec_encoder(encoded).numpy()


def count_computed(monkeypatch: pytest.MonkeyPatch, at_most: Optional[int] = None) -> List[int]:
    """Note the sizes of the batches that an archive computes, and interrupt it after some."""
    sizes: List[int] = []
    vectors = ArchiveClassifier.vectors

    def counted(self: ArchiveClassifier, images: np.ndarray) -> np.ndarray:
        if len(sizes) == at_most:
            raise KeyboardInterrupt
        sizes.append(len(images))
        return vectors(self, images)

    monkeypatch.setattr(ArchiveClassifier, "vectors", counted)
    return sizes


def test_vectors_of_an_archive(archive: Path, photos: List[str]) -> None:
    embedded = embed(archive, "photos", "out/vectors.npz", device="cpu")
    assert embedded[:4] == (len(photos), 0, 0, 0)
    found = read_npz("out/vectors.npz")
    assert sorted(found) == ["labels", "model", "names", "vectors"]
    assert found["names"].tolist() == photos
    assert found["labels"].tolist() == [Path(photo).parent.name for photo in photos]
    assert found["vectors"].dtype == np.float32
    expected = expected_vectors(archive, photos)
    assert np.allclose(found["vectors"], expected, rtol=1e-3, atol=1e-6)
    assert np.array_equal(found["vectors"], found["vectors"].astype(np.float16))
    assert np.ptp(expected, axis=0).max() > 0.01  # images differ
    assert not list(Path("out").glob("*.part"))


@pytest.fixture(scope="module")
def bundle(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "pets"
    allencv.export(trained_run / "model.tar.gz", folder, parity=False)
    return folder


@pytest.mark.slow
def test_vectors_of_a_bundle(
    bundle: Path, archive: Path, photos: List[str], tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    for output, model in (("a.npz", bundle), ("b.npz", copy)):
        assert embed(model, "photos", output).known == (model == copy) * len(photos)
    assert embed(archive, "photos", "c.npz").known == 0
    vectors = read_npz("a.npz")["vectors"]
    np.testing.assert_allclose(vectors, expected_vectors(archive, photos), rtol=1e-3, atol=1e-6)
    # Another bundle of the same network is another address.
    manifest = open_bundle(copy)
    other = replace(manifest, versions={**manifest.versions, "onnx": "0"})
    (copy / MANIFEST).write_bytes(other.to_bytes())
    assert embed(copy, "photos", "d.npz").known == 0


@pytest.mark.slow
def test_vectors_of_a_bundle_for_torch(archive: Path, photos: List[str], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    allencv.export(archive, folder, format="torch_export", parity=False)
    with pytest.raises(BundleError, match=r"set trusted=True \(--trust-archive\)"):
        embed(folder, "photos", "vectors.npz")
    embed(folder, "photos", "vectors.npz", cache=False, trusted=True)
    vectors = read_npz("vectors.npz")["vectors"]
    np.testing.assert_allclose(vectors, expected_vectors(archive, photos), rtol=1e-4, atol=1e-6)


def test_options_that_a_bundle_has_not(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "colours")
    for options, message in (
        ({"device": "cpu"}, "is a bundle, which runs on the CPU; expected no --device"),
        ({"trusted": True}, "is an ONNX bundle; expected no --trust-archive"),
        ({"size": 64}, "is a bundle; --size is for a network of timm's"),
    ):
        with pytest.raises(InputError) as raised:
            open_encoder(folder, **options)
        assert str(raised.value) == f"'{folder}' {message}"
    old = replace(open_bundle(folder), vector_size=None)
    (folder / MANIFEST).write_bytes(old.to_bytes())
    with pytest.raises(BundleError, match=r"colours' gives no vectors: .* export it again"):
        open_encoder(folder)


def test_without_the_cache_vectors_are_exact(archive: Path, photos: List[str]) -> None:
    embed(archive, "photos", "vectors.npz", device="cpu", cache=False)
    vectors = read_npz("vectors.npz")["vectors"]
    assert np.allclose(vectors, expected_vectors(archive, photos), rtol=1e-5, atol=1e-6)
    assert not Path("cache").exists()


def test_images_seen_before_are_not_computed_again(
    archive: Path, photos: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(archive, photos[1:], "first.npz", device="cpu")
    computed = count_computed(monkeypatch)
    shutil.copyfile(photos[2], photos[3])  # the same content under another name
    assert embed(archive, "photos", "second.npz", device="cpu").known == len(photos) - 1
    assert computed == [1]
    first, second = read_npz("first.npz")["vectors"], read_npz("second.npz")["vectors"]
    assert np.array_equal(second[1:3], first[:2])
    assert np.array_equal(second[3], second[2])
    assert np.array_equal(second[4:], first[3:])
    # Another option or model is another address.
    embed(archive, photos, "third.npz", device="cpu", cache=False)
    assert sum(computed) == 1 + len(photos)


def changed_run(archive: Path, change: Callable[[Dict[str, Any], Dict[str, Any]], object]) -> Path:
    """A copy of a run, after `change` was given its config and its weights."""
    folder = Path(tempfile.mkdtemp(dir=".")) / "run"
    shutil.copytree(archive.parent, folder)
    config = json.loads((folder / "config.json").read_text())
    weights = torch.load(folder / "best.th")
    change(config, weights)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights, folder / "best.th")
    return folder


def test_archives_with_the_same_encoder_share_vectors(
    archive: Path, photos: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(archive, "photos", "vectors.npz", device="cpu")

    def change_head(config: Dict[str, Any], weights: Dict[str, Any]) -> None:
        config["model"]["dropout"] = 0.5
        weights["_classification_layer.weight"] += 1

    def change_weight(config: Dict[str, Any], weights: Dict[str, Any]) -> None:
        next(each for name, each in weights.items() if name.startswith("_im2im")).flatten()[0] += 1

    def change_size(config: Dict[str, Any], weights: Dict[str, Any]) -> None:
        config["validation_dataset_reader"]["transforms"] = [{"type": "eval", "size": 40}]

    def change_mean(config: Dict[str, Any], weights: Dict[str, Any]) -> None:
        config["model"]["pixel_mean"] = [0.5, 0.5, 0.5]

    with monkeypatch.context() as patched:
        computed = count_computed(patched)
        other = changed_run(archive, change_head)
        assert embed(other, "photos", "other.npz", device="cpu").known == len(photos)
        assert not computed
        assert read_npz("other.npz")["model"] == read_npz("vectors.npz")["model"]
    for change in (change_weight, change_size, change_mean):
        other = changed_run(archive, change)
        assert embed(other, "photos", "other.npz", device="cpu").known == 0, change
        assert read_npz("other.npz")["model"] != read_npz("vectors.npz")["model"]


def test_an_interrupted_run_resumes(
    archive: Path, photos: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: Dict[str, Any] = {"device": "cpu", "cache": False, "batch_size": 2}
    embed(archive, "photos", "whole.npz", **options)
    with monkeypatch.context() as patched:
        count_computed(patched, at_most=1)
        with pytest.raises(KeyboardInterrupt):
            embed(archive, "photos", "vectors.npz", **options)
    assert not Path("vectors.npz").exists()
    with pytest.raises(InputError, match=r"--no-cache True, not False"):
        embed(archive, "photos", "vectors.npz", **{**options, "cache": True})
    computed = count_computed(monkeypatch)
    embed(archive, "photos", "vectors.npz", **options)
    assert sum(computed) == len(photos) - 2
    assert Path("vectors.npz").stat().st_size == Path("whole.npz").stat().st_size
    for key, values in read_npz("whole.npz").items():
        assert np.array_equal(read_npz("vectors.npz")[key], values)
    assert not Path("vectors.npz.part").exists()


def test_a_damaged_image_has_an_error(archive: Path, photos: List[str]) -> None:
    good, damaged = photos[0], "photos/Dog/zebra.jpg"
    Path(damaged).write_bytes(Path(good).read_bytes()[:100])
    for output in ("vectors.npz", "vectors.parquet"):
        embedded = embed(archive, "photos", output, device="cpu")
        assert embedded[:3] == (len(photos) + 1, 1, len(photos) * (output != "vectors.npz"))
    found = read_npz("vectors.npz")
    assert found["names"].tolist() == photos
    assert found["failed"].tolist() == [damaged]
    (error,) = found["errors"].tolist()
    assert error.startswith(f"{damaged}: ")
    assert "bytes:" not in error
    table = pyarrow.parquet.read_table("vectors.parquet").to_pydict()
    assert list(table) == ["path", "label", "vector", "error"]
    assert table["path"] == [*photos, damaged]
    assert table["label"] == [Path(path).parent.name for path in table["path"]]
    assert table["error"] == [None] * len(photos) + [error]
    assert table["vector"][-1] is None
    assert np.array_equal(np.float32(table["vector"][:-1]), found["vectors"])


def test_images_in_the_folder_itself_have_no_label(archive: Path, photos: List[str]) -> None:
    shutil.copyfile(photos[0], "photos/Cat/new.jpg")
    Path("photos/Cat/notes.txt").write_text("none")
    embedded = embed(archive, "photos/Cat", "vectors.npz", device="cpu")
    assert embedded.others == ["photos/Cat/notes.txt"]
    assert sorted(read_npz("vectors.npz")) == ["model", "names", "vectors"]
    embed(archive, ["photos/Cat", photos[-1], photos[-1]], "vectors.parquet", device="cpu")
    assert pyarrow.parquet.read_schema("vectors.parquet").names == ["path", "vector", "error"]


def test_parquet_without_pyarrow_is_refused_first(
    archive: Path, photos: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"'v.parquet': Parquet needs pyarrow, which is not"):
        embed("nowhere", photos, "v.parquet")


class FakeEncoder:
    """Gives an image its first number, as often as `vector_size`; not for wide images."""

    encoder_checksum = "fake"
    preprocessing_text = ""
    vector_size = 2

    def __init__(self, factor: float = 1) -> None:
        self.factor = np.float32(factor)

    def preprocess(self, source: Any) -> np.ndarray:
        return np.frombuffer(source, np.uint8).reshape(1, -1, 1)

    def vectors(self, images: np.ndarray) -> np.ndarray:
        if images.shape[2] > 2:
            raise ImageError("the network does not take 3 pixels")
        with np.errstate(all="ignore"):
            return np.repeat(images[:, 0, :1, 0], 2, 1) / images[:, 0, -1:, 0] * self.factor


def outcomes(cached: CachedEncoder, *images: bytes) -> List[Any]:
    files = [ImageFile(str(place), str(place), image) for place, image in enumerate(images)]
    found = cached.vectors(dict(enumerate(map(cached.prepare, files))))
    return [found[place] for place in range(len(images))]


def test_sizes_and_errors_may_be_mixed(photos: List[str]) -> None:
    cached = CachedEncoder(FakeEncoder(), open_store(FakeEncoder()))
    for _ in range(2):
        one, nan, wide, two = outcomes(cached, b"\x07", b"\x00\x00", b"\x01" * 3, b"\x09\x03")
        assert (one.tolist(), two.tolist()) == ([1, 1], [3, 3])
        assert nan == embedding.NOT_FINITE
        assert wide == "the network does not take 3 pixels"
    assert cached.known == 2


def test_numbers_too_large_for_the_cache_are_refused(photos: List[str]) -> None:
    large = FakeEncoder(70_000)
    with pytest.raises(InputError) as raised:
        outcomes(CachedEncoder(large, open_store(large)), b"\x01")
    assert str(raised.value) == (
        "the encoder's output has 70000; expected numbers from -65504 to 65504, as features are "
        "kept in float16 (--no-cache keeps none)"
    )
    (vector,) = outcomes(CachedEncoder(large), b"\x01")
    assert vector.tolist() == [70_000, 70_000]


def test_what_is_no_model_is_refused(archive: Path) -> None:
    with pytest.raises(InputError, match=r"no model 'resnet81'; expected .* such as resnet18"):
        open_encoder("resnet81")
    with pytest.raises(InputError, match=r"is an archive; --size is for"):
        open_encoder(archive, size=3)
    with pytest.raises(InputError, match=r"is an archive; --precision is for"):
        open_encoder(archive, precision="bfloat16")


def test_other_outputs_are_refused() -> None:
    with pytest.raises(InputError) as raised:
        allencv.embed("resnet18", "photos", "vectors.csv")
    assert str(raised.value) == (
        "--output is 'vectors.csv'; expected a file whose name ends in .parquet, .npz"
    )


def test_the_command(
    archive: Path, photos: List[str], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    Path("photos/notes.txt").write_text("none")
    Path("photos/zebra.jpg").write_bytes(b"")
    command = ["embed", str(archive), "photos", photos[0], "--device", "cpu", "-o", "v.npz"]
    run_in_process(*command)
    assert capsys.readouterr().out.splitlines() == [
        "skipped files that are not images: 1 (photos/notes.txt ...)",
        "images named several times, embedded once: 1",
        f"v.npz: {len(photos) + 1} images, 1 error",
    ]
    with pytest.raises(SystemExit) as raised:
        run_in_process(*command, "--fail-on-error", "--cache-gb", "1")
    assert raised.value.code == (
        f"allencv: v.npz: {len(photos) + 1} images ({len(photos)} kept from before), 1 error"
    )
    UnfinishedRun("v.npz.part", {"model": "another", "--no-cache": True}, False).close()
    run_in_process(*command, "--restart", "--no-cache", "--batch-size", "3", "--workers", "1")
    assert read_npz("v.npz")["failed"].tolist() == ["photos/zebra.jpg"]


@pytest.mark.parametrize("cache", [True, False])
def test_vectors_in_memory_are_those_of_the_file(
    archive: Path, photos: List[str], cache: bool
) -> None:
    Path("photos/broken.jpg").write_text("no image")
    embed(archive, "photos", "vectors.npz", cache=cache)
    expected = read_npz("vectors.npz")
    images = list_images(["photos"], "path").images
    found = image_vectors(open_encoder(archive), images, batch_size=4, cache=cache)
    assert [image.name for image in found.images] == expected["names"].tolist()
    assert found.vectors.dtype == (np.float16 if cache else np.float32)
    # Without the cache, batches of another size round differently.
    np.testing.assert_allclose(found.vectors, expected["vectors"], rtol=0 if cache else 1e-4)
    assert found.errors == dict(zip(expected["failed"].tolist(), expected["errors"].tolist()))
    assert list(found.errors) == [str(Path("photos/broken.jpg"))]
