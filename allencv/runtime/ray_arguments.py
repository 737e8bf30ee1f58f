import argparse

from allencv.runtime.errors import InputError

RAY = "ray"
"""The value of `--on`."""


def add_ray_arguments(group: argparse._ActionsContainer, parallel: str) -> None:
    """Add the arguments `--on` and `--parallel`. `parallel` says what the latter counts."""
    group.add_argument(
        "--on",
        choices=[RAY],
        help="run on Ray: on the cluster at RAY_ADDRESS, or else on a Ray of this machine. All "
        "machines must see the same files at the same paths",
    )
    group.add_argument("--parallel", type=int, metavar="N", help=f"the number of {parallel}")


def check_parallel(args: argparse.Namespace) -> None:
    """Raise `InputError` for a `--parallel` below 1."""
    if args.parallel is not None and args.parallel < 1:
        raise InputError(f"--parallel is {args.parallel}; expected at least 1")
