"""Print a config to start from, or list them."""

import argparse
from typing import List

from allencv.commands.shared_arguments import add_details


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "For example: allencv recipe hymenoptera > my.jsonnet. Its first lines say which data it "
        "needs, and the command that trains it.",
    )
    name = parser.add_argument(
        "name", metavar="NAME", nargs="?", help="the recipe to print (default: list all)"
    )
    name.completer = _names  # type: ignore[attr-defined]  # argcomplete calls it


def _names(**of_argcomplete: object) -> List[str]:
    from allencv.recipes import list_recipes

    return list(list_recipes())


def run(args: argparse.Namespace) -> None:
    from allencv.recipes import list_recipes, recipe

    if args.name is not None:
        print(recipe(args.name), end="")
        return
    recipes = list_recipes()
    width = max(map(len, recipes))
    for name, summary in recipes.items():
        print(f"{name:{width}}  {summary}")
