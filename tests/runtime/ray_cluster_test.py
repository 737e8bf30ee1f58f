import sys
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest

from allencv.runtime.errors import InputError
from allencv.runtime.ray_cluster import Resources, connected_ray, resources_of


class FakeRay(SimpleNamespace):
    """What `connected_ray` uses of the module; tests/classify/on_ray_test.py has the real one."""

    class exceptions:
        class RayTaskError(Exception):
            cause = InputError("the cause")

        class RayActorError(Exception):
            pass

    def __init__(self, is_initialized: bool = False) -> None:
        self.calls: List[Any] = []
        self.is_initialized = lambda: is_initialized

    def init(self, address: str, **options: Any) -> None:
        self.calls.append(address)
        if address == "nowhere:1":
            raise ConnectionError("no answer\nwithin 5 seconds")

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # and afterwards as before
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_a_ray_of_this_machine_or_the_cluster(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never one that happens to run on the machine."""
    with connected_ray():
        pass
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with connected_ray():
        pass
    assert ray.calls == ["local", "shutdown", "head:6379", "shutdown"]


def test_the_connection_of_a_program_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(is_initialized=True)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with connected_ray() as ray:
        assert ray is fake
    assert fake.calls == []


def test_errors_are_those_of_the_work(ray: FakeRay) -> None:
    with pytest.raises(InputError, match="^the cause$"), connected_ray():
        raise ray.exceptions.RayTaskError("a long traceback")
    message = "^a worker of Ray has died several times: too big$"
    with pytest.raises(InputError, match=message), connected_ray():
        raise ray.exceptions.RayActorError("too\n big")
    assert ray.calls == ["local", "shutdown"] * 2


def test_an_address_without_an_answer(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:1")
    message = "^RAY_ADDRESS is 'nowhere:1': no answer within 5 seconds; expected the address of"
    with pytest.raises(InputError, match=message), connected_ray():
        pass


def test_the_resources_are_those_of_living_machines() -> None:
    def node(alive: bool, **resources: float) -> Dict[str, Any]:
        return {"Alive": alive, "Resources": resources}

    nodes = [node(True, CPU=4.0), node(True, CPU=8.0, GPU=2.0), node(False, CPU=64.0)]
    assert resources_of(SimpleNamespace(nodes=lambda: nodes)) == Resources(12, 2, 8)
