"""Open the engine that a user names, or the fastest. Refuse one that computes something else."""

import logging
import time
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from allencv.runtime.classifier import compare
from allencv.runtime.defaults import CPU_ENGINES, DEFAULT_ENGINE
from allencv.runtime.engine import PROBABILITIES, Engine
from allencv.runtime.engines import available_engines, open_engine
from allencv.runtime.errors import BundleError
from allencv.runtime.installing import pip_install
from allencv.runtime.manifest import TOLERANCES, Manifest
from allencv.runtime.onnxruntime_engine import last_line

logger = logging.getLogger(__name__)

MEASURED_SECONDS = 1.0
"""How long `fastest` measures each engine."""
PROBES = 32
"""The number of images for comparing engines."""
SAME = 1e-5
"""A smaller difference between probabilities means the same precision."""
HALF_PRECISION = TOLERANCES["float16"][1]
"""How far the probabilities of a chip may differ that a user has chosen."""


def chosen(name: str, file: Path, manifest: Manifest, threads: int) -> Engine:
    """
    Load a network with the engine `name`. Compare an engine of another chip with onnxruntime on the
    CPU. An image whose probabilities differ by less than those of half precision counts as equal.

    # Raises

    `BundleError` if the engine cannot be used, or computes something else.
    """
    engine = open_engine(name, file, manifest, threads)
    if name in CPU_ENGINES:
        return engine
    images = probe_images(manifest)
    default = open_engine(DEFAULT_ENGINE, file, manifest, threads)
    expected, given = _answers(DEFAULT_ENGINE, default, images), _answers(name, engine, images)
    is_close = (np.abs(expected - given) <= HALF_PRECISION).all(axis=1, keepdims=True)
    objection = _objection(expected, np.where(is_close, expected, given), manifest)
    if objection:
        raise BundleError(
            f"{file}: the engine {name} computes something else than {DEFAULT_ENGINE} on {PROBES} "
            f"images of noise ({objection}); expected another --engine"
        )
    return engine


def fastest(file: Path, manifest: Manifest, threads: int) -> Tuple[str, Engine]:
    """
    Return the name and the fastest of the available engines. Measure each for a second, and log the
    choice with its reason. Skip an engine that cannot load what the first one, onnxruntime, can, or
    whose probabilities differ from those of the first by more than the tolerance of the bundle's
    export.

    # Raises

    `BundleError` if no engine is installed, or the network cannot be loaded.
    """
    available = available_engines()
    if not available:
        raise BundleError(f"{file}: no engine to run it with: {pip_install('onnxruntime')}")
    first = open_engine(available[0], file, manifest, threads)
    if len(available) == 1:
        logger.info("The engine is %s: no other is installed", available[0])
        return available[0], first
    images = probe_images(manifest)
    expected = _answers(available[0], first, images)
    engines = {available[0]: first}
    speeds: Dict[str, float] = {}
    report: List[str] = []
    for name in available:
        objection = ""
        try:
            engine = engines.get(name) or open_engine(name, file, manifest, threads)
            objection = _objection(expected, _answers(name, engine, images), manifest)
        except BundleError as error:
            objection = str(error)
        if objection:
            report.append(f"{name} is skipped ({objection})")
            continue
        engines[name], speeds[name] = engine, _images_per_second(engine, images[:1])
        report.append(f"{name} does {speeds[name]:.0f} images/s")
    best = max(speeds, key=lambda name: speeds[name])
    logger.info("The engine is %s (threads: %d): %s", best, threads, ", ".join(report))
    return best, engines[best]


def probe_images(manifest: Manifest) -> np.ndarray:
    """Return images for comparing engines: noise, from fine to coarse."""
    random = np.random.default_rng(0)
    shapes = [(2 ** (index % 8 + 1),) * 2 for index in range(PROBES)]
    noise = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    return np.stack([manifest.preprocessing(image) for image in noise])


def _answers(name: str, engine: Engine, images: np.ndarray) -> np.ndarray:
    try:
        return np.concatenate(
            [engine(images[i : i + 8])[PROBABILITIES] for i in range(0, PROBES, 8)]
        )
    except Exception as error:  # each engine has its own classes of errors
        raise BundleError(f"the engine {name} fails for 8 images: {last_line(error)}") from error


def _objection(expected: np.ndarray, given: np.ndarray, manifest: Manifest) -> str:
    """Return what is wrong with the probabilities of an engine, or ""."""
    if np.array_equal(expected, given):
        return ""
    least_agreement, tolerance = TOLERANCES[manifest.precision]
    if manifest.parity is not None:
        least_agreement = manifest.parity.least_agreement
        tolerance = manifest.parity.tolerance
    agreement, difference = compare(expected, given, manifest.thresholds)
    if not (agreement >= least_agreement and difference <= tolerance):
        return f"probabilities differ by {difference:.1g}, labels by {1 - agreement:.0%}"
    undecided = ((expected > 0.05) & (expected < 0.95)).any(axis=1)
    # Probabilities near 0 or 1 hide errors of the computation.
    if difference > SAME and undecided.mean() < 0.5:
        return "its differences cannot be seen on images of noise"
    return ""


def _images_per_second(engine: Engine, images: np.ndarray) -> float:
    engine(images)
    rounds, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < MEASURED_SECONDS:
        engine(images)
        rounds += 1
    return rounds * len(images) / seconds
