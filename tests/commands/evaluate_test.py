import json
import shutil
from pathlib import Path
from typing import Dict

import pytest
from allennlp.commands import predict

import allencv.plugin  # noqa: F401
from allencv.command_parsers import command_parser
from allencv.commands.evaluate import command_of_rank, device_of_rank, metric_lines
from allencv.runtime.errors import InputError
from tests.conftest import Run, full_disk, run_in_process


@pytest.fixture(scope="module")
def archive(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    return shutil.copytree(trained_run, folder)


def printed(capsys: pytest.CaptureFixture) -> Dict[str, float]:
    """The metrics of the last lines."""
    return {
        name: float(value)
        for name, value in map(str.split, capsys.readouterr().out.split("\n")[:-1])
    }


def test_the_metrics_are_printed_and_written(
    archive: Path, cats_and_dogs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    capsys.readouterr()
    run_in_process("evaluate", archive, cats_and_dogs / "val")
    shown = printed(capsys)
    metrics = json.loads((archive / "metrics.json").read_text())
    assert shown["accuracy"] == pytest.approx(metrics["best_validation_accuracy"], abs=1e-4)
    # Training may have computed in bfloat16.
    assert shown["loss"] == pytest.approx(metrics["best_validation_loss"], abs=1e-2)
    files = [tmp_path / "new" / name for name in ("metrics.json", "answers.jsonl")]
    options = ["--output-file", files[0], "--predictions-output-file", files[1]]
    run_in_process("evaluate", archive, cats_and_dogs / "val", *options)
    written = json.loads(files[0].read_text())
    assert written["loss"] == pytest.approx(shown["loss"], abs=1e-4)
    assert sorted(files[0].parent.iterdir()) == sorted(files)
    assert "label" in json.loads(files[1].read_text().splitlines()[0])


def test_a_path_is_taken_as_it_is(
    archive: Path, cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AllenNLP reads the path as JSON, or divides it at commas."""
    monkeypatch.chdir(tmp_path)
    for name in ("2026", "a,b"):
        Path(name).symlink_to(cats_and_dogs / "val")
        run_in_process("evaluate", archive, name, "--output-file", "metrics.json")
        assert json.loads(Path("metrics.json").read_text())["accuracy"] <= 1


def test_a_full_disk_leaves_what_was_there(
    archive: Path, cats_and_dogs: Path, tmp_path: Path
) -> None:
    (tmp_path / "images.jsonl").write_text(f'{{"image": "{cats_and_dogs}/val/Cat/000.jpg"}}\n')
    output = tmp_path / "output"
    for command, given in (
        ("evaluate", cats_and_dogs / "val"),
        ("predict", tmp_path / "images.jsonl"),
    ):
        output.write_text("the good one")
        with full_disk(), pytest.raises(OSError, match=r"No space left on device: .*output"):
            run_in_process(command, archive, given, "--output-file", output)
        assert output.read_text() == "the good one"
        run_in_process(command, archive, given, "--output-file", output)
        assert isinstance(json.loads(output.read_text()), dict)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("evaluate", ["--batch-size", "0"], "--batch-size is 0; expected at least 1"),
        (
            "evaluate",
            ["--cuda-device", "99"],
            "--cuda-device is 99; expected -1 for the CPU, .* GPU",
        ),
        (
            "predict",
            ["--cuda-device", "-2"],
            "--cuda-device is -2; expected -1 for the CPU, .* GPU",
        ),
        (
            "evaluate",
            ["--output-file", "a,b"],
            "--output-file is 'a,b', the names of 2 files; expec",
        ),
        ("predict", ["--batch-size", "-1"], "--batch-size is -1; expected at least 1"),
        ("predict", ["--predictor-args", "{"], "--predictor-args is '{'; expected a JSON object"),
        ("predict", ["--predictor-args", "[]"], r"--predictor-args is '\[\]'; expected a JSON"),
        ("predict", [], "000.jpg' is not text in UTF-8 .* for images and folders, use 'allencv cl"),
    ],
)
def test_bad_arguments(
    archive: Path, cats_and_dogs: Path, command: str, arguments: "list[str]", message: str
) -> None:
    given = cats_and_dogs / ("val" if command == "evaluate" else "val/Cat/000.jpg")
    with pytest.raises(InputError, match=message):
        run_in_process(command, archive, given, *arguments)


def test_data_that_are_not_there_are_named_as_in_the_command(archive: Path) -> None:
    with pytest.raises(InputError, match=r"'nowhere' \(input_file\) does not exist"):
        run_in_process("evaluate", archive, "nowhere")


@pytest.mark.slow
def test_two_processes_write_what_one_writes(
    archive: Path, cats_and_dogs: Path, tmp_path: Path, run: Run
) -> None:
    data, written = cats_and_dogs / "val", []
    launcher = ["python", "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "allencv"]
    for number, (start, devices) in enumerate(
        ((["allencv"], "-1"), (["allencv"], "-1,-1"), (launcher, "-1"))
    ):
        files = [tmp_path / f"{number}.json", tmp_path / f"{number}.jsonl"]
        options = ["--output-file", files[0], "--predictions-output-file", files[1]]
        options += ["--batch-size", "3", "--cuda-device", devices]
        result = run(*start, "evaluate", archive, data, *options, env={"OMP_NUM_THREADS": "1"})
        written.append([result.stdout, *(file.read_bytes() for file in files)])
    assert len(written[0][2].splitlines()) == 3  # 10 images: the last batch has one more
    assert written[1:] == written[:1] * 2
    assert len(list(tmp_path.iterdir())) == 6


def test_each_process_gets_the_arguments_of_the_command() -> None:
    given = ["-o", "{}", "--batch-size=5", "--trust-archive", "--output-file", "a,b", "--", "-a"]
    args = command_parser("evaluate").parse_args(["--cuda-device", "-1,-1", *given, "b"])
    name, *rest = command_of_rank(args)
    assert name == "evaluate"
    assert vars(command_parser("evaluate").parse_args(rest)) == vars(args)
    assert (args.cuda_device, args.archive_file, args.input_file) == ([-1, -1], "-a", "b")


def test_the_processes_of_a_machine_share_its_devices() -> None:
    assert [device_of_rank([2, 5], rank, 2) for rank in (0, 1)] == [2, 5]
    assert [device_of_rank([-1], rank, 3) for rank in (0, 1, 2)] == [-1, -1, -1]
    with pytest.raises(InputError, match="--cuda-device is 0,1, but 3 processes are started on th"):
        device_of_rank([0, 1], 2, 3)


@pytest.mark.parametrize("devices", ["0,-1", "1,1"])
def test_processes_do_not_share_a_gpu(devices: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    message = f"--cuda-device is {devices}; expected different GPUs, or -1 for each process"
    with pytest.raises(InputError, match=message):
        run_in_process("evaluate", "archive", "data", "--cuda-device", devices)


def test_a_device_is_a_number(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        command_parser("evaluate").parse_args(["archive", "data", "--cuda-device", "0,gpu"])
    assert "--cuda-device: '0,gpu'; expected numbers such as 0,1 or -1" in capsys.readouterr().err


def test_only_the_input_file_is_named_as_no_text(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not if a file of the archive has bytes that are no UTF-8."""
    (tmp_path / "images.jsonl").write_text("{}")
    monkeypatch.setattr(predict, "_get_predictor", lambda args: b"\xff".decode())
    with pytest.raises(UnicodeDecodeError):
        run_in_process("predict", archive, tmp_path / "images.jsonl")


def test_metrics_of_all_kinds_are_lines() -> None:
    assert metric_lines({"loss": 0.51239, "count": 3, "matrix": [[1, 0]], "f1": None}) == [
        "loss    0.5124",
        "count   3",
        "matrix  [[1, 0]]",
        "f1      null",
    ]
    assert metric_lines({}) == []
