import argparse
import json
import sys

from allencv.commands.shared_arguments import add_config, add_details, add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "It checks names of parts, keys, types of values, and values that a part refuses. The "
        "exit status is 1 if there are mistakes. Training does the same check first.",
    )
    add_config(parser)
    add_overrides(parser, "-o")
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json gives the key, line, choices and nearest choice of each mistake",
    )


def run(args: argparse.Namespace) -> None:
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
