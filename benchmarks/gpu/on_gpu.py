"""
Measure everything on a machine with one GPU and no network, in ten minutes.

    bash .gpu/on_gpu [--dry-run] [--seconds 560] [STAGE ...]

benchmarks/gpu/pack makes .gpu/on_gpu, which runs this file. Each stage has a time limit and a log,
and the next one follows when it fails. After each measurement summary.json has the results so far;
at the end the program prints them as tables.

The logs and summary.json go to the folder $OUT (runs/gpu). Packages and data are unpacked to
$GPU_WORK (/tmp/allencv_gpu) and used again by a later call. --dry-run does everything in tiny sizes
on a CPU, with the packages of the Python that runs it.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Union

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKED = ROOT / ".gpu"
Command = List[Union[str, Path]]
LEAST_SECONDS = 20
"""With less time left, no other stage begins."""


class Stage(NamedTuple):
    seconds: int
    """The time limit."""
    command: Command
    """The arguments of Python."""


def gpu_tests() -> List[str]:
    """Return the arguments of pytest for the files with tests that need a GPU."""
    files = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "tests").rglob("*_test.py"))
        if 'reason="needs a GPU"' in file.read_text(encoding="utf-8")
    ]
    return ["-p", "gpu_tests", "-p", "no:cacheprovider", "-rap", *files]


STAGES = {
    "check": Stage(60, [HERE / "machine.py"]),
    "tests": Stage(90, ["-m", "pytest", *gpu_tests()]),
    "loops": Stage(200, [HERE / "loops.py", "eager", "recipe", "compiled"]),
    "loaders": Stage(105, [HERE / "loaders.py"]),
    "cifar": Stage(155, [HERE / "cifar.py"]),
    "end_to_end": Stage(70, [HERE / "end_to_end.py"]),
    "autotuned": Stage(50, [HERE / "loops.py", "autotuned"]),
}
BESIDE_DATA = ("check", "tests")
"""The stages that run while the images are made: they measure no time."""


def unpack(folder: Path) -> None:
    """Unpack the packages, unless an earlier call has."""
    stamp = folder / "packages.stamp"
    packed = (PACKED / "packages.stamp").read_text()
    if stamp.exists() and stamp.read_text() == packed:
        return
    shutil.rmtree(folder / "packages", ignore_errors=True)
    with tarfile.open(PACKED / "packages.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    compile_all: Command = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        folder / "packages",
    ]
    subprocess.run(compile_all, stdout=subprocess.DEVNULL)  # some files are for other Pythons
    stamp.write_text(packed)


def variables(work: Path, output: Path, is_dry: bool) -> Dict[str, str]:
    """Return what the stages find in the environment. It keeps them from the network."""
    packages = [] if is_dry else [HERE / "hide_packages", work / "packages"]
    # Compiling takes a minute, and the project's tests cover it.
    dry = {"GPU_DRY_RUN": "1", "TORCHDYNAMO_DISABLE": "1"} if is_dry else {}
    return {
        "PYTHONPATH": os.pathsep.join(map(str, [*packages, ROOT, HERE.parent, HERE])),
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **dict.fromkeys(("USE_TF", "USE_FLAX", "USE_JAX"), "0"),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TRITON_CACHE_DIR": str(work / "triton"),
        "OUT": str(output),
        "GPU_DATA": str(work / ("dry_run_data" if is_dry else "data")),
        **dry,
    }


def run(command: Command, seconds: float, log: Path) -> str:
    """Run Python with a command for some seconds at most, and return how it ended."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "GPU_SECONDS": str(seconds)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return "cut off"
        finally:  # it, and what it has started
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return "done" if status == 0 else f"failed ({status})"


def measure(names: List[str], end: float, output: Path, is_dry: bool) -> Dict[str, Any]:
    """Run stages until the time `end`, and return the summary of all."""
    # The packages are in their place only now.
    from stage import SUMMARY, save

    make_data: Command = [sys.executable, HERE / "make_data.py", PACKED / "cifar10.tar.xz"]
    data = subprocess.Popen(make_data, cwd=ROOT)
    stages: Dict[str, Any] = {}
    for name in names:
        if name not in BESIDE_DATA:
            with contextlib.suppress(subprocess.TimeoutExpired):
                data.wait(max(0, end - time.monotonic()))
        started, log, status = time.monotonic(), output / f"{name}.log", "no time was left"
        if end - started > LEAST_SECONDS:
            most = (5 if is_dry else 1) * STAGES[name].seconds  # a CPU is slow
            status = run(STAGES[name].command, min(most, end - started - 3), log)
        stages[name] = {"status": status, "seconds": time.monotonic() - started}
        save("stages", stages)
        print(f"{name}: {status} after {stages[name]['seconds']:.0f} s", flush=True)
        if status.startswith("failed"):
            print(*log.read_text(errors="replace").splitlines()[-12:], sep="\n", flush=True)
    return json.loads(SUMMARY.read_text())


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--seconds", type=float, help="the time for everything (560)")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.stages if name not in STAGES]
    if unknown:
        parser.error(f"no stage '{unknown[0]}'; expected one of {', '.join(STAGES)}")
    if not (arguments.dry_run or (PACKED / "packages.stamp").exists()):
        parser.error(f"no packages in {PACKED}; make them with benchmarks/gpu/pack, or --dry-run")
    seconds = arguments.seconds or (3000 if arguments.dry_run else 560)

    output = Path(os.environ.get("OUT", ROOT / "runs" / "gpu")).resolve()
    work = Path(os.environ.get("GPU_WORK", "/tmp/allencv_gpu")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    for old in [*output.glob("*.log"), output / "summary.json"]:
        old.unlink(missing_ok=True)
    if not arguments.dry_run:
        unpack(work)
        print(f"the packages are there after {time.monotonic() - started:.0f} s", flush=True)
    os.environ.update(variables(work, output, arguments.dry_run))
    sys.path += os.environ["PYTHONPATH"].split(os.pathsep)

    from results import table

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the stage too
    chosen = [name for name in STAGES if name in (arguments.stages or STAGES)]
    names = ["check", *(name for name in chosen if name != "check")]
    print(table(measure(names, started + seconds, output, arguments.dry_run)))
    print(f"over after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
