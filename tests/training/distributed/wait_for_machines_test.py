import socket
import threading
from datetime import timedelta

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import find_open_port
from torch.distributed import TCPStore

from allencv.training import TrainingError
from allencv.training.distributed import wait_for_machines
from allencv.training.distributed.wait_for_machines import wait_until_resolved


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_for_machines, "SECONDS_TO_RESOLVE", 0.0)
    monkeypatch.setattr(wait_for_machines, "SECONDS_BETWEEN_TRIES", 0.05)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_addresses(address: str) -> None:
    wait_until_resolved("MASTER_ADDR", address)


@pytest.mark.parametrize("address", ["nowhere.invalid", "a..b", "x" * 70, "10.0.0.1:29500"])
def test_addresses_that_cannot_be_resolved(address: str) -> None:
    expected = f"^MASTER_ADDR is '{address}', which cannot be resolved .*; expected the name or the"
    with pytest.raises(ConfigurationError, match=expected):
        wait_until_resolved("MASTER_ADDR", address)


def test_a_name_that_is_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([socket.gaierror(-2, "Name or service not known"), None])

    def resolve(*arguments: object) -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(wait_for_machines, "SECONDS_TO_RESOLVE", 60.0)
    wait_until_resolved("MASTER_ADDR", "photos-0.photos")
    assert next(answers, "used") == "used"


def wait(node_rank: int, port: int, seconds: float = 30) -> object:
    return wait_for_machines.wait_for_machines("127.0.0.1", port, node_rank, 2, seconds)


def test_machines_wait_for_each_other() -> None:
    port = find_open_port()
    stores = []
    second = threading.Thread(target=lambda: stores.append(wait(1, port)))
    second.start()
    stores.append(wait(0, port))
    second.join()
    assert len(stores) == 2


def test_a_machine_that_does_not_join() -> None:
    expected = "^machine 1 of 2 has not joined within distributed.timeout_s, 0.2 seconds; start the"
    with pytest.raises(TrainingError, match=expected):
        wait(0, find_open_port(), seconds=0.2)


def test_a_first_machine_that_does_not_listen() -> None:
    port = find_open_port()
    expected = rf"^the first machine cannot be reached at 127\.0\.0\.1:{port} within .*\(Connection"
    with pytest.raises(TrainingError, match=expected):
        wait(1, port, seconds=0.2)


def test_a_first_machine_that_stops_waiting() -> None:
    port = find_open_port()
    first = [TCPStore("localhost", port, None, True, timedelta(seconds=30), multi_tenant=True)]
    machine = TCPStore("127.0.0.1", port, None, False, timedelta(seconds=30))

    def stop() -> None:
        machine.wait(["machine 1"])
        first.clear()

    thread = threading.Thread(target=stop)
    thread.start()
    expected = rf"^machine 1 cannot join the others at 127\.0\.0\.1:{port} \(.*\); see what the"
    with pytest.raises(TrainingError, match=expected):
        wait_for_machines.wait_for_machines("127.0.0.1", port, 1, 3, 30)
    thread.join()
