import argparse
from pathlib import Path

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from allencv.commands.shared_arguments import add_archive_file, add_command, add_overrides
from allencv.runtime.model_arguments import add_trust_archive


@Subcommand.register("explain")
class Explain(Subcommand):
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = add_command(parser, self.name)
        add_archive_file(subparser)
        subparser.add_argument("image", type=str, help="the path or URL of an image")
        subparser.add_argument(
            *("-o", "--output"),
            type=str,
            default="cam.png",
            help="the image file to write (default = %(default)s)",
        )
        subparser.add_argument(
            "--label", type=str, help="the label to explain (default = the most probable one)"
        )
        add_overrides(subparser)
        add_trust_archive(subparser)
        subparser.set_defaults(func=_explain)
        return subparser


def _explain(args: argparse.Namespace) -> None:
    from PIL import Image

    from allencv.common.archives import load_archive
    from allencv.common.nearest_names import not_one_of
    from allencv.reporting.explain import explain
    from allencv.runtime.whole_files import whole_file

    output = Path(args.output)
    if output.is_dir():
        raise ConfigurationError(f"--output '{output}' is a folder; expected the name of a file")
    formats = Image.registered_extensions()
    if output.suffix.lower() not in formats:
        raise not_one_of("the ending of --output", output.suffix, [".png", ".jpg", ".webp"])
    archive = load_archive(args.archive_file, overrides=args.overrides, trusted=args.trust_archive)
    found = explain(archive, args.image, args.label)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as temporary:
        found.picture.save(temporary)
    print(f"{found.label}, {found.probability:.1%}: {output}")
