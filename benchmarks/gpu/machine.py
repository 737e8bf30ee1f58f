"""Describe the machine, and try AllenNLP, this project, the GPU and torch.compile on it."""

import platform
import re
import subprocess
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict

import torch
from stage import save

from allencv.runtime.cpu_count import cpu_count


def describe() -> Dict[str, Any]:
    has_gpu = torch.cuda.is_available()
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    machine = {
        "gpu": torch.cuda.get_device_name() if has_gpu else "none",
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": cpu_count(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        **{name: version(name) for name in ("torch", "torchvision", "timm")},
    }
    if has_gpu:
        memory = torch.cuda.get_device_properties(0).total_memory
        machine.update(gpu_gib=round(memory / 2**30), cudnn=torch.backends.cudnn.version())
    return machine


def try_gpu() -> None:
    images = torch.randn(8, 3, 64, 64, device="cuda").to(memory_format=torch.channels_last)
    network = torch.nn.Conv2d(3, 8, 3).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        network(images).float().sum().backward()
    torch.cuda.synchronize()
    print("a step on the GPU works")
    started = time.perf_counter()
    try:
        torch.compile(lambda x: (x * 2 + 1).relu().sum())(images)
        torch.cuda.synchronize()
        print(f"torch.compile takes {time.perf_counter() - started:.1f} s for a small function")
    except Exception:  # most of the other stages do not need it
        traceback.print_exc()


def main() -> None:
    machine = describe()
    save("machine", machine)
    print(machine, {name: version(name) for name in ("numpy", "allennlp", "transformers", "spacy")})
    subprocess.run("nvidia-smi; free -g; df -h /tmp; which gcc g++", shell=True)
    started = time.perf_counter()
    import allencv.plugin  # noqa: F401

    print(f"the import of allennlp and allencv takes {time.perf_counter() - started:.1f} s")
    if torch.cuda.is_available():
        try_gpu()


if __name__ == "__main__":
    main()
