"""
The limit that benchmarks/serving.py compares servers with: threads that decode the files and run
the network of a bundle, without HTTP and without separate processes. It takes lines with the number
of threads, the size of a batch and the seconds, and prints the measurements as JSON.

    python benchmarks/serving_limit.py BUNDLE IMAGES
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Dict, List

import numpy as np

from allencv.runtime.onnx_classifier import OnnxClassifier

WARM_UP_SECONDS = 1.0


def measure(
    classifier: OnnxClassifier, files: List[bytes], threads: int, batch: int, seconds: float
) -> Dict[str, float]:
    """Return the images per second of `threads` threads, and the CPU time of an image."""
    rates: Dict[int, float] = {}
    costs: Dict[int, float] = {}

    def work(thread: int) -> None:
        turn, count = thread, 0
        begin, used = time.perf_counter() + WARM_UP_SECONDS, 0.0
        while len(rates) < threads:  # all work until each has measured
            now = time.perf_counter()
            if now < begin:
                count, start, used = 0, now, time.thread_time()
            elif now > begin + seconds and thread not in rates:
                costs[thread] = 1000 * (time.thread_time() - used) / count
                rates[thread] = count / (now - start)
            taken = [files[(turn + i) % len(files)] for i in range(batch)]
            classifier.probabilities(np.stack([classifier.preprocess(file) for file in taken]))
            turn += batch
            count += batch

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {
        "requests_per_second": sum(rates.values()),
        "cpu_ms_per_request": sum(costs.values()) / threads,
    }


def main() -> None:
    bundle, images = map(Path, sys.argv[1:])
    classifier = OnnxClassifier(bundle, threads=1)
    files = [file.read_bytes() for file in sorted(images.rglob("*.jpg"))]
    for line in sys.stdin:
        threads, batch, seconds = line.split()
        print(
            json.dumps(measure(classifier, files, int(threads), int(batch), float(seconds))),
            flush=True,
        )


if __name__ == "__main__":
    main()
