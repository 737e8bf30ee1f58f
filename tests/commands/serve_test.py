"""`allencv serve` as a user runs it; tests/serving has what the server does."""

import socket
import subprocess
from pathlib import Path
from typing import List

import pytest

import allencv.plugin  # noqa: F401
from allencv.predictors import ImageClassifierPredictor
from allencv.runtime.errors import BundleError, InputError
from allencv.serving.client import Client
from tests.conftest import ROOT, Run, run_in_process
from tests.forking.commands import forked_commands
from tests.runtime.tiny_bundle import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "colours")


def serve(*arguments: object) -> None:
    """The command as AllenNLP starts it."""
    run_in_process("serve", *map(str, arguments))


WRONG = {
    ("--workers", 0): "--workers is 0; expected a positive number",
    ("--workers", 9999): "--workers is 9999; expected at most 1024",
    ("--max-batch", -1): "--max-batch is -1; expected a positive number",
    ("--max-megabytes", 0): "--max-megabytes is 0",
    ("--timeout", "nan"): "--timeout is nan",
    ("--timeout", "inf"): "--timeout is inf",
    ("--max-connections", 0): "--max-connections is 0; expected a positive number",
    ("--decode-seconds", "nan"): "--decode-seconds is nan; expected a positive number",
    (
        "--cors-origin",
        "https://a.b/",
    ): "--cors-origin is 'https://a.b/'; expected an",
    ("--cors-origin", "a.b"): "--cors-origin is 'a.b'; expected an origin such as https://",
    ("--root-path", "https://a.b/c"): "--root-path is 'https://a.b/c'; expected a path such as",
    ("--root-path", "/a/../b"): "--root-path is '/a/../b'; expected a path such as /pets",
    ("--max-megabytes", "inf"): "--max-megabytes is inf",
    ("--max-files", 9, "--max-waiting", 8): "--max-files is 9; expected at most --max-waiting, 8",
    ("--device", "cpu"): "is a bundle; --device and --trust-archive are for archives",
    ("--port", 70_000): "cannot listen at 127.0.0.1, port 70000",
    ("--host", "256.1.1.1", "--port", 0): "cannot listen at 256.1.1.1, port 0",
}


@pytest.mark.parametrize("options", WRONG)
def test_arguments_that_cannot_be_used(bundle: Path, options: List[object]) -> None:
    with pytest.raises(InputError) as error:
        serve(bundle, *options)
    assert WRONG[tuple(options)] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1, port {port}: Address already in use"):
            serve(bundle, "--port", port)


def test_a_bundle_with_a_changed_byte(bundle: Path, tmp_path: Path) -> None:
    changed = write_bundle(tmp_path / "changed")
    network = bytearray((changed / "model.onnx").read_bytes())
    network[len(network) // 2] ^= 1
    (changed / "model.onnx").write_bytes(network)
    with pytest.raises(BundleError, match="model.onnx: it was changed after the export"):
        serve(changed)


def test_errors_are_one_line(run: Run, bundle: Path, tmp_path: Path) -> None:
    result = run("allencv", "serve", bundle, "--workers", 0, cwd=tmp_path, fails=True)
    assert result.stderr == "allencv: --workers is 0; expected a positive number\n"


@pytest.fixture(scope="module")
def archive(trained_run: Path) -> Path:
    return trained_run / "model.tar.gz"


def test_an_archive(archive: Path, cats_and_dogs: Path) -> None:
    images = sorted((cats_and_dogs / "test").glob("*/*.jpg"))
    command = [forked_commands() / "python", "-m", "allencv", "serve", str(archive), "--port", "0"]
    with subprocess.Popen(
        [*command, "--device", "cpu"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("Serving"))
        answers = Client(line.split()[-1]).predict(images)
        process.terminate()
        assert process.wait(20) == 0
    predictor = ImageClassifierPredictor.from_path(archive)
    for image, answer in zip(images, answers):
        expected = predictor.predict(str(image))
        assert answer["label"] == expected["label"]
        assert answer["top_k"][0]["probability"] == pytest.approx(max(expected["probs"]), abs=1e-5)


def test_an_engine_is_for_bundles(archive: Path) -> None:
    with pytest.raises(InputError, match="is an archive; --engine is for bundles"):
        serve(archive, "--engine", "onnxruntime")
