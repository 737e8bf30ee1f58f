import argparse
import json
import os
import sys

from allennlp.commands.subcommand import Subcommand


@Subcommand.register("components")
class Components(Subcommand):
    """Shows every registered part, a user's own included."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = """Show the parts that a config can name: all, those of a registry, or one
        with its arguments and an example. A user's own are shown too, with --include-package or
        .allennlp_plugins."""
        subparser = parser.add_parser(
            self.name,
            description=description,
            help="Show the parts that a config can name, and their arguments.",
        )
        subparser.add_argument(
            "registry",
            nargs="?",
            metavar="REGISTRY",
            help="a class that has parts, such as im2im_encoder or Optimizer",
        )
        subparser.add_argument(
            "name", nargs="?", metavar="NAME", help="the name of a part, its 'type' in a config"
        )
        subparser.add_argument(
            "--format",
            choices=("text", "json", "markdown"),
            default="text",
            help="without a REGISTRY, json is the JSON Schema of whole configs, for editors",
        )
        subparser.set_defaults(func=_components)
        return subparser


def _components(args: argparse.Namespace) -> None:
    from allencv.catalogue import (
        experiment_schema,
        find_part,
        find_registry,
        markdown,
        part_as_json,
        registry_as_json,
        text,
    )

    if args.registry is None:
        pages = {
            "text": text.overview,
            "json": lambda: _as_text(experiment_schema()),
            "markdown": markdown.overview,
        }
    elif args.name is None:
        registry = find_registry(args.registry)
        pages = {
            "text": lambda: text.registry_page(registry),
            "json": lambda: _as_text(registry_as_json(registry)),
            "markdown": lambda: markdown.registry_page(registry),
        }
    else:
        part = find_part(find_registry(args.registry), args.name)
        pages = {
            "text": lambda: text.part_page(part),
            "json": lambda: _as_text(part_as_json(part)),
            "markdown": lambda: markdown.part_page(part),
        }
    try:
        print(pages[args.format]().rstrip("\n"), flush=True)
    except BrokenPipeError:  # whoever reads has enough: `head`, or a pager that was left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
