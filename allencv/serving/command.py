"""The command `serve`, with a bundle or any other `Classifier`."""

import argparse
import logging
import os
import re
import socket
from typing import TYPE_CHECKING, Callable, List

from allencv.runtime.cpu_count import MAX_WORKERS
from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_model_arguments, open_bundle_of
from allencv.serving.limits import Limits

if TYPE_CHECKING:
    from allencv.runtime.classifier import Classifier

DEFAULTS = Limits()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`."""
    parser.add_argument("model", type=str, help="the folder of a bundle, or a model archive")
    address = parser.add_argument_group("address")
    address.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="the address to listen at; 0.0.0.0 allows access from other machines (default = "
        "%(default)s)",
    )
    address.add_argument(
        "--port", type=int, default=8000, help="0 for any free port (default = %(default)s)"
    )
    address.add_argument(
        "--root-path",
        type=str,
        metavar="PATH",
        default="",
        help="the path at which a proxy shows this server, such as /pets",
    )
    address.add_argument(
        "--cors-origin",
        type=str,
        metavar="ORIGIN",
        action="append",
        default=[],
        help="an origin whose pages may call this server from a browser, such as "
        "https://example.com; * for any. Repeat the option for several origins",
    )
    address.add_argument(
        "--access-log", action="store_true", help="log a line for each request, to stderr"
    )
    _add_work(parser.add_argument_group("work"))
    _add_limits(parser.add_argument_group("limits for clients"))


def _add_work(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=DEFAULTS.workers,
        help="threads that classify, and processes that decode (default = one for each core, here "
        "%(default)s)",
    )
    group.add_argument(
        "--max-batch",
        type=int,
        metavar="N",
        default=DEFAULTS.max_batch,
        help="the most images that a worker classifies at once (default = %(default)s)",
    )
    add_model_arguments(group)


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-waiting",
        type=int,
        metavar="N",
        default=DEFAULTS.max_waiting,
        help="the most images that may wait; requests beyond this get status 429 (default = "
        "%(default)s)",
    )
    group.add_argument(
        "--max-files",
        type=int,
        metavar="N",
        default=DEFAULTS.max_files,
        help="the most images in a request (default = %(default)s)",
    )
    group.add_argument(
        "--max-megabytes",
        type=float,
        metavar="MB",
        default=DEFAULTS.max_body_bytes / 2**20,
        help="the largest size of a request (default = %(default)g)",
    )
    group.add_argument(
        "--max-megapixels",
        type=float,
        metavar="MP",
        default=DEFAULTS.max_pixels / 1e6,
        help="the largest size of an image (default = %(default)g); for formats other than JPEG, "
        f"which take more memory, at most {DEFAULTS.max_other_pixels / 1e6:g}",
    )
    group.add_argument(
        "--max-connections",
        type=int,
        metavar="N",
        default=DEFAULTS.max_connections,
        help="the most clients connected at a time; others get status 503 (default = %(default)s)",
    )
    group.add_argument(
        "--decode-seconds",
        type=float,
        metavar="SECONDS",
        default=DEFAULTS.decode_seconds,
        help="the CPU time for decoding an image; images that take longer are refused (default = "
        "%(default)g)",
    )
    group.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        default=DEFAULTS.answer_seconds,
        help="the time for a request to arrive, and again for its answer (default = %(default)g)",
    )


def open_bundle_model(args: argparse.Namespace) -> "Classifier":
    """Open a bundle. Raise `BundleError`, or `InputError` for arguments of archives."""
    return open_bundle_of(args, threads=1)  # each worker uses one core


def run(
    args: argparse.Namespace,
    open_model: Callable[[argparse.Namespace], "Classifier"] = open_bundle_model,
) -> None:
    """
    Serve a model until the process is told to stop.

    # Raises

    `InputError` for arguments that cannot be used, and the errors of `open_model`.
    """
    from allencv.serving.app import create_app
    from allencv.serving.server import Server

    limits = _limits(args)
    root_path, cors_origins = _root_path(args.root_path), _cors_origins(args.cors_origin)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in ("allencv.runtime", "allencv.access"):  # which engine "auto" chooses; the requests
        logging.getLogger(name).setLevel(logging.INFO)
    classifier = open_model(args)
    with listening_at(args.host, args.port) as listening:
        _warm_up(classifier)
        app = create_app(classifier, limits, root_path, cors_origins, args.access_log)
        host = f"[{args.host}]" if ":" in args.host else args.host
        port = listening.getsockname()[1]
        greeting = f"Serving {classifier.name} on http://{host}:{port}"
        Server(app, limits, greeting).run(sockets=[listening])
    if not app.state.has_finished:
        # A thread still computes an abandoned answer. Only the end of the process stops it.
        logging.shutdown()
        os._exit(0)


def _root_path(text: str) -> str:
    """Return the path with a slash before but not after it, or ""."""
    path = text.strip("/")
    if not re.fullmatch(r"[\w~-][\w.~-]*(/[\w~-][\w.~-]*)*|", path, re.ASCII):
        raise InputError(f"--root-path is '{text}'; expected a path such as /pets")
    return f"/{path}" if path else ""


def _cors_origins(origins: List[str]) -> List[str]:
    for origin in origins:
        if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s]+", origin):
            raise InputError(
                f"--cors-origin is '{origin}'; expected an origin such as https://example.com, "
                "without a path, or *"
            )
    return origins


def _limits(args: argparse.Namespace) -> Limits:
    for option, value in (
        ("--workers", args.workers),
        ("--max-batch", args.max_batch),
        ("--max-waiting", args.max_waiting),
        ("--max-files", args.max_files),
        ("--max-megabytes", args.max_megabytes),
        ("--max-megapixels", args.max_megapixels),
        ("--max-connections", args.max_connections),
        ("--decode-seconds", args.decode_seconds),
        ("--timeout", args.timeout),
    ):
        if not 0 < value < 1e9:  # also rejects inf and nan
            raise InputError(f"{option} is {value}; expected a positive number")
    if args.workers > MAX_WORKERS:
        raise InputError(f"--workers is {args.workers}; expected at most {MAX_WORKERS}")
    if args.max_files > args.max_waiting:
        raise InputError(
            f"--max-files is {args.max_files}; expected at most --max-waiting, {args.max_waiting}"
        )
    body_bytes = max(1, int(args.max_megabytes * 2**20))
    pixels = max(1, int(args.max_megapixels * 1e6))
    return Limits(
        max_body_bytes=body_bytes,
        max_pending_bytes=max(DEFAULTS.max_pending_bytes, body_bytes),
        max_files=args.max_files,
        max_pixels=pixels,
        max_other_pixels=min(pixels, DEFAULTS.max_other_pixels),
        max_waiting=args.max_waiting,
        max_batch=args.max_batch,
        workers=args.workers,
        max_connections=args.max_connections,
        decode_seconds=args.decode_seconds,
        body_seconds=args.timeout,
        answer_seconds=args.timeout,
    )


def listening_at(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raise `InputError` if it cannot."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=2048)
        listening.setblocking(False)
        return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen at {host}, port {port}: {reason}") from None


def _warm_up(classifier: "Classifier") -> None:
    """Classify an image, as the first one takes longer than others."""
    import numpy as np

    from allencv.runtime.classifier import judged

    judged(classifier, np.stack([classifier.preprocess(np.zeros((8, 8, 3), np.uint8))]))
