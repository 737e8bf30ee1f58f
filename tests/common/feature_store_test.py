import logging
import multiprocessing
import os
import shutil
import time
from io import FileIO
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.common import feature_segments, feature_store, store_size
from allencv.common.feature_store import (
    FeatureStore,
    address_of,
    default_root,
    encoder_checksum,
    store_folder,
    to_float16,
)

SHAPE = (2, 3)
FORK = multiprocessing.get_context("fork")


def addresses_of(*numbers: int) -> List[bytes]:
    return [address_of(b"image %d" % number, "") for number in numbers]


def features_of(*numbers: int) -> np.ndarray:
    """Features that tell which image they are of."""
    contents = [np.frombuffer(address, np.uint8)[:6] for address in addresses_of(*numbers)]
    return np.stack(contents).reshape(-1, *SHAPE).astype(np.float16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "root" / "encoder"


def filled(folder: Path, *numbers: int, max_gb: float = 1) -> FeatureStore:
    store = FeatureStore(folder, SHAPE, max_gb)
    store.add(addresses_of(*numbers), features_of(*numbers))
    return store


def found_in(store: FeatureStore, *numbers: int) -> List[int]:
    """The images that are kept, after a comparison of their features."""
    rows = store.find(addresses_of(*numbers))
    found = [number for number, row in zip(numbers, rows) if row >= 0]
    if found:
        assert np.array_equal(store.read(rows[rows >= 0]), features_of(*found))
    return found


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_features_are_found_by_their_address(folder: Path) -> None:
    store = filled(folder, 1, 2, 3)
    rows = store.find(addresses_of(3, 4, 1, 3))
    assert rows.dtype == np.int64
    assert (rows >= 0).tolist() == [True, False, True, True]
    read = store.read(rows[[0, 2, 3]])
    assert read.dtype == np.float16
    assert np.array_equal(read, features_of(3, 1, 3))


def test_no_images(folder: Path) -> None:
    store = FeatureStore(folder, SHAPE)
    store.add([], np.empty((0, *SHAPE), np.float16))
    assert store.find([]).shape == (0,)
    assert store.read(np.empty(0, np.int64)).shape == (0, *SHAPE)
    assert not folder.exists()


def test_a_later_process_finds_them(folder: Path) -> None:
    filled(folder, 1, 2)
    assert found_in(FeatureStore(folder, SHAPE), 1, 2, 3) == [1, 2]


def test_known_addresses_are_ignored(folder: Path) -> None:
    store = filled(folder, 1)
    store.add(addresses_of(1, 2, 2), features_of(5, 6, 6))
    size = only(folder, "*.f16").stat().st_size
    assert size == 2 * 6 * 2
    store.add(addresses_of(1, 2), features_of(1, 2))
    assert only(folder, "*.f16").stat().st_size == size
    rows = store.find(addresses_of(1, 2))
    assert np.array_equal(store.read(rows), features_of(1, 6))


def test_what_another_store_writes_is_found_without_opening_anew(folder: Path) -> None:
    reader = FeatureStore(folder, SHAPE)
    writer = filled(folder, 1)
    assert found_in(reader, 1, 2) == [1]
    writer.add(addresses_of(2), features_of(2))
    assert found_in(reader, 1, 2) == [1, 2]


def test_two_writers_have_segments_of_their_own_and_a_later_one_continues(folder: Path) -> None:
    first, second = filled(folder, 1), filled(folder, 2)
    assert len(list(folder.glob("*.f16"))) == 2
    assert found_in(first, 1, 2) == found_in(second, 1, 2) == [1, 2]
    del first, second
    assert found_in(filled(folder, 3), 1, 2, 3) == [1, 2, 3]
    assert len(list(folder.glob("*.f16"))) == 2


def test_without_locks_each_writer_has_segments_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_segments, "lock", lambda file: "no locks here")
    for number in range(3):
        filled(folder, number)
    assert len(list(folder.glob("*.f16"))) == 3
    assert found_in(FeatureStore(folder, SHAPE), 0, 1, 2) == [0, 1, 2]


def test_other_shapes_may_be_in_the_folder(folder: Path) -> None:
    filled(folder, 1)
    other = FeatureStore(folder, (6,))
    assert other.find(addresses_of(1)).tolist() == [-1]
    other.add(addresses_of(1), features_of(9).reshape(1, 6))
    assert np.array_equal(other.read(other.find(addresses_of(1))), features_of(9).reshape(1, 6))
    assert found_in(FeatureStore(folder, SHAPE), 1) == [1]


def test_segments_have_a_largest_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "MAX_SEGMENT_BYTES", 4 * 12)
    store = filled(folder, *range(10))
    assert sorted(path.stat().st_size for path in folder.glob("*.f16")) == [24, 48, 48]
    assert found_in(store, *range(11)) == list(range(10))
    assert found_in(FeatureStore(folder, SHAPE), *range(11)) == list(range(10))


@pytest.mark.parametrize("suffix", [".f16", ".index"])
def test_a_file_cut_anywhere_is_never_wrong(
    folder: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(folder, 1, 2, 3)
    path = only(folder, f"*{suffix}")
    content = path.read_bytes()
    size = len(content) // 3
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert found_in(FeatureStore(folder, SHAPE), 1, 2, 3) == [1, 2, 3][: length // size]
    assert found_in(filled(folder, 4), 1, 2, 3, 4) == [1, 2, 4]
    assert caplog.messages == [
        f"'{only(folder, '*.f16')}' ends in an unfinished record, which is dropped"
    ]
    assert found_in(FeatureStore(folder, SHAPE), 1, 2, 3, 4) == [1, 2, 4]


@pytest.mark.parametrize("suffix", [".f16", ".index"])
def test_a_changed_byte_is_never_wrong(
    folder: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(folder, 1, 2, 3)
    paths = [only(folder, "*.f16"), only(folder, "*.index")]
    contents = [path.read_bytes() for path in paths]
    for place in range(len(contents[suffix == ".index"])):
        for path, content in zip(paths, contents):
            changed = bytearray(content)
            if path.suffix == suffix:
                changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
        store = FeatureStore(folder, SHAPE)
        assert len(found_in(store, 1, 2, 3)) < 3
        store.add(addresses_of(1, 2, 3), features_of(1, 2, 3))
        assert found_in(store, 1, 2, 3) == [1, 2, 3]
        assert found_in(FeatureStore(folder, SHAPE), 1, 2, 3) == [1, 2, 3]
        del store
        for path in folder.iterdir():
            path.unlink()
    assert f"'{paths[0]}' is damaged: it is removed and made anew" in caplog.messages


def test_a_damaged_file_that_cannot_be_removed_is_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(folder, 1)
    only(folder, "*.f16").write_bytes(bytes(12))
    monkeypatch.setattr(feature_segments, "remove", lambda path: None)
    store = FeatureStore(folder, SHAPE)
    assert found_in(store, 1) == []
    store.add(addresses_of(1), features_of(1))
    assert found_in(store, 1) == [1]
    assert len(caplog.messages) == 1


def add_many(folder: Path, start: int, count: int) -> None:
    store = FeatureStore(folder, SHAPE)
    for number in range(start, start + count, 5):
        store.add(addresses_of(*range(number, number + 5)), features_of(*range(number, number + 5)))


def test_several_processes_write_at_once(folder: Path) -> None:
    starts = [0, 200, 400, 100]  # the last ones write some of the same
    processes = [FORK.Process(target=add_many, args=(folder, start, 200)) for start in starts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert found_in(FeatureStore(folder, SHAPE), *range(650)) == list(range(600))


def test_a_forked_process_writes_a_segment_of_its_own(folder: Path) -> None:
    store = filled(folder, 1)
    process = FORK.Process(target=store.add, args=(addresses_of(2), features_of(2)))
    process.start()
    process.join()
    store.add(addresses_of(3), features_of(3))
    assert len(list(folder.glob("*.f16"))) == 2
    assert found_in(store, 1, 2, 3) == [1, 2, 3]


def test_a_writer_killed_at_any_moment(folder: Path) -> None:
    for trial in range(5):
        before = sum(path.stat().st_size for path in folder.glob("*.f16"))
        process = FORK.Process(target=add_many, args=(folder, 10_000 * trial, 10_000))
        process.start()
        while sum(path.stat().st_size for path in folder.glob("*.f16")) < before + 2_000:
            time.sleep(0.001)
        process.kill()
        process.join()
    numbers = range(50_000)
    found = found_in(FeatureStore(folder, SHAPE), *numbers)
    assert 5 * 100 < len(found) < len(numbers)
    assert len(found_in(filled(folder, 77_777), *found)) == len(found)
    assert len(list(folder.glob("*.f16"))) == 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> float:
    """A limit in GB: of 8 segments with 4 features and their entries each, and a bit."""
    monkeypatch.setattr(feature_store, "SEGMENTS", 8)
    return 8 * 4 * (12 + 20) / 1e9


def test_the_least_recently_used_goes_first(
    folder: Path, small: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder.with_name("other")
    filled(other, *range(10), max_gb=small)  # 10 a segment: 128 bytes of features
    filled(folder, *range(20), max_gb=small)
    now = time.time()
    for path in other.glob("*.f16"):
        os.utime(path, (now, now - 100))
    for age, path in enumerate(sorted(folder.glob("*.f16"))):
        os.utime(path, (now, now - 50 + age))
    store = FeatureStore(folder, SHAPE, small)
    kept = found_in(store, *range(20))
    assert kept == list(range(20))
    store.add(addresses_of(*range(20, 30)), features_of(*range(20, 30)))
    assert found_in(FeatureStore(other, SHAPE, small), *range(10)) == []
    assert found_in(store, *range(30)) == list(range(30))


def test_what_was_used_stays_and_the_rest_is_not_kept(
    folder: Path, small: float, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeatureStore(folder, SHAPE, small)
    for number in range(100):
        store.add(addresses_of(number), features_of(number))
    found = found_in(store, *range(100))
    assert found == list(range(len(found)))
    taken = sum(path.stat().st_size for path in folder.iterdir())
    assert 0.6 * small * 1e9 < taken <= small * 1e9 * 1.2
    (message,) = caplog.messages
    assert message.startswith(f"'{folder}': no more features are kept: all features together may")


def test_files_of_others_are_not_removed(folder: Path, small: float) -> None:
    others = folder.with_name("other") / f"photo-{'x' * 32}.f16"
    others.parent.mkdir(parents=True)
    others.write_bytes(bytes(1000))
    assert store_size.make_room(folder.parent, 10, 20, ())
    assert others.exists()


def test_a_file_that_is_being_written_is_not_removed(folder: Path) -> None:
    store = filled(folder, 1)
    assert not store_size.make_room(folder.parent, 10, 10, ())
    assert found_in(store, 1) == [1]
    path = only(folder, "*.f16")
    del store
    assert store_size.make_room(folder.parent, 10, 10, ())
    assert not path.exists()


def test_rows_stay_readable_when_another_process_removes_the_file(folder: Path) -> None:
    store = filled(folder, 1, 2)
    rows = store.find(addresses_of(1, 2))
    for path in folder.iterdir():
        path.unlink()
    assert np.array_equal(store.read(rows), features_of(1, 2))
    assert found_in(store, 1, 2) == [1, 2]
    assert found_in(FeatureStore(folder, SHAPE), 1, 2) == []


def test_a_store_may_be_removed_while_it_is_written(folder: Path) -> None:
    store = filled(folder, 1)
    shutil.rmtree(folder.parent)
    store.add(addresses_of(2), features_of(2))
    assert found_in(FeatureStore(folder, SHAPE), 1, 2) == [2]
    only(folder, "*.index").unlink()
    store.add(addresses_of(3, 4), features_of(3, 4))
    assert found_in(FeatureStore(folder, SHAPE), 1, 2, 3, 4) == [3, 4]
    assert found_in(store, 1, 2, 3, 4) == [1, 2, 3, 4]


def test_files_that_only_another_user_can_read_do_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root can read all files, so here it is the functions that refuse."""
    filled(folder, 1)
    theirs = set(folder.iterdir())

    def without_theirs(open_file: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Path, mode: str) -> Any:
            if path in theirs:
                raise PermissionError(13, "Permission denied", str(path))
            return open_file(path, mode)

        return opened

    monkeypatch.setattr(feature_segments, "open", without_theirs(open), raising=False)
    monkeypatch.setattr(feature_segments, "FileIO", without_theirs(FileIO))
    assert found_in(filled(folder, 2), 1, 2) == [2]
    assert len(set(folder.iterdir()) - theirs) == 2


def full_disk(room: int) -> Callable[[int, memoryview], int]:
    """`os.write` on a disk with so many bytes left."""
    left, write = [room], os.write

    def write_some(file: int, content: memoryview) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        written = write(file, content[: left[0]])
        left[0] -= written
        return written

    return write_some


@pytest.mark.parametrize("room", range(0, 2 * 32, 5))
def test_a_full_disk_is_said_once_and_the_run_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    store = filled(folder, 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full_disk(room))
        for number in (2, 3, 4):
            store.add(addresses_of(number), features_of(number))
    assert caplog.messages == [f"'{folder}': no more features are kept: No space left on device"]
    assert found_in(store, 1, 2, 3, 4) == [1, 2][: 1 + room // 32]
    del store
    assert found_in(filled(folder, 5), 1, 3, 4, 5) == [1, 5]


def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError) as raised:
        FeatureStore(tmp_path / "file", SHAPE)
    assert raised.value.filename == str(tmp_path / "file")


def test_a_root_that_cannot_be_written_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    store = filled(folder, 1)
    assert found_in(store, 1) == []
    assert caplog.messages == [f"'{folder}': no more features are kept: Read-only file system"]


@pytest.mark.parametrize(
    ("shape", "max_gb", "message"),
    [
        ((), 1, "shape is (); expected one or more numbers of at least 1"),
        ((3, 0), 1, "shape is (3, 0); expected one or more numbers of at least 1"),
        ((3,), 0, "max_gb is 0; expected a number above 0"),
        ((3,), float("nan"), "max_gb is nan; expected a number above 0"),
    ],
)
def test_arguments_are_checked(
    folder: Path, shape: Tuple[int, ...], max_gb: float, message: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        FeatureStore(folder, shape, max_gb)
    assert str(raised.value) == message


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_only_finite_numbers_are_kept(folder: Path, number: float) -> None:
    store = FeatureStore(folder, SHAPE)
    features = features_of(1, 2)
    features[1, 0, 2] = number
    with pytest.raises(ConfigurationError, match="not finite"):
        store.add(addresses_of(1, 2), features)
    assert found_in(store, 1, 2) == []


def test_other_shapes_and_rows_are_refused(folder: Path) -> None:
    store = FeatureStore(folder, SHAPE)
    with pytest.raises(ValueError, match=r"float16 \(3, 2\); expected float16 \(1, 2, 3\)"):
        store.add(addresses_of(1), np.ones((3, 2), np.float16))
    with pytest.raises(ValueError, match=r"float32 \(1, 2, 3\); expected float16 \(1, 2, 3\)"):
        store.add(addresses_of(1), features_of(1).astype(np.float32))
    with pytest.raises(ValueError, match="negative"):
        store.read(store.find(addresses_of(1)))


def test_to_float16() -> None:
    given = np.float32([65504, -65519.9, 1e-9, 1 / 3])
    assert to_float16(given).tolist() == [65504, -65504, 0, float(np.float16(1 / 3))]
    with pytest.raises(ConfigurationError) as raised:
        to_float16(np.float32([[1, 65520], [70000, 3]]))
    assert str(raised.value) == (
        "the encoder's output has 65520; expected numbers from -65504 to 65504, as features are "
        "kept in float16"
    )
    with pytest.raises(ConfigurationError, match="has nan; expected"):
        to_float16(np.float32([np.nan]))


def test_addresses_differ_if_any_part_does() -> None:
    parts = [(b"ab", "", b""), (b"a", "b", b""), (b"", "ab", b""), (b"", "", b"ab"), (b"", "", b"")]
    addresses = {address_of(*each) for each in parts}
    assert len(addresses) == len(parts)
    assert {len(each) for each in addresses} == {16}
    assert address_of(b"a", "b") == address_of(b"a", "b")


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))


def test_the_checksum_is_of_weights_buffers_arguments_and_precision() -> None:
    assert encoder_checksum(network()) == encoder_checksum(network())
    changes: List[Callable[[torch.nn.Module], object]] = [
        lambda module: None,
        lambda module: module[0].weight.data[2, 1].add_(1e-6),
        lambda module: module[1].running_mean.add_(1e-6),
        lambda module: module.register_buffer("more", torch.zeros(1), persistent=False),
        lambda module: module.append(torch.nn.Linear(1, 1)),
        lambda module: module.double(),
        lambda module: setattr(module[1], "eps", 1e-3),
    ]
    checksums = {encoder_checksum(network(), torch.bfloat16)}
    for change in changes:
        changed = network()
        change(changed)
        checksums.add(encoder_checksum(changed))
    assert len(checksums) == len(changes) + 1


def test_the_folder_is_of_the_encoder_and_the_versions_of_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = store_folder("root", "a")
    assert folder.parent == Path("root")
    assert store_folder("root", "a") == folder != store_folder("root", "b")
    monkeypatch.setattr(feature_store, "installed_versions", lambda names: {"timm": "0"})
    assert store_folder("root", "a") != folder


def test_the_checksum_takes_any_tensors() -> None:
    module = torch.nn.Module()
    module.register_buffer("a", torch.zeros((), dtype=torch.bfloat16))
    module.register_buffer("b", torch.zeros(2, 3, dtype=torch.complex64).mT)
    module.register_buffer("c", torch.zeros(0, 3))
    module.register_buffer("d", torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    assert encoder_checksum(module) == encoder_checksum(module)


def test_the_root_is_in_the_users_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/her")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ALLENCV_FEATURES", raising=False)
    assert default_root() == Path("/home/her/.cache/allencv/features")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_root() == Path("/caches/allencv/features")
    monkeypatch.setenv("ALLENCV_FEATURES", "~/features")
    assert default_root() == Path("/home/her/features")


def test_an_unknown_home_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLENCV_FEATURES", "~no.such.user/features")
    with pytest.raises(ConfigurationError) as raised:
        default_root()
    assert str(raised.value) == (
        "ALLENCV_FEATURES, the folder for features, is '~no.such.user/features', but the home "
        "folder is unknown; expected a path without '~'"
    )


def test_the_log_says_what_is_removed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    filled(folder, 1)
    path = only(folder, "*.f16")
    store_size.make_room(folder.parent, 0, 1e-9, ())
    assert caplog.messages == [f"removed '{path}': the features take more than 1e-18 GB"]
