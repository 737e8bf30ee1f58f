import argparse
import os
import re
from typing import Any, Dict, Optional

from allencv.commands.fit import add_layout_arguments, add_root, add_task, layout_options
from allencv.commands.shared_arguments import add_overrides, is_config
from allencv.runtime.errors import InputError

DETAILS = """\
DATA is a folder, a table, a list or the name of a torchvision dataset, as for 'allencv fit', or a
config (.jsonnet, .json), whose reader is used. Image files are copied byte for byte. SHARDS is a
new folder. If the command is interrupted, run it again to continue.

With --index-only it writes only the index of shards that exist. DATA is then their folder, or a
config with a reader of type webdataset."""

EPILOG = """\
examples:
  allencv pack photos/train shards/train
  allencv pack photos shards/val --split validation --shuffle none
  allencv pack config.jsonnet shards/train --split train --shard-size 1GB
  allencv pack --index-only shards/train"""

SPLITS = ("train", "validation", "test")
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{parser.description}\n\n{DETAILS}"
    parser.epilog = EPILOG
    parser.add_argument("data", metavar="DATA", type=str, help="the images; see above")
    parser.add_argument(
        "shards", metavar="SHARDS", type=str, nargs="?", help="the folder to write the shards to"
    )
    parser.add_argument(
        "--shard-size",
        type=str,
        default="128MB",
        help="the size of a shard: a number with kB, MB or GB, or a number of images "
        "(default = %(default)s)",
    )
    parser.add_argument(
        "--shuffle",
        type=str,
        default="0",
        metavar="SEED",
        help="the seed of the random order of the images, or 'none' for the order of the data "
        "(default = %(default)s)",
    )
    parser.add_argument(
        "--names",
        choices=("paths", "numbers"),
        default="paths",
        help="what samples are named by: the paths of the images, or numbers "
        "(default = %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, help="the number of threads (default = the cores, at most 8)"
    )
    parser.add_argument(
        "--index-only", action="store_true", help="write the index of the shards in DATA"
    )
    data = parser.add_argument_group("how to read the data (by default inferred and printed)")
    data.add_argument("--split", choices=SPLITS, help="which part of DATA, if it has several")
    add_task(data)
    add_root(data)
    add_layout_arguments(parser)
    add_overrides(parser, "-o", when="for a config: ")


def run(args: argparse.Namespace) -> None:
    from allencv.data.packing import PackOptions, index_shards, pack
    from allencv.runtime.cpu_count import cpu_count
    from allencv.runtime.plurals import numbered

    workers = min(8, cpu_count()) if args.workers is None else args.workers
    if workers < 1:
        raise InputError(f"--workers is {workers}; expected at least 1")
    if args.index_only:
        reader, data_path = _shards(args)
        index = index_shards(reader, data_path, workers)
    elif args.shards is None:
        raise InputError("SHARDS is missing; expected the folder to write the shards to")
    else:
        numbered_names = args.names == "numbers"
        options = PackOptions(
            **_size(args.shard_size), seed=_seed(args.shuffle), numbered=numbered_names
        )
        _check_outside(args.data, args.shards)
        reader, data_path = _data(args)
        print(f"packing {data_path}, read by {type(reader).__name__}", flush=True)
        packed = pack(reader, data_path, args.shards, options, workers)
        index = packed.index
        if packed.kept:
            print(f"{numbered(packed.kept, 'shard')} kept, as already written")
    size = sum(shard.size for shard in index.shards.values()) / UNITS["MB"]
    images, shards = numbered(len(index), "image"), numbered(len(index.shards), "shard")
    labels = numbered(len(index.counts()), "label", none="no")
    print(f"{args.shards or args.data}: {images} with {labels} in {shards}, {size:.1f} MB")
    label_key = "" if index.made_with["label_keys"] else ", label_key: null"
    print(f'to read them: dataset_reader: {{ type: "webdataset"{label_key} }}')


def _size(text: str) -> Dict[str, int]:
    """Return the number of images or bytes, as an argument of `PackOptions`."""
    found = re.fullmatch(r"(\d+)(kB|MB|GB)?", text)
    if found is None or int(found[1]) < 1:
        raise InputError(
            f"--shard-size is '{text}'; expected a size such as 128MB, or a number of images"
        )
    number, unit = int(found[1]), found[2]
    return {"max_images": number} if unit is None else {"max_bytes": number * UNITS[unit]}


def _seed(text: str) -> Optional[int]:
    if text != "none" and not text.isdecimal():
        raise InputError(f"--shuffle is '{text}'; expected a number, or none")
    return None if text == "none" else int(text)


def _check_outside(data: str, shards: str) -> None:
    """Raise `InputError` if the shards would be written among the images."""
    source, target = os.path.realpath(data), os.path.realpath(shards)
    if os.path.isdir(source) and os.path.commonpath([source, target]) == source:
        raise InputError(f"SHARDS is '{shards}', which is in DATA; expected a folder outside it")


def _data(args: argparse.Namespace) -> Any:
    """Return the reader of the images, and its data path."""
    from allencv.fitting.one_part import part_of_config, part_of_data

    columns, folders = layout_options(args)
    if not is_config(args.data):
        return part_of_data(args.data, args.split, columns, args.root, folders)
    from allencv.catalogue import READER_KEYS, read_config

    params = read_config(args.data, args.overrides, READER_KEYS)
    return part_of_config(args.data, params, args.split)


def _shards(args: argparse.Namespace) -> Any:
    """Return the reader of shards to index, and its data path."""
    from allencv.data.dataset_readers import WebDatasetReader

    if args.shards is not None:
        raise InputError(f"SHARDS is '{args.shards}'; --index-only writes into the folder of DATA")
    if not is_config(args.data):
        return WebDatasetReader(), args.data
    reader, data_path = _data(args)
    if not isinstance(reader, WebDatasetReader):
        raise InputError(f"'{args.data}' has a {type(reader).__name__}; expected type webdataset")
    return reader, data_path
