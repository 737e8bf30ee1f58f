"""The `allencv` command: AllenNLP's commands, with every part of AllenCV registered."""

import logging
import os
import sys


def main() -> None:
    # Imported here, so that importing this module stays quick: AllenNLP takes seconds.
    import allennlp.__main__  # noqa: F401 - sets up logging as for the allennlp command
    from allennlp.commands import main as run
    from allennlp.common.checks import ConfigurationError
    from allennlp.common.util import install_sigterm_handler

    import allencv.commands
    import allencv.plugin  # noqa: F401
    from allencv.runtime import ImageError
    from allencv.training import TrainingError

    install_sigterm_handler()
    try:
        run(prog="allencv")
    except (
        ConfigurationError,
        ImageError,
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


if __name__ == "__main__":
    main()
