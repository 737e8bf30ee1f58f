"""The networks that the benchmarks of training compare: the usual families, and the small one."""

import platform
from pathlib import Path
from typing import Any, Dict

import torch

CLASSES = 10
SMALL_RESNET = "small_resnet"
TIMM_NAMES = {
    "ResNet-18": "resnet18",
    "ResNet-50": "resnet50",
    "MobileNetV3-large": "mobilenetv3_large_100",
    "EfficientNet-Lite0": "tf_efficientnet_lite0",
    "ConvNeXt-atto": "convnext_atto",
    "RegNetY-400MF": "regnety_004",
    "ViT-tiny": "vit_tiny_patch16_224",
}
NETWORKS = [*TIMM_NAMES, SMALL_RESNET]


def encoder_of(network: str, size: int) -> Dict[str, Any]:
    """Return the encoder of a network, as in a config."""
    if network == SMALL_RESNET:
        return {"type": "small_resnet"}
    encoder = {"type": "timm", "model_name": TIMM_NAMES[network], "pretrained": False}
    return encoder | ({"image_size": size} if network.startswith("ViT") else {})


def make_network(network: str, size: int) -> torch.nn.Module:
    """Return a network with random weights, without this project's code where it is timm's."""
    import timm

    if network == SMALL_RESNET:
        from allencv.modules.im2im_encoders import SmallResnetEncoder

        encoder = SmallResnetEncoder()
        layers = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
        return torch.nn.Sequential(
            encoder, *layers, torch.nn.Linear(encoder.get_output_channels(), CLASSES)
        )
    fixed = {"img_size": size} if network.startswith("ViT") else {}
    return timm.create_model(TIMM_NAMES[network], num_classes=CLASSES, **fixed)


def make_classifier(network: str, size: int, vocab: Any) -> Any:
    """Return the classifier of a network that this project's trainer trains."""
    from allennlp.common import Params

    from allencv.models import BasicImageClassifier
    from allencv.modules.im2im_encoders import Im2ImEncoder
    from allencv.modules.im2vec_encoders import PoolingEncoder

    encoder = Im2ImEncoder.from_params(Params(encoder_of(network, size)))
    pooling = PoolingEncoder(encoder.get_output_channels())
    return BasicImageClassifier(vocab, pooling, encoder)


def processor() -> str:
    """Return the processor, its cores, and what it has for fast arithmetic."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(each.split(":")[1].strip() for each in lines if each.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or not x86
        pass
    extras = {
        "AVX-512 BF16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    has = ", ".join(f"{extra}: {'yes' if there else 'no'}" for extra, there in extras.items())
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {torch.get_num_threads()} threads, {instructions}, {has}"
