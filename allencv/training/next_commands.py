"""The commands to print after a training: what to do with the model, and how to resume."""

import json
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Sequence, Union

from allencv.common.data_paths import data_text
from allencv.runtime.certainty.files import FILES
from allencv.training.run_folder import has_checkpoint


def next_commands(folder: Path) -> List[str]:
    """Return commands for the archive of a run, as lines to print."""
    run, archive = shlex.quote(str(folder)), shlex.quote(str(folder / "model.tar.gz"))
    calibrate = []
    if not (folder / FILES[0]).exists():
        config = config_of_run(folder)
        if config.get("calibration_data_path") is not None:
            command = calibrate_command(folder, config["calibration_data_path"])
            reason = "The model is not calibrated. The reason is in out.log. To calibrate it:"
            calibrate = [reason, f"  {command}"]
    return [
        *calibrate,
        f"  allencv report {run} -o report.html",
        f"  allencv classify {archive} photos/ -o predictions.csv",
        f"  allencv export {archive} bundle/",
        f"  allencv serve {archive}",
    ]


def config_of_run(folder: Path) -> Mapping[str, Any]:
    """Return the config of a run; an empty one if it was not trained from a config."""
    file = folder / "config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def calibrate_command(folder: Path, data: Any) -> str:
    """
    Return the command that calibrates a run as `calibration` in its config says, quoted for a
    shell. Keys for which the command has no option are named in a comment behind it.
    """
    command = ["allencv", "calibrate", str(folder), data_text(data)]
    calibration = config_of_run(folder).get("calibration")
    without = []
    for key, value in calibration.items() if isinstance(calibration, dict) else ():
        if isinstance(value, dict):
            without += [f"{key}.{name} {each}" for name, each in value.items() if name != "type"]
            value = value.get("type")
        elif value is None and key in ("sets", "unknown"):
            value = "none"
        if key == "type" or value is None or value is False:
            continue
        command.append(f"--{key.replace('_', '-')}")
        if value is not True:
            command += map(str, value if isinstance(value, list) else [value])
    said = f"  # has no option for {', '.join(without)}" if without else ""
    return f"{shlex.join(command)}{said}"


def train_command(
    config_file: Union[str, Path],
    folder: Union[str, Path],
    include_package: Sequence[str],
    overrides: str = "",
) -> str:
    """Return the command that trains a config into a folder, quoted for a shell."""
    paths = [
        f"./{path}" if str(path).startswith("-") else str(path) for path in (config_file, folder)
    ]
    changes = ["-o", overrides] if overrides else []
    packages = (word for package in include_package for word in ("--include-package", package))
    return shlex.join(["allencv", "train", paths[0], "-s", paths[1], *changes, *packages])


@contextmanager
def resumed_by(command: str, folder: Path) -> Iterator[None]:
    """Print how to resume a run if it is interrupted in the `with` block after a checkpoint."""
    try:
        yield
    except KeyboardInterrupt:
        if folder.is_dir() and has_checkpoint(folder):
            print(f"To resume the run: {command} --recover", file=sys.stderr, flush=True)
        raise
