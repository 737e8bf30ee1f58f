import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Optional, Tuple

from allencv.commands.fit import add_layout_arguments, add_root, add_task, layout_options
from allencv.commands.shared_arguments import add_overrides, is_config
from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_trust_archive

DETAILS = """\
CONFIG_OR_DATA is an experiment config, or a folder, a table, a list or the name of a torchvision
dataset, as for 'allencv fit'. The exit status is 1 if training would fail or give misleading
results.

With --features, a pretrained network or a trained model compares the images: it finds cropped,
mirrored and edited copies, images that may have a wrong label, and images unlike all others. The
page then has a map of the images."""

EPILOG = """\
examples:
  allencv check-data config.jsonnet
  allencv check-data photos/ -o report
  allencv check-data photos/ -o report --features tf_efficientnet_lite0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{parser.description}\n\n{DETAILS}"
    parser.epilog = EPILOG
    parser.add_argument(
        "data", metavar="CONFIG_OR_DATA", type=str, help="a config, or the images; see above"
    )
    parser.add_argument(
        *("-o", "--output"),
        type=str,
        help="the folder to write the report to: data.json and data.html",
    )
    parser.add_argument("--json", type=str, help="the file to write all problems to")
    parser.add_argument("--html", type=str, help="the file to write a page of images to")
    add_overrides(parser, when="for a config: ")
    features = parser.add_argument_group("features")
    features.add_argument(
        "--features",
        metavar="BACKBONE",
        help="the network whose features are compared: a model archive (model.tar.gz, or the "
        "folder of a run), or a network of torchvision or timm by its name, such as resnet18",
    )
    features.add_argument(
        "--weights", metavar="FILE", help="weights for the named network (default = the published)"
    )
    features.add_argument(
        "--device", help="cpu, cuda, cuda:1, ... (default = the first GPU, or else the CPU)"
    )
    features.add_argument(
        "--no-cache",
        action="store_true",
        help="compute all features and keep none (see 'allencv embed')",
    )
    add_trust_archive(features)
    data = parser.add_argument_group("how to read DATA (by default inferred and printed)")
    add_task(data)
    add_root(data)
    add_layout_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from allennlp.common import Tqdm

    from allencv.data.inspection import examine_all
    from allencv.data.problems import KINDS, by_kind, find_problems
    from allencv.reporting import data_html, data_text
    from allencv.runtime.cpu_count import cpu_count
    from allencv.runtime.plurals import numbered
    from allencv.runtime.whole_files import write_text

    json_file, html_file = args.json, args.html
    if args.output is not None:
        json_file = json_file or os.path.join(args.output, "data.json")
        html_file = html_file or os.path.join(args.output, "data.html")
    _make_folders(json_file, html_file)
    start = time.perf_counter()
    splits = splits_of(args)
    encoder = _encoder(args)
    images = list(
        Tqdm.tqdm(
            examine_all(splits, min(16, cpu_count())),
            total=sum(len(split.samples) for split in splits),
            desc="checking images",
        )
    )
    problems = find_problems(splits, images)
    comparison = None
    if encoder is not None:
        more, comparison = _compared(args, encoder, splits, images, problems, bool(html_file))
        problems = by_kind([*problems, *more])
    seconds = time.perf_counter() - start
    print(data_text.as_text(splits, problems, comparison))
    found = data_text.number_of(problems)
    print(f"{numbered(len(images), 'image')} checked in {seconds:.1f} s: {found}")
    if json_file:
        content = data_text.as_json(splits, problems, comparison)
        write_text(json_file, json.dumps(content, indent=2) + "\n")
    if html_file:
        page = data_html.as_html(Path(args.data).name, splits, problems, comparison)
        write_text(html_file, page, errors="replace")
    written = [file for file in (json_file, html_file) if file]
    if written:
        print(f"everything that was found: {', '.join(written)}")
    if any(KINDS[problem.kind].is_fatal for problem in problems):
        sys.exit(1)


def splits_of(args: argparse.Namespace) -> Any:
    """Return the splits of a config, or those found in data."""
    from allennlp.common import Params

    from allencv.catalogue import READER_KEYS, read_config
    from allencv.data.inspection import read_splits
    from allencv.fitting.data_facts import undivided_config
    from allencv.fitting.found_data import find_data

    columns, folders = layout_options(args)
    if is_config(args.data):
        return read_splits(read_config(args.data, args.overrides, READER_KEYS))
    found = find_data(args.data, columns, args.root, folders)
    for note in found.notes:
        if found.split is None or not note.startswith("validation: "):  # none is held out here
            print(note)
    return read_splits(Params(undivided_config(found)))


def _encoder(args: argparse.Namespace) -> Any:
    """Open the network, if there is one, before images are decoded, which takes long."""
    if args.features is None:
        for option in ("weights", "device", "no_cache", "trust_archive"):
            if getattr(args, option):
                raise InputError(f"--{option.replace('_', '-')} has no effect without --features")
        return None
    from allencv.features.embedding import open_encoder

    return open_encoder(args.features, args.weights, None, args.device, args.trust_archive)


def _compared(
    args: argparse.Namespace, encoder: Any, splits: Any, images: Any, problems: Any, with_map: bool
) -> Tuple[Any, Any]:
    """Compare the images by their features. Return more problems, and the `Comparison`."""
    from allencv.features.data_problems import find_feature_problems
    from allencv.features.data_vectors import vectors_of_data
    from allencv.features.suspects import map_in_two_dimensions, sample_rows
    from allencv.reporting.data_map import MOST_POINTS, Comparison, DataMap

    found = vectors_of_data(encoder, splits, images, cache=not args.no_cache)
    more, notes = find_feature_problems(found, problems)
    data_map = None
    if with_map and found.images:
        rows = sample_rows(len(found.images), MOST_POINTS)
        points, method = map_in_two_dimensions(found.vectors[rows])
        data_map = DataMap([found.images[row] for row in rows], points, method)
    return more, Comparison(args.features, len(found.images), notes, data_map)


def _make_folders(*files: Optional[str]) -> None:
    """Make the folders of the files before images are decoded, which takes long."""
    for file in files:
        if file is None:
            continue
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"'{file}' cannot be written: {error.strerror}") from error
        if Path(file).is_dir():
            raise InputError(f"'{file}' is a folder; expected the name of a file")
