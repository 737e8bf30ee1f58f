import argparse
import sys
from pathlib import Path

from allencv.commands.shared_arguments import add_config, add_details, add_overrides
from allencv.runtime.errors import InputError
from allencv.runtime.ray_arguments import add_ray_arguments, check_parallel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "Each run is one of 'allencv train', with its own folder. If you repeat the command, "
        "finished runs are skipped and interrupted runs resume. The exit status is 1 if a run "
        "has failed.",
    )
    add_config(parser)
    parser.add_argument(
        *("-s", "--serialization-dir"),
        required=True,
        type=str,
        help="the folder for the runs' folders, and for sweep.json with all results",
    )
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--seeds", type=int, help="the number of seeds (0, 1, ...)")
    kinds.add_argument(
        "--folds",
        type=int,
        help="the number of folds of the training data; each run validates on one fold and "
        "trains on the others",
    )
    add_overrides(parser, "-o")
    add_ray_arguments(
        parser,
        "runs at once, which share the cores or get a GPU each (default = 1, or with --on ray all)",
    )


def run(args: argparse.Namespace) -> None:
    from allencv.catalogue import read_config
    from allencv.experiments.sweep import sweep
    from allencv.models.from_archive import with_archived_model
    from allencv.training.run_folder import locked

    kind, count = ("seed", args.seeds) if args.folds is None else ("fold", args.folds)
    least = 1 if kind == "seed" else 2
    if count < least:
        raise InputError(f"--{kind}s is {count}; expected at least {least}")
    check_parallel(args)
    parallel = args.parallel or (1 if args.on is None else count)
    with locked(args.serialization_dir):
        params = with_archived_model(read_config(args.param_path, args.overrides))
        folder = Path(args.serialization_dir)
        runs = sweep(
            *(params.as_dict(quiet=True), folder, kind, count),
            *(args.include_package, parallel, args.on is not None),
        )
    failed = [run for run in runs if "error" in run]
    for run in failed:
        print(f"{run['run']} has failed: {run['error']}")
    print(f"everything: {folder / 'sweep.json'}")
    if failed:
        sys.exit(1)
