import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import find_open_port
from torch.distributed.launcher.api import LaunchConfig

from allencv.runtime.stopping import Terminated
from allencv.training import TrainingError
from allencv.training.distributed import launch as launch_module
from allencv.training.distributed import wait_for_machines
from allencv.training.distributed.launch import launch
from allencv.training.distributed.settings import Distributed

CPUS: Dict[str, Any] = {"cuda_devices": [-1, -1]}
NODES = {**CPUS, "num_nodes": 2, "primary_address": "127.0.0.1", "primary_port": 29500}


@pytest.fixture
def rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of Python: what each rank runs. Tests add to it."""
    script = tmp_path / "rank"
    script.write_text(f"#!/bin/sh\ncd {tmp_path}\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    return script


def add(script: Path, line: str) -> None:
    script.write_text(script.read_text() + line + "\n")


def test_ranks_get_their_numbers_and_the_command(rank: Path) -> None:
    add(rank, 'echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $*" > $RANK.txt')
    launch(Distributed(**CPUS), 0, ["train", "some config"])
    for number in range(2):
        found = (rank.parent / f"{number}.txt").read_text()
        assert found == f"{number} {number} 2 2 127.0.0.1 -m allencv train some config\n"


def test_older_versions_of_torch(rank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(LaunchConfig):  # that of torch 2.6 has neither key
        def __init__(
            self,
            min_nodes: int,
            max_nodes: int,
            nproc_per_node: int,
            run_id: str,
            rdzv_endpoint: str,
            rdzv_backend: str,
            rdzv_configs: Dict[str, Any],
            max_restarts: int,
        ) -> None:
            super().__init__(
                min_nodes=min_nodes,
                max_nodes=max_nodes,
                nproc_per_node=nproc_per_node,
                run_id=run_id,
                rdzv_endpoint=rdzv_endpoint,
                rdzv_backend=rdzv_backend,
                rdzv_configs=rdzv_configs,
                max_restarts=max_restarts,
            )

    monkeypatch.setattr("torch.distributed.launcher.api.LaunchConfig", Older)
    add(rank, "echo $RANK > $RANK.txt")
    launch(Distributed(**CPUS), 0, [])
    assert [(rank.parent / f"{number}.txt").read_text() for number in range(2)] == ["0\n", "1\n"]


def test_a_rank_that_fails_ends_the_others_and_has_shown_why(rank: Path) -> None:
    add(rank, "[ $RANK = 1 ] && exit 7 || exec sleep 100")
    with pytest.raises(SystemExit) as error:
        launch(Distributed(**CPUS), 0, [])
    assert error.value.code == 7


def test_a_rank_that_is_killed_is_named(rank: Path) -> None:
    add(rank, "[ $RANK = 1 ] && kill -9 $$ || exec sleep 100")
    with pytest.raises(TrainingError, match=r"^rank 1 \(process \d+\) was ended by SIGKILL"):
        launch(Distributed(**CPUS), 0, [])


def test_a_rank_that_torch_ends_is_named(rank: Path) -> None:
    add(rank, "[ $RANK = 1 ] && kill -6 $$ || exec sleep 100")
    expected = (
        r"was ended by SIGABRT; if the GPUs' library NCCL did so, a rank did not answer within"
    )
    with pytest.raises(TrainingError, match=expected):
        launch(Distributed(**CPUS), 0, [])


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_ends_all_ranks(rank: Path, number: int, expected: type) -> None:
    add(rank, "echo $$ > $RANK.pid; exec sleep 100")
    pids = [rank.parent / f"{number}.pid" for number in range(2)]

    def stop() -> None:
        while not all(pid.exists() and pid.read_text() for pid in pids):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt) as error:
        launch(Distributed(**CPUS), 0, [])
    assert error.type is expected
    assert signal.getsignal(number) is before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("settings", "node_rank", "message"),
    [
        ({}, 0, "cuda_devices is None; expected two devices or more"),
        ({"cuda_devices": [-1]}, 0, r"cuda_devices is \[-1\]; expected two devices or more"),
        ({"cuda_devices": [-1, 99]}, 0, "cuda_devices has 99, but this machine has"),
        (CPUS, 1, "--node-rank is 1, but distributed.num_nodes is 1; expected 0 to 0"),
        (NODES, -1, "--node-rank is -1, but distributed.num_nodes is 2; expected 0 to 1"),
        ({**NODES, "primary_address": None}, 0, "distributed.primary_address is missing"),
        ({**NODES, "primary_port": None}, 1, "distributed.primary_port is missing"),
    ],
)
def test_settings_that_cannot_be_used(
    settings: Dict[str, Any], node_rank: int, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        launch(Distributed(**settings), node_rank, [])


def test_an_address_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_for_machines, "SECONDS_TO_RESOLVE", 0.0)
    settings = Distributed(**{**NODES, "primary_address": "nowhere.invalid"})
    expected = "distributed.primary_address is 'nowhere.invalid', which cannot be resolved"
    with pytest.raises(ConfigurationError, match=expected):
        launch(settings, 1, [])


def test_a_machine_that_does_not_join() -> None:
    settings = Distributed(**{**NODES, "primary_port": find_open_port(), "timeout_s": 0.2})
    with pytest.raises(TrainingError, match="machine 1 of 2 has not joined within"):
        launch(settings, 0, [])


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"primary_port is {port}, which cannot be"):
            launch(Distributed(**CPUS, primary_port=port), 0, [])
        monkeypatch.setattr(launch_module, "_check_port", lambda port: None)  # free until then
        with pytest.raises(TrainingError, match=f"^the ranks cannot meet at 127.0.0.1:{port}: "):
            launch(Distributed(**CPUS, primary_port=port), 0, [])


@pytest.mark.parametrize(
    ("devices", "count", "message"),
    [
        ([0, 1], 1, "has 1, but this machine has 1 GPU, 0; expected"),
        ([2, 0], 2, "has 2, but this machine has 2 GPUs, 0 to 1; expected"),
        ([0, 0], 2, r"is \[0, 0\]; expected different GPUs, or only -1"),
        ([0, -1], 2, r"is \[0, -1\]; expected different GPUs, or only -1"),
        ([1, 0], 2, None),
        ([-1, -1], 0, None),
    ],
)
def test_devices_must_exist(
    devices: "list[int]", count: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    settings = Distributed(cuda_devices=devices)
    if message is None:
        settings.check_devices()
    else:
        with pytest.raises(ConfigurationError, match=f"distributed.cuda_devices {message}"):
            settings.check_devices()
