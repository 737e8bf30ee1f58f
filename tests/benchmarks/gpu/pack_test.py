import tarfile
from pathlib import Path
from typing import List

import pytest

from tests.benchmarks.gpu.programs import load
from tests.conftest import ROOT

pack = load("pack")

REQUIREMENTS = """\
allennlp==2.10.1
    # via allencv (pyproject.toml)
colorama==0.4.6 ; sys_platform == 'win32'
contourpy==1.3.3 ; python_full_version < '3.12'
contourpy==1.4.0 ; python_full_version >= '3.12'
cffi==2.1.1 ; platform_python_implementation != 'PyPy'
Typing_Extensions==4.15.0
numpy==2.5.5
nvidia-cublas==13.4.1.3 ; sys_platform == 'linux'
ruff==0.14.0
timm==1.0.31
"""


def test_what_the_machine_lacks_is_packed() -> None:
    assert pack.pins_to_pack(REQUIREMENTS, installed="numpy timm torch") == [
        "allennlp==2.10.1",
        "contourpy==1.4.0",
        "cffi==2.1.1",
        "typing-extensions==4.15.0",
        "timm==1.0.31",  # AllenNLP needs this version
    ]


def test_pins_of_the_project() -> None:
    requirements = (ROOT / "requirements.txt").read_text()
    installed = (ROOT / "benchmarks/gpu/installed.txt").read_text()
    names = [pin.partition("==")[0] for pin in pack.pins_to_pack(requirements, installed)]
    assert len(names) == len(set(names))
    assert {"allennlp", "timm", "transformers", "simplejpeg", "spacy"} <= {*names}
    assert not {"torch", "numpy", "wandb", "triton"} & {*names}


def test_packages_are_packed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, cifar10 = tmp_path / ".gpu", tmp_path / "cifar.tar.xz"
    with tarfile.open(cifar10, "w:xz") as archive:
        archive.add(tmp_path, "cifar10", recursive=False)
    made: List[List[str]] = []

    def make_archive(pins: List[str], path: Path) -> None:
        made.append(pins)
        path.write_bytes(b"packages")

    monkeypatch.setattr(pack, "PACKED", packed)
    monkeypatch.setattr(pack, "make_archive", make_archive)
    monkeypatch.setattr("sys.argv", ["pack", str(cifar10)])
    pack.main()
    names = {"on_gpu", "cifar10.tar.xz", "packages.tar.xz", "packages.stamp"}
    assert {file.name for file in packed.iterdir()} == names
    assert (packed / "cifar10.tar.xz").read_bytes() == cifar10.read_bytes()
    assert "MiB  in all, of 64" in capsys.readouterr().out

    pack.main()
    assert "packages.tar.xz is up to date" in capsys.readouterr().out
    assert len(made) == 1

    (packed / "large").write_bytes(bytes(2**20))
    monkeypatch.setattr(pack, "LIMIT", 2**20)
    with pytest.raises(SystemExit, match="that is too much"):
        pack.main()


@pytest.mark.parametrize("path", [__file__, "missing.tar.xz"])
def test_data_that_are_no_archive_are_refused(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pack", path])
    with pytest.raises(SystemExit):
        pack.main()
    assert f"found no tar archive at {path}" in capsys.readouterr().err
