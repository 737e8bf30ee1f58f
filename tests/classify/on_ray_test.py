import io
import os
import signal
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Dict, Iterator, List

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from allencv.classify.on_ray import images_in, with_images_inside
from allencv.runtime.errors import InputError
from allencv.runtime.ray_cluster import connected_ray
from tests.classify.command_test import bundle, classify  # noqa: F401 - a fixture
from tests.conftest import write_images


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of this machine, which the commands of this module use."""
    pytest.importorskip("ray")
    with connected_ray() as ray:
        yield ray


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images, a damaged one, and one whose name is not Unicode."""
    write_images(tmp_path / "photos", {"a": 3, "c": 3})
    (tmp_path / "photos" / "b.jpg").touch()
    os.rename(tmp_path / "photos/c/000.jpg", os.fsencode(tmp_path) + b"/photos/c/caf\xe9.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def write_tar(file: str, photos: Path) -> List[bytes]:
    """Write a shard with the images of a folder, and a label for each. Return their bytes."""
    contents = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    with tarfile.open(file, "w") as archive:
        for number, content in enumerate(contents):
            for suffix, data in ((".jpg", content), (".cls", b"3")):
                member = tarfile.TarInfo(f"{number:04d}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return contents


def rows_of(output: str) -> List[Dict[str, Any]]:
    return sorted(parquet.read_table(output).to_pylist(), key=lambda row: row["path"])


@pytest.mark.exhaustive
def test_the_answers_are_those_of_the_plain_command(
    ray: Any,
    bundle: Path,  # noqa: F811
    photos: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """Those of images that cannot be read too, and of paths in a folder and in a table."""
    Path("list.csv").write_text("path\nphotos/a/000.jpg\nnowhere.jpg\n")
    arguments = (bundle, "photos/b.jpg", "photos/c", "list.csv", "--probabilities")
    classify(*arguments, "-o", "plain.parquet")
    said = capsys.readouterr().out
    classify(*arguments, "-o", "out", "--on", "ray", "--parallel", 1)
    assert capsys.readouterr().out == said.replace("plain.parquet", "out")
    assert parquet.read_schema("plain.parquet").equals(
        parquet.read_schema(next(Path("out").glob("*.parquet")))
    )
    assert rows_of("out") == rows_of("plain.parquet")
    assert not list(Path().glob(".allencv*"))


@pytest.mark.exhaustive
def test_images_inside_of_files(ray: Any, bundle: Path, photos: Path) -> None:  # noqa: F811
    contents = write_tar("shard-0.tar", photos)
    table = {"image": [{"bytes": content, "path": "x"} for content in [*contents, None]]}
    parquet.write_table(pyarrow.table(table), "images.parquet")
    classify(bundle, "photos", "-o", "plain.parquet")
    arguments = ("shard-*.tar", "images.parquet", "photos/a/000.jpg", "--column", "image")
    classify(bundle, *arguments, "-o", "out", "--on", "ray", "--parallel", 2)
    plain = {row.pop("path"): row for row in rows_of("plain.parquet")}
    # Tables show what is not Unicode in a name so.
    names = [
        str(file.relative_to(photos.parent)).encode("utf-8", "backslashreplace").decode()
        for file in sorted(photos.rglob("*.jpg"))
    ]
    expected = [plain[name] for name in names]
    found = {row.pop("path"): row for row in rows_of("out")}
    assert len(found) == 2 * len(contents) + 2
    assert found["photos/a/000.jpg"] == plain["photos/a/000.jpg"]
    for number, row in enumerate(expected):
        for name in (f"shard-0.tar/{number:04d}.jpg", f"images.parquet#{number + 1}"):
            given = found[name]
            if row["error"] is None:
                assert given == row
            else:
                assert given["error"] == f"{name}: the file is empty (0 bytes)"
    last = f"images.parquet#{len(contents) + 1}"
    assert found[last]["error"] == f"{last}: the file is empty (0 bytes)"


@pytest.mark.exhaustive
def test_a_worker_that_dies_loses_and_doubles_no_image(
    ray: Any,
    bundle: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is killed while it classifies."""
    psutil = pytest.importorskip("psutil")
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    Path("images").mkdir()
    for number in range(4):
        Image.fromarray(np.roll(pixels, number, axis=2) // (number + 1)).save(f"{number}.jpg")
    for number in range(160):
        Path(f"images/{number:03d}.jpg").symlink_to(f"../{number % 4}.jpg")
    Path("images/damaged.jpg").write_bytes(b"JPEG")
    killed: List[int] = []

    def kill() -> None:
        title = ""
        while not killed:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it has ended
                    title = " ".join(process.cmdline())
                if "MapWorker" in title and "submit" in title:
                    time.sleep(0.3)
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.02)

    thread = Thread(target=kill, daemon=True)
    thread.start()
    options = ("--batch-size", 2)
    classify(bundle, "images", "-o", "out", "--on", "ray", "--parallel", 2, *options)
    assert killed, "no worker was killed"
    classify(bundle, "images", "-o", "plain.parquet", *options)
    assert rows_of("out") == rows_of("plain.parquet")


@pytest.mark.exhaustive
def test_errors_of_workers_are_those_of_the_plain_command(
    ray: Any,
    bundle: Path,  # noqa: F811
    photos: Path,
) -> None:
    Path("broken.tar").write_bytes(b"x" * 10_000)
    Path("empty.tar").write_bytes(b"\0" * 10_240)
    for arguments, message in (
        (["photos", "--threshold", 0.5], "gives each image one label; --threshold and"),
        (["photos", "--device", "cpu"], "is a bundle; --device and --trust-archive"),
        (["photos", "--device", "cuda:1"], "--device is cuda:1; expected cpu or cuda, as Ray"),
        (
            ["photos", "--parallel", 9999],
            "--parallel is 9999; expected at most .*, the number of CPU",
        ),
        (["broken.tar"], "'broken.tar' cannot be read as a tar file: "),
        (["empty.tar"], "the files hold no image; expected images in tar files"),
    ):
        with pytest.raises(InputError, match=message):
            classify(bundle, *arguments, "-o", "out", "--on", "ray")
    assert not Path("out").exists()
    assert not list(Path().glob(".allencv*"))


def test_ray_is_an_extra(
    bundle: Path,  # noqa: F811
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r'^--on ray needs Ray, which is not installed: pip install "ray\[data\]>=[\d.]+"$'
    with pytest.raises(InputError, match=message):
        classify(bundle, "photos", "-o", "out", "--on", "ray")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.parquet"], "--output is 'out.parquet'; expected a folder, for Parquet"),
        ([], "--on ray needs a folder to write; expected --output FOLDER"),
        (["-o", "photos"], "--output 'photos' exists; expected a new or an empty folder"),
        (["-o", "out", "--parallel", "0"], "--parallel is 0; expected at least 1"),
        (["-o", "out", "--shard", "1/2"], "--on ray has no --shard; expected one of the two"),
        (["-o", "out", "--restart"], "--on ray has no --restart"),
    ],
)
def test_bad_arguments(
    bundle: Path,  # noqa: F811
    photos: Path,
    arguments: List[str],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        classify(bundle, "photos", "--on", "ray", *arguments)
    assert not Path("out").exists()


def test_workers_are_of_ray(bundle: Path, photos: Path) -> None:  # noqa: F811
    with pytest.raises(InputError, match="--parallel is 2; expected it with --on ray alone"):
        classify(bundle, "photos", "-o", "out.csv", "--parallel", 2)


def test_files_that_hold_images_are_found(photos: Path) -> None:
    for name in ("a", "b"):
        write_tar(f"{name}.tar", photos)
    parquet.write_table(pyarrow.table({"path": ["x"], "image": [b"y"]}), "table.parquet")
    paths = ["photos", "*.tar", "a.tar", "table.parquet", "missing.tar", "*.jpg"]
    others = ["photos", "table.parquet", "missing.tar", "*.jpg"]
    assert with_images_inside(paths, "path") == (["a.tar", "b.tar"], others)
    others.remove("table.parquet")
    assert with_images_inside(paths, "image") == (["a.tar", "b.tar", "table.parquet"], others)


def test_images_are_read_one_after_the_other(photos: Path) -> None:
    contents = write_tar("a.tar", photos)
    parquet.write_table(pyarrow.table({"image": contents}), "table.parquet")
    for file, names in (
        ("a.tar", [f"a.tar/{number:04d}.jpg" for number in range(7)]),
        ("table.parquet", [f"table.parquet#{number}" for number in range(1, 8)]),
    ):
        rows = list(images_in({"file": file.encode()}, "image", "."))
        assert [row["name"].decode() for row in rows] == names
        assert [row["content"] for row in rows] == contents
