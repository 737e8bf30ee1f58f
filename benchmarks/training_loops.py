"""
The loops that benchmarks/training.py compares, with the same network, optimizer and batches: this
project's trainer, AllenNLP's trainer, a bare PyTorch loop, and the loops of timm's and
torchvision's training scripts.
"""

import statistics
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from networks import CLASSES, encoder_of
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from allencv.training.acceleration import computes_in_bfloat16

Epoch = Callable[[], None]
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
ONE_LAYER = "one layer, 4 px"
NETWORKS: Dict[str, Tuple[Optional[Dict[str, Any]], int, int]] = {
    # name: encoder, its output channels, pixels of an image's side
    ONE_LAYER: (None, 3, 4),
    "tiny CNN, 32 px": (
        {"type": "small_resnet", "widths": [8, 16], "blocks": [1, 1]},
        16,
        32,
    ),
    "ResNet-18, 64 px": (
        {"type": "resnet", "resnet_model": "resnet18", "weights": None, "pool": False},
        512,
        64,
    ),
}
if ON_GPU:
    NETWORKS = {
        "ResNet-50, 224 px": (
            {"type": "resnet", "resnet_model": "resnet50", "weights": None, "pool": False},
            2048,
            224,
        )
    }
BESIDE = "EfficientNet-Lite0, 128 px"
"""The network that is trained beside a busy process too."""
NETWORKS_BESIDE = {BESIDE: (encoder_of("EfficientNet-Lite0", 128), 1280, 128)}
BATCH_SIZE = 256 if ON_GPU else 32


def make_model(network: str) -> Any:
    """Return the classifier that this project's and AllenNLP's trainers train."""
    from allennlp.common import Params
    from allennlp.data import Vocabulary
    from allennlp.models import Model

    import allencv.plugin  # noqa: F401 - registers the parts

    encoder, channels, size = (NETWORKS | NETWORKS_BESIDE)[network]
    vocab = Vocabulary()
    for label in range(CLASSES):
        vocab.add_token_to_namespace(str(label), "labels")
    torch.manual_seed(0)
    vector: Dict[str, Any] = {"type": "pooling", "input_channels": channels}
    if encoder is None:
        vector |= {"type": "flatten", "input_height": size, "input_width": size}
    params = {
        "type": "basic_image_classifier",
        "im2im_encoder": encoder and dict(encoder),
        "im2vec_encoder": vector,
    }
    return Model.from_params(Params(params), vocab=vocab).to(DEVICE)


def plain_network(model: Any, compiled: bool = False) -> Any:
    """Return the same network without AllenNLP's code around it."""
    parts = (model._im2im_encoder, model._im2vec_encoder, model._classification_layer)
    network = torch.nn.Sequential(*(part for part in parts if part is not None))
    return torch.compile(network, dynamic=False) if compiled else network


class Batches(List[Any]):
    """Batches in memory, with the interface of an AllenNLP data loader."""

    def set_target_device(self, device: torch.device) -> None:
        pass


def make_batches(network: str, steps: int, batch_size: int = BATCH_SIZE) -> Batches:
    generator = torch.Generator().manual_seed(0)
    size = (NETWORKS | NETWORKS_BESIDE)[network][2]
    return Batches(
        {
            "image": torch.randn(batch_size, 3, size, size, generator=generator).to(DEVICE),
            "label": torch.randint(0, CLASSES, (batch_size,), generator=generator).to(DEVICE),
        }
        for _ in range(min(steps, 8))
    )


def optimizer_of(network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def autocast(on: bool) -> Any:
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=on)


# The loops. Each returns a function that trains `steps` steps.


def trainer_loop(network: str, batches: Batches, steps: int, **arguments: Any) -> Epoch:
    from allennlp.common import Params
    from allennlp.training import Trainer

    repeated = Batches(batches[step % len(batches)] for step in range(steps))
    trainer = Trainer.from_params(
        Params(
            {
                "cuda_device": 0 if ON_GPU else -1,
                "num_epochs": 10**6,
                "optimizer": {"type": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
                "checkpointer": None,
                "run_confidence_checks": False,
                **arguments,
            }
        ),
        model=make_model(network),
        data_loader=repeated,
        serialization_dir=None,
    )

    def epoch() -> None:
        trainer._batches_in_epoch_completed = 0
        trainer._train_epoch(trainer._epochs_completed)

    return epoch


def allencv_loop(network: str, batches: Batches, steps: int) -> Epoch:
    half = {} if ON_GPU else {"use_amp": False, "channels_last": False}
    return trainer_loop(network, batches, steps, type="image", **half)


def allencv_default_loop(network: str, batches: Batches, steps: int) -> Epoch:
    return trainer_loop(network, batches, steps, type="image")


def allennlp_loop(network: str, batches: Batches, steps: int) -> Epoch:
    return trainer_loop(network, batches, steps, type="gradient_descent", use_amp=ON_GPU)


def bare_loop(
    network: str,
    batches: Batches,
    steps: int,
    half: bool = ON_GPU,
    compiled: bool = False,
    is_distributed: bool = False,
) -> Epoch:
    net = plain_network(make_model(network), compiled).train()
    if half:
        net = net.to(memory_format=torch.channels_last)
    if is_distributed:
        net = DistributedDataParallel(net)
    optimizer = optimizer_of(net)

    def epoch() -> None:
        for step in range(steps):
            batch = batches[step % len(batches)]
            optimizer.zero_grad()
            with autocast(half):
                logits = net(batch["image"])
            F.cross_entropy(logits.float(), batch["label"]).backward()
            optimizer.step()

    return epoch


def bare_half_loop(network: str, batches: Batches, steps: int) -> Epoch:
    return bare_loop(network, batches, steps, half=True)


def timm_loop(network: str, batches: Batches, steps: int, compiled: bool = False) -> Epoch:
    """Train like train_one_epoch of timm's train.py, with its defaults."""
    from timm.scheduler import CosineLRScheduler
    from timm.utils import AverageMeter

    net = plain_network(make_model(network), compiled).train()
    if ON_GPU:
        net = net.to(memory_format=torch.channels_last)
    optimizer, loss_function = optimizer_of(net), torch.nn.CrossEntropyLoss()
    scheduler = CosineLRScheduler(optimizer, t_initial=10**6, t_in_epochs=False)

    def epoch() -> None:
        update_time, data_time, losses = AverageMeter(), AverageMeter(), AverageMeter()
        data_started = update_started = time.time()
        optimizer.zero_grad()
        for step in range(steps):
            batch = batches[step % len(batches)]
            data_time.update(time.time() - data_started)
            with autocast(ON_GPU):
                loss = loss_function(net(batch["image"]), batch["label"])
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(batch["image"]))
            optimizer.zero_grad()
            update_time.update(time.time() - update_started)
            update_started = time.time()
            scheduler.step_update(num_updates=step, metric=losses.avg)
            data_started = time.time()

    return epoch


def torchvision_loop(network: str, batches: Batches, steps: int) -> Epoch:
    """Train like train_one_epoch of torchvision's classification reference."""
    net = plain_network(make_model(network)).train()
    optimizer, loss_function = optimizer_of(net), torch.nn.CrossEntropyLoss()

    def epoch() -> None:
        meters: Dict[str, List[float]] = {"loss": [], "acc1": [], "acc5": [], "img/s": []}
        for step in range(steps):
            batch, started = batches[step % len(batches)], time.time()
            with autocast(ON_GPU):
                output = net(batch["image"])
                loss = loss_function(output, batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.inference_mode():
                _, predicted = output.topk(5, 1, True, True)
                correct = predicted.t() == batch["label"][None]
                for k in (1, 5):
                    hits = correct[:k].flatten().sum(dtype=torch.float32)
                    meters[f"acc{k}"].append((hits * (100.0 / len(output))).item())
            meters["loss"].append(loss.item())
            meters["img/s"].append(len(output) / (time.time() - started))

    return epoch


def predicting_loop(network: str, batches: Batches, steps: int) -> Epoch:
    """Predict like this project's commands."""
    net = plain_network(make_model(network)).eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def epoch() -> None:
        for step in range(steps):
            net(batches[step % len(batches)]["image"])

    return epoch


LOOPS: Dict[str, Callable[[str, Batches, int], Epoch]] = {
    "bare": bare_loop,
    "allencv": allencv_loop,
    "allennlp": allennlp_loop,
    "timm": timm_loop,
    "torchvision": torchvision_loop,
    "bare, bf16 channels_last": bare_half_loop,
    "allencv, defaults": allencv_default_loop,
}
if not ON_GPU and not computes_in_bfloat16(DEVICE):
    LOOPS.pop("bare, bf16 channels_last")
if ON_GPU:  # AllenNLP's computes in float16 there, and the others in bfloat16
    LOOPS = {name: loop for name, loop in LOOPS.items() if "," not in name}


def seconds_of(epoch: Epoch) -> float:
    """Return how long an epoch takes, including the work that it leaves to the GPU."""
    started = time.perf_counter()
    epoch()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def median_ratio(values: List[float], baseline: List[float]) -> Optional[float]:
    """Return the median of the ratios within a round. `None` if no round has both."""
    ratios = [value / base for value, base in zip(values, baseline)]
    return statistics.median(ratios) if ratios else None


def measure_loops(network: str, rounds: int, steps: int) -> Dict[str, Any]:
    batches = make_batches(network, steps)
    epochs = {name: loop(network, batches, steps) for name, loop in LOOPS.items()}
    times: Dict[str, List[float]] = {name: [] for name in LOOPS}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            seconds = seconds_of(epoch)
            if number:  # the first round warms up
                times[name].append(seconds)
    return {
        name: {
            "images_per_second": BATCH_SIZE * steps / statistics.median(each),
            "time_to_bare": median_ratio(each, times["bare"]),
        }
        for name, each in times.items()
    }
