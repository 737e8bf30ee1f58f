"""Measure training from JPEG files as benchmarks/training.py does, at 224 px, in rounds."""

import subprocess
import time
from typing import Dict, List

from stage import DATA, DRY_RUN, save, seconds_left
from training_from_files import LOOPS as ALL_LOOPS
from training_from_files import report_of, speed_of

from allencv.runtime.cpu_count import cpu_count

SIZE, ROUNDS = (32, 1) if DRY_RUN else (224, 3)
LOOPS = [name for name in ALL_LOOPS if "given back" not in name]  # memory of the CPU


def main() -> None:
    speeds: Dict[str, List[float]] = {name: [] for name in LOOPS}
    failed: List[str] = []
    longest = 0.0
    for _ in range(ROUNDS):
        for name in LOOPS:
            if name in failed or seconds_left() < longest + 5:
                continue
            started = time.perf_counter()
            try:
                speeds[name].append(speed_of(name, "ResNet-18", SIZE, DATA / "photos", cpu_count()))
            except subprocess.CalledProcessError:  # the others may work
                failed.append(name)
            longest = max(longest, time.perf_counter() - started)
            print(name, speeds[name], flush=True)
            save("end_to_end", {"size": SIZE, "loops": report_of(speeds)})
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
