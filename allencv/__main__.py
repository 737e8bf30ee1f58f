"""The `allencv` command: AllenNLP's commands, with every part of AllenCV registered."""


def main() -> None:
    # Imported here, so that importing this module stays quick: AllenNLP takes seconds.
    import allennlp.__main__  # noqa: F401 - sets up logging as for the allennlp command
    from allennlp.commands import main as run
    from allennlp.common.util import install_sigterm_handler

    import allencv.commands
    import allencv.plugin  # noqa: F401

    install_sigterm_handler()
    run(prog="allencv")


if __name__ == "__main__":
    main()
