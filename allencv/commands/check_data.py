import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Optional

from allencv.commands.shared_arguments import add_config, add_details, add_overrides
from allencv.runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "The exit status is 1 if training would fail or give misleading results.",
    )
    add_config(parser)
    parser.add_argument(
        *("-o", "--output"),
        type=str,
        help="the folder to write the report to: data.json and data.html",
    )
    parser.add_argument("--json", type=str, help="the file to write all problems to")
    parser.add_argument("--html", type=str, help="the file to write a page of images to")
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    from allennlp.common import Tqdm

    from allencv.catalogue import READER_KEYS, read_config
    from allencv.data.inspection import examine_all, read_splits
    from allencv.data.problems import KINDS, find_problems
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
    splits = read_splits(read_config(args.param_path, args.overrides, READER_KEYS))
    images = list(
        Tqdm.tqdm(
            examine_all(splits, min(16, cpu_count())),
            total=sum(len(split.samples) for split in splits),
            desc="checking images",
        )
    )
    problems = find_problems(splits, images)
    seconds = time.perf_counter() - start
    print(data_text.as_text(splits, problems))
    found = data_text.number_of(problems)
    print(f"{numbered(len(images), 'image')} checked in {seconds:.1f} s: {found}")
    if json_file:
        content = data_text.as_json(splits, problems)
        write_text(json_file, json.dumps(content, indent=2) + "\n")
    if html_file:
        page = data_html.as_html(Path(args.param_path).name, splits, problems)
        write_text(html_file, page, errors="replace")
    written = [file for file in (json_file, html_file) if file]
    if written:
        print(f"everything that was found: {', '.join(written)}")
    if any(KINDS[problem.kind].is_fatal for problem in problems):
        sys.exit(1)


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
