"""
Measure the loops of benchmarks/training.py, with batches in memory:

    python benchmarks/gpu/loops.py GROUP ...

* eager: ResNet-50 at 224 px, as in benchmarks/training.py;
* recipe: the network of training_config/cifar10.jsonnet. Its steps are short, so that the cost of
  the loop itself shows most;
* compiled: ResNet-50 under torch.compile, in this project's loop, timm's and a bare one;
* autotuned: "eager" with torch.backends.cudnn.benchmark, which timm's train.py sets, for all loops.
  This project's trainer turns it on by itself. It needs a process of its own.
"""

import argparse
import functools
import gc
import json
import statistics
import traceback
from typing import Any, Callable, Dict, List, NamedTuple

import torch
import training_loops as training
from allennlp.common import Params
from stage import DRY_RUN, SECONDS, save, saved, seconds_left

RESNET = next(iter(training.NETWORKS))
RECIPE = "network of cifar10.jsonnet, 32 px"
Loops = Dict[str, Callable[..., training.Epoch]]
EAGER = {name: loop for name, loop in training.LOOPS.items() if "," not in name}


def image_trainer(**arguments: Any) -> Callable[..., training.Epoch]:
    return functools.partial(training.trainer_loop, type="image", **arguments)


class Group(NamedTuple):
    """Loops to compare. `until` is the share of the stage's time after which no round begins."""

    network: str
    loops: Loops
    until: float
    baseline: str = "bare"
    batch_size: int = training.BATCH_SIZE
    steps: int = 10
    rounds: int = 4


COMPILED: Loops = {
    "bare, compiled": functools.partial(training.bare_loop, compiled=True),
    "allencv, compiled": image_trainer(compile=True),
    "timm, compiled": functools.partial(training.timm_loop, compiled=True),
    "bare": training.bare_loop,
    "allencv, encoder compiled": image_trainer(compile=["_im2im_encoder"]),
}
GROUPS = {
    "eager": Group(RESNET, EAGER, until=0.3),
    "recipe": Group(RECIPE, EAGER, until=0.4, batch_size=128, steps=100),
    "compiled": Group(RESNET, COMPILED, until=0.94, baseline="bare, compiled", rounds=7),
    "autotuned": Group(
        RESNET, {name: EAGER[name] for name in ("bare", "allencv", "timm")}, until=0.9, rounds=5
    ),
}
if DRY_RUN:
    GROUPS = {
        name: group._replace(until=1, batch_size=8, steps=2, rounds=2)
        for name, group in GROUPS.items()
    }


def add_recipe() -> None:
    """Add the network of the config to those of benchmarks/training.py."""
    variables = {"DATA": "", "NETWORK": "small" if DRY_RUN else "large", "EPOCHS": "1"}
    config = Params.from_file("training_config/cifar10.jsonnet", ext_vars=variables)
    encoder = config["model"]["im2im_encoder"].as_dict()
    training.NETWORKS[RECIPE] = (encoder, encoder["widths"][-1], 32)


def measure(name: str, group: Group) -> None:
    """Measure in rounds, in which the loops take turns, until it is too late for another."""
    batches = training.make_batches(group.network, group.steps, group.batch_size)
    epochs: Dict[str, training.Epoch] = {}
    times: Dict[str, List[float]] = {}
    found: Dict[str, Dict[str, Any]] = {}

    def is_late() -> bool:
        return seconds_left() < (1 - group.until) * SECONDS

    for loop, make in group.loops.items():
        if is_late():
            found[loop] = {"error": "no time was left"}
            continue
        try:
            epoch = make(group.network, batches, group.steps)
            found[loop] = {"first_seconds": training.seconds_of(epoch)}  # compiles, and warms up
            # Measure the first round now, because the next loop may take all the time that is left.
            times[loop] = [training.seconds_of(epoch)]
            epochs[loop] = epoch
        except Exception as error:  # the other loops may work
            traceback.print_exc()
            found[loop] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        keep(name, group, times, found)
    for _ in range(group.rounds - 1):
        if is_late():
            break
        for loop, epoch in epochs.items():
            times[loop].append(training.seconds_of(epoch))
        keep(name, group, times, found)
    keep(name, group, times, found)
    print(name, json.dumps(found, indent=1), flush=True)


def keep(
    name: str, group: Group, times: Dict[str, List[float]], found: Dict[str, Dict[str, Any]]
) -> None:
    for loop, seconds in times.items():
        found[loop].update(
            images_per_second=group.batch_size * group.steps / statistics.median(seconds),
            time_to_baseline=training.median_ratio(seconds, times.get(group.baseline, [])),
            ms_per_step=[round(1000 * each / group.steps, 2) for each in seconds],
        )
    report = {
        "network": group.network,
        "batch_size": group.batch_size,
        "steps": group.steps,
        "rounds": max(map(len, times.values()), default=0),
        "baseline": group.baseline,
        "loops": found,
    }
    save("loops", {**saved("loops"), name: report})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("groups", nargs="+", choices=GROUPS)
    add_recipe()
    for name in parser.parse_args().groups:
        torch.backends.cudnn.benchmark = name == "autotuned"
        measure(name, GROUPS[name])
        gc.collect()
        if training.ON_GPU:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
