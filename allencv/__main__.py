"""
The `allencv` command: AllenNLP's commands, with every part of AllenCV registered.

AllenNLP and torch take seconds to import. So the commands are listed without them, and `serve` and
`classify` of a bundle run without them, also where the two are not installed.
"""

import argparse
import logging
import os
import re
import sys
from importlib import import_module

import allencv

COMMANDS = {
    "Data": {
        "check-data": "Look for damaged images, copies and odd labels.",
        "show-batch": "Draw images as they are and as the network sees them.",
        "count-instances": "Count the training instances of a config.",
        "build-vocab": "Build the vocabulary of a config.",
    },
    "Training": {
        "fit": "Choose a config for a folder or table of images, and train.",
        "components": "Show the parts that a config can name, and their arguments.",
        "check-config": "Find all mistakes of a config, without its data.",
        "find-lr": "Find a range of learning rates.",
        "train": "Train a model as a config says.",
        "sweep": "Train a config with several seeds, or in cross validation.",
    },
    "Results": {
        "report": "Make a page of how a run went and how good its model is.",
        "evaluate": "Evaluate an archive on data with labels.",
        "explain": "Show where in an image a model sees a label.",
        "print-results": "Print the metrics of several runs as a table.",
        "diff": "Show how the weights of two checkpoints differ.",
    },
    "Trained models": {
        "predict": "Answer for the lines of a JSON file with an archive.",
        "classify": "Classify many images with an archive or a bundle.",
        "export": "Make a bundle of an archive.",
        "serve": "Serve an archive or a bundle over HTTP, with a page.",
        "push-to-hf": "Push a model to the Hugging Face Hub.",
    },
    "AllenNLP": {
        "cached-path": "Cache remote files.",
        "checklist": "Run a model of texts through a checklist suite.",
        "test-install": "Test the installation of AllenNLP.",
    },
}
"""The commands in groups, each with a line for the list of them."""
USAGE = """\
usage: allencv COMMAND ...
       allencv COMMAND --help
       allencv --version

Image classification as an AllenNLP experiment."""
NOTES = """\
An archive is the model.tar.gz of a run, or its folder. A bundle is what export
makes of one; it needs neither torch nor AllenNLP. What plugins bring is not
listed."""
QUIET = {"check-config", "check-data", "classify", "components", "explain", "export", "report"}
QUIET |= {"serve", "show-batch"}
"""The commands that print what there is to say, so that AllenNLP need not log what it builds."""
WITH_BUNDLES = {"classify": "allencv.runtime.classify", "serve": "allencv.serving.command"}
"""The commands that know bundles, and the module of each: a description, arguments and `run`."""


def main() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(help_text())
    elif name == "--version":
        print(f"allencv {allencv.__version__}")
    elif name not in WITH_BUNDLES or not _run_with_bundle(name, arguments):
        _run_allennlp(name)


def help_text() -> str:
    """What `allencv --help` prints."""
    width = max(len(name) for commands in COMMANDS.values() for name in commands)
    groups = []
    for group, commands in COMMANDS.items():
        lines = [f"    {name:{width}}  {summary}" for name, summary in commands.items()]
        groups.append("\n".join([f"{group}:", *lines]))
    return "\n\n".join([USAGE, *groups, NOTES])


def _run_with_bundle(name: str, arguments: "list[str]") -> bool:
    """Runs a command that knows bundles, and returns whether it was given one."""
    from allencv.runtime.bundle import is_bundle
    from allencv.runtime.errors import ImageError
    from allencv.runtime.manifest import BundleError
    from allencv.runtime.sources import InputError

    command = import_module(WITH_BUNDLES[name])
    parser = argparse.ArgumentParser(prog=f"allencv {name}", description=command.DESCRIPTION)
    command.add_arguments(parser)
    parser.add_argument(
        "--include-package",
        type=str,
        action="append",
        metavar="PACKAGE",
        help="for an archive: additional packages to include",
    )
    args = parser.parse_args(arguments)
    if args.include_package or not is_bundle(args.model):
        return False
    try:
        command.run(args)
    except (BundleError, ImageError, InputError) as error:
        if os.environ.get("ALLENNLP_DEBUG"):
            raise
        sys.exit(f"allencv: {error}")
    except KeyboardInterrupt:
        sys.exit(130)  # as shells have it
    return True


def _run_allennlp(name: str) -> None:
    if name in QUIET:
        os.environ.setdefault("ALLENNLP_LOG_LEVEL", "WARNING")
    try:
        import allennlp.__main__  # noqa: F401 - sets up logging as for the allennlp command
    except ModuleNotFoundError as error:
        if error.name not in ("allennlp", "torch"):
            raise
        sys.exit(
            f"allencv: {name} needs {error.name}, which is not installed; without it there are "
            f"{' and '.join(WITH_BUNDLES)}, of bundles that 'allencv export' has made"
        )
    from allennlp.commands import main as run
    from allennlp.common.checks import ConfigurationError
    from allennlp.common.util import install_sigterm_handler

    import allencv.commands
    import allencv.plugin  # noqa: F401
    from allencv.common.console import console_to_follow
    from allencv.common.included_packages import import_included_packages
    from allencv.runtime.errors import ImageError
    from allencv.runtime.manifest import BundleError
    from allencv.runtime.sources import InputError
    from allencv.training import TrainingError

    install_sigterm_handler()
    try:
        import_included_packages(sys.argv[2:])
        with console_to_follow():
            run(prog="allencv")
    except (
        BundleError,
        ConfigurationError,
        ImageError,
        InputError,
        TrainingError,
        FileNotFoundError,
        RuntimeError,
    ) as error:
        # These say all there is to know; where in the code they were found helps nobody.
        jsonnet = str(error).startswith(("RUNTIME ERROR", "STATIC ERROR"))
        if os.environ.get("ALLENNLP_DEBUG") or (isinstance(error, RuntimeError) and not jsonnet):
            raise
        message = str(error).splitlines()[0] if jsonnet else str(error)
        logging.getLogger(__name__).info("Ended by: %s", message)  # for the log of the run
        sys.exit(f"allencv: {message}")
    except ValueError as error:
        found = re.fullmatch(r"overrides dict contains unused keys: (.*)", str(error))
        if found is None:
            raise
        sys.exit(
            f"allencv: the overrides have {found[1]}; expected a key that the config has, or for a "
            'new object all of it: {"distributed": {"cuda_devices": [0, 1]}}'
        )


if __name__ == "__main__":
    main()
