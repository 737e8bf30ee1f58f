import io
from pathlib import Path
from typing import Dict

import pytest
import torch

from allencv.common.write_archive import archive_model
from allencv.runtime.errors import InputError
from tests.common.tiny_archive import files_of, packed, write_run
from tests.conftest import run_in_process


def run_diff(*checkpoints: object) -> None:
    run_in_process("diff", *checkpoints)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return Path(archive_model(write_run(tmp_path / "run")))


def with_weights(archive: Path, target: Path, state: Dict[str, torch.Tensor]) -> Path:
    """A copy of an archive with other weights, without checksums."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files = {**files_of(archive), "weights.th": buffer.getvalue()}
    del files["checksums.json"]
    return packed(target, files)


def test_two_archives_are_compared(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"weight": torch.ones(3), "bias": torch.zeros(2)}
    one = with_weights(archive, tmp_path / "one.tar.gz", state)
    other = with_weights(archive, tmp_path / "other.tar.gz", {**state, "bias": torch.ones(2)})
    torch.save(state, tmp_path / "one.th")
    capsys.readouterr()
    for first, second in (
        (one, other),
        (f"{one}!weights.th", other),
        (tmp_path / "one.th", other),
    ):
        run_diff(first, second)
        changed = [line for line in capsys.readouterr().out.splitlines() if "!" in line]
        assert len(changed) == 1
        assert "bias" in changed[0]


def test_a_damaged_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.tar.gz").write_bytes(data)
    with pytest.raises(InputError, match="archive '.*damaged.tar.gz'"):
        run_diff(archive, tmp_path / "damaged.tar.gz")


def test_integers_are_compared_as_numbers_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"count": torch.tensor(3), "seen": torch.tensor([True, False]), "same": torch.tensor(7)}
    torch.save(state, tmp_path / "one.th")
    state = {**state, "count": torch.tensor(5), "seen": torch.tensor([True, True])}
    torch.save(state, tmp_path / "other.th")
    run_diff(tmp_path / "one.th", tmp_path / "other.th")
    out = capsys.readouterr().out
    assert "!count, shape = (), distance = 2.0000" in out
    assert "!seen, shape = (2,), distance = 0.7071" in out
    assert " same, shape = ()" in out
