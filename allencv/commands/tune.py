import argparse
import json
import sys
from pathlib import Path
from typing import Any

from allencv.commands.shared_arguments import (
    CONFIGS,
    add_config,
    add_details,
    add_overrides,
    add_serialization_dir,
)
from allencv.runtime.errors import InputError
from allencv.runtime.ray_arguments import add_ray_arguments, check_parallel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "Each trial is an 'allencv train' with other values; the first has the config's own. The "
        "score of a trial is the trainer.validation_metric of its final model. Of the trials "
        "that are done, only the best keeps its weights. If you repeat the command, finished "
        "trials are skipped, and interrupted and failed ones are completed. The exit status is "
        "1 if no trial has finished.",
    )
    add_config(parser)
    add_serialization_dir(
        parser,
        "the folder for the trials' folders, for tune.json with all results, and for best.json, "
        "the config with the best values",
    )
    parser.add_argument(
        "--space",
        required=True,
        type=str,
        help="the keys to search, each with a list of values or a range, as a JSON or jsonnet "
        'object or a file with one: {"trainer.optimizer.lr": {"log_uniform": [1e-4, 1e-2]}, '
        '"model.dropout": {"uniform": [0, 0.5]}, "data_loader.batch_size": [16, 32], '
        '"model.im2im_encoder.num_trained_stages": {"integer": [0, 4]}}',
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=20,
        help="the total number of trials, including those of earlier calls (default = 20)",
    )
    parser.add_argument(
        "--no-stopping",
        action="store_true",
        help="train each trial to its end (default: stop it after an epoch if its best score so "
        "far is below the median of the trials that have ended, unless trainer.num_epochs is "
        "searched)",
    )
    add_overrides(parser, "-o")
    add_ray_arguments(
        parser,
        "trials at once, which share the cores or get a GPU each (default = 1, or with --on ray 4)",
    )


def run(args: argparse.Namespace) -> None:
    from allencv.catalogue import read_config
    from allencv.experiments.search_space import search_space
    from allencv.experiments.tune import tune
    from allencv.models.from_archive import with_archived_model
    from allencv.training.run_folder import locked

    if args.trials < 1:
        raise InputError(f"--trials is {args.trials}; expected at least 1")
    check_parallel(args)
    space = search_space(_read_space(args.space))
    with locked(args.serialization_dir):
        params = with_archived_model(read_config(args.param_path, args.overrides))
        folder = Path(args.serialization_dir)
        search = tune(
            *(params.as_dict(quiet=True), space, folder, args.trials, args.include_package),
            parallel=args.parallel or (1 if args.on is None else 4),
            on_ray=args.on is not None,
            stop_early=not args.no_stopping,
        )
    print(f"all results: {folder / 'tune.json'}")
    if search.best is None:
        sys.exit(1)
    print(f"the config with the best values: {folder / 'best.json'}")
    print(f"the best model: {folder / search.best.name / 'model.tar.gz'}")


def _read_space(given: str) -> Any:
    import _jsonnet  # type: ignore[import-untyped]
    from allennlp.common.params import _environment_variables

    try:
        is_file = given.endswith(CONFIGS)
        text = Path(given).read_text(encoding="utf-8") if is_file else given
        name = given if is_file else ""  # imports are found beside it
        return json.loads(_jsonnet.evaluate_snippet(name, text, ext_vars=_environment_variables()))
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise InputError(
        f"--space is '{given}', which cannot be read ({reason}); expected an object in jsonnet, "
        'such as {"model.dropout": [0, 0.2]}, or a file .jsonnet or .json with one'
    )
