"""
The commands and configs of docs/distributed.md, as they are printed. distributed_test.py runs the
same commands for two processes.
"""

import inspect
import math
import re
import shlex
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from allennlp.common import Params
from torch.distributed.run import parse_args

import allencv.plugin  # noqa: F401
from allencv.command_parsers import command_parser
from allencv.training import ImageDdpAccelerator
from allencv.training.distributed.settings import TIMEOUT_S, Distributed
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def check_command(command: List[str]) -> Any:
    """Parse a command of `allencv`, or of `torchrun`, whose options are returned."""
    options = None
    if command[0] == "torchrun":
        options = parse_args(command[1:])
        assert options.module
        command = [options.training_script, *options.training_script_args]
    program, name, *arguments = command
    assert program == "allencv"
    args = command_parser(name).parse_args(arguments)
    if name == "train":
        assert (args.param_path, args.serialization_dir) == ("photos.jsonnet", "runs/photos")
    return options


def test_every_language_is_tested() -> None:
    languages = set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE))
    assert languages == {"bash", "jsonnet", "sh", "text", "yaml"}


def test_the_commands() -> None:
    lines = "".join(blocks("bash")).replace("\\\n", "").splitlines()
    found = [check_command(shlex.split(line)) for line in lines]
    assert [each is not None for each in found] == [False] * 3 + [True] * 3 + [False] * 5
    sizes = [(each.nnodes, each.nproc_per_node) for each in found[3:6]]
    assert sizes == [("1:1", "4"), ("2", "4"), ("1:1", "2")]


def test_the_commands_of_clusters() -> None:
    numbers = {"$SLURM_ARRAY_TASK_ID": "3", "$((JOB_COMPLETION_INDEX + 1))": "3"}
    for text in blocks("text"):
        for name, number in numbers.items():
            text = text.replace(name, number)
        line = text.splitlines()[-1].removeprefix("RAY_ADDRESS=head:6379 ")
        check_command(shlex.split(line))


def test_the_smallest_batches() -> None:
    """By the assumptions of the page: milliseconds, megabytes, gigabytes per second."""
    rings = {("8", "NVLink"): (8, 230.0)}
    for gpus in (64, 512):
        rings[str(gpus), "InfiniBand"] = (gpus // 8, 160.0)
        rings[str(gpus), "Ethernet"] = (gpus // 8, 10.0)
    for (gpus, link), (members, speed) in rings.items():
        expected = []
        for parameters, images_per_second in ((25.6, 2500), (86.6, 1000)):
            for bytes_each in (4, 2):
                size = parameters * bytes_each
                hops = 2 * (members - 1)
                exchange = hops / members * size / speed + hops * 0.02 * math.ceil(size / 25)
                backward_per_image = 1000 / images_per_second * 2 / 3
                expected.append(math.ceil(exchange / backward_per_image))
        assert f"| {gpus} | {link} | {' | '.join(map(str, expected))} |" in PAGE


def test_the_batch_script_of_slurm() -> None:
    (script,) = blocks("sh")
    (command,) = re.findall(r"bash -c '(.*?)'", script, re.DOTALL)
    for name in ("SLURM_NNODES", "SLURM_NODEID", "MASTER_ADDR"):
        assert f'"${name}"' in command
        command = command.replace(f'"${name}"', "1")
    options = check_command(shlex.split(command.replace("\\\n", "")))
    assert options.max_restarts == 3


def test_the_job_of_kubernetes() -> None:
    (text,) = blocks("yaml")
    service, job = yaml.safe_load_all(text)
    pods = job["spec"]["template"]["spec"]
    assert pods["subdomain"] == service["metadata"]["name"] == "photos"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    (container,) = pods["containers"]
    (command,) = container["args"]
    options = check_command(shlex.split(command.replace("$JOB_COMPLETION_INDEX", "1")))
    assert int(options.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(options.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert options.master_addr == f"{job['metadata']['name']}-0.{pods['subdomain']}"


@pytest.mark.parametrize("text", blocks("jsonnet"))
def test_the_blocks_of_a_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.jsonnet").write_text(f"{{ {text} }}")
    config: Dict[str, Any] = Params.from_file(str(tmp_path / "config.jsonnet")).as_dict()
    settings = Distributed.of(config)
    assert settings.cuda_devices == [0, 1, 2, 3]
    if settings.ddp_accelerator is not None:
        settings.ddp_accelerator.construct(local_rank=0, world_size=4, cuda_device=-1)


def test_every_key_of_the_accelerator() -> None:
    section = PAGE.partition("## Exchange of gradients")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    supplied = {"self", "local_rank", "world_size", "cuda_device"}
    assert set(keys) == set(inspect.signature(ImageDdpAccelerator.__init__).parameters) - supplied
    assert f"`distributed.timeout_s` seconds ({TIMEOUT_S:.0f} by default)" in PAGE
