"""
The servers that benchmarks/serving.py compares with: the usual code around the ONNX file of a
bundle. They run the network as `allencv serve` does, with one thread each, without spinning.
"""

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any, Dict, List

import litserve
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, UploadFile
from PIL import Image

BUNDLE = "BENCHMARK_BUNDLE"


class Network:
    """The network and the labels of a bundle."""

    def __init__(self) -> None:
        bundle = Path(os.environ[BUNDLE])
        self.labels: List[str] = json.loads((bundle / "manifest.json").read_text())["labels"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), options)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: images})[0]


def pixels(file: bytes) -> np.ndarray:
    """Resize the shorter side of an image to 256, and return its central 224 x 224 pixels."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), 2)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


def answer(labels: List[str], row: np.ndarray) -> Dict[str, Any]:
    order = row.argsort()[::-1][:5]
    top = [{"label": labels[i], "probability": float(row[i])} for i in order]
    return {"label": labels[order[0]], "top_k": top}


def plain_app() -> FastAPI:
    app, network = FastAPI(), Network()

    @app.post("/predict")
    def predict(file: UploadFile) -> Dict[str, Any]:
        return answer(network.labels, network(pixels(file.file.read())[None])[0])

    return app


class LitClassifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.network = Network()

    def decode_request(self, request: Request) -> np.ndarray:
        return pixels(request["file"].file.read())

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.network(images if images.ndim == 4 else images[None])

    def encode_response(self, output: np.ndarray) -> Dict[str, Any]:
        return answer(self.network.labels, output.reshape(-1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=["plain", "litserve"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--max-batch", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.server == "plain":
        uvicorn.run(
            "rival_servers:plain_app",
            factory=True,
            port=arguments.port,
            workers=arguments.workers,
            log_level="warning",
            access_log=False,
        )
    else:
        server = litserve.LitServer(
            LitClassifier(max_batch_size=arguments.max_batch),
            accelerator="cpu",
            workers_per_device=arguments.workers,
        )
        server.run(
            host="127.0.0.1", port=arguments.port, log_level="warning", generate_client_file=False
        )


if __name__ == "__main__":
    main()
