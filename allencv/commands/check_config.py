import argparse
import json
import sys

from allennlp.commands.subcommand import Subcommand

from allencv.commands.shared_arguments import add_command, add_config, add_overrides

EXAMPLE = ", e.g. '{\"trainer.num_epochs\": 10}'"


@Subcommand.register("check-config")
class CheckConfig(Subcommand):
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = add_command(
            parser,
            self.name,
            "It checks names of parts, keys, types of values, and values that a part refuses. The "
            "exit status is 1 if there are mistakes. Training does the same check first.",
        )
        add_config(subparser)
        add_overrides(subparser, "-o", such_as=EXAMPLE)
        subparser.add_argument(
            "--format",
            choices=("text", "json"),
            default="text",
            help="json gives the key, line, choices and nearest choice of each mistake",
        )
        subparser.set_defaults(func=_check_config)
        return subparser


def _check_config(args: argparse.Namespace) -> None:
    from allencv.catalogue import check_file

    mistakes = check_file(args.param_path, args.overrides)
    errors = sum(not mistake.is_warning for mistake in mistakes)
    if args.format == "json":
        found = [
            {
                "kind": mistake.kind,
                "key": mistake.key,
                "line": mistake.line,
                "message": mistake.message,
                "choices": mistake.choices,
                "nearest": mistake.nearest,
            }
            for mistake in mistakes
        ]
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for mistake in mistakes:
            print(mistake.text(args.param_path))
        number = {0: "no mistakes", 1: "1 mistake"}.get(errors, f"{errors} mistakes")
        print(f"{args.param_path}: {number}")
    if errors:
        sys.exit(1)
