import argparse
import json

from allencv.commands.shared_arguments import add_details


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "Add a REGISTRY to list its parts, and a NAME to describe one part with an example. "
        "With --include-package or .allennlp_plugins, it shows your own parts too.",
    )
    parser.add_argument(
        "registry",
        nargs="?",
        metavar="REGISTRY",
        help="a kind of part, such as im2im_encoder or Optimizer",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="the name of a part: its 'type' in a config"
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "markdown"),
        default="text",
        help="json without a REGISTRY prints the JSON Schema of a config, for editors",
    )


def run(args: argparse.Namespace) -> None:
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
    print(pages[args.format]().rstrip("\n"))


def _as_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
