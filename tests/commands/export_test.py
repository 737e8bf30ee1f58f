"""`allencv export` as a user runs it; tests/exporting has what it does."""

import json
import re
import shutil
from pathlib import Path

import pytest

import allencv.plugin  # noqa: F401
from allencv.command_parsers import command_parser
from allencv.runtime import open_bundle
from allencv.runtime.errors import InputError
from tests.conftest import Run, run_in_process
from tests.exporting.operators import read_operators_once

pytestmark = pytest.mark.slow

read_operators_once()


@pytest.fixture(scope="module")
def folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It holds a run."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(trained_run, folder / "run")
    return folder


def export(*arguments: object) -> None:
    """The command as AllenNLP starts it."""
    run_in_process("export", *map(str, arguments))


def test_it_prints_and_writes_how_the_bundle_compares(folder: Path, run: Run) -> None:
    result = run("allencv", "export", "run/model.tar.gz", "bundle", cwd=folder)
    made, compared = result.stdout.splitlines()[-2:]
    assert made == "bundle: onnx, float32, 2 labels"
    printed = re.fullmatch(
        r"compared with the archive on 10 images: 100.00% have the same labels; "
        r"probabilities differ by at most (\S+)",
        compared,
    )
    assert printed is not None
    parity = json.loads((folder / "bundle" / "manifest.json").read_text())["parity"]
    assert parity["largest_difference"] == pytest.approx(float(printed[1]), rel=0.06)
    assert (parity["images"], parity["agreement"], parity["tolerance"]) == (10, 1, 1e-4)
    with pytest.raises(InputError, match="bundle' is already a bundle; --force replaces"):
        export(folder / "run", folder / "bundle")


def test_the_options(folder: Path, cats_and_dogs: Path, capsys: pytest.CaptureFixture) -> None:
    bundle = folder / "options"
    export(folder / "run", bundle, "--no-parity", "--precision", "fp16")
    assert capsys.readouterr().out.endswith(
        "options: onnx, float16, 2 labels\nnot compared with the archive\n"
    )
    assert open_bundle(bundle).parity is None
    export(
        *(folder / "run", bundle, "--force", "--quantize", "int8"),
        *("--quantization-images", cats_and_dogs / "train"),
        *("--parity-images", cats_and_dogs / "test"),
        *("--agreement", "0.5", "--tolerance", "0.5"),
    )
    manifest = open_bundle(bundle)
    assert manifest.precision == "int8"
    assert f"int8: {manifest.quantization}\ncompared " in capsys.readouterr().out
    assert f"int8: {manifest.quantization}." in " ".join((bundle / "README.md").read_text().split())
    assert manifest.parity is not None
    assert (manifest.parity.images, manifest.parity.least_agreement) == (8, 0.5)
    assert manifest.parity.tolerance == 0.5
    export(folder / "run", bundle, "--force", "--format", "torch_export")
    assert open_bundle(bundle).format == "torch_export"


def test_images_for_int8_are_also_given_by_the_name_of_before() -> None:
    parser = command_parser("export")
    args = parser.parse(["run", "bundle", "--quantize", "int8", "--calibration", "a", "b"])
    assert args.quantization_images == ["a", "b"]
    assert "--calibration " not in parser.format_help()


def test_bad_arguments(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments, error, message in (
        (["--no-parity", "--tolerance", "0"], InputError, "--no-parity compares nothing"),
        (["--parity-images", "nowhere"], InputError, "'nowhere' gives no image"),
        (["--quantize", "int8"], InputError, r"int8 needs images .*\(--quantization-images\)"),
        (["--no-calibration", "--calibration-data", "a"], InputError, "expected no --calibration-"),
        (["--calibration-data", "a"], InputError, "int8 bundles of calibrated models use"),
        (["--precision", "fp16", "--quantize", "int8"], SystemExit, "2"),
        (["--format", "tflite"], SystemExit, "2"),
    ):
        with pytest.raises(error, match=message):
            export(folder / "run", folder / "bad", *arguments)
    assert "--quantize: not allowed with argument --precision" in capsys.readouterr().err
    with pytest.raises(InputError, match="no model archive at 'nowhere.tar.gz'"):
        export("nowhere.tar.gz", folder / "bad")
    assert not (folder / "bad").exists()
