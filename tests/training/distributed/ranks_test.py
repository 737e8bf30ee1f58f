import os
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError

from allencv.training import TrainingError
from allencv.training.distributed import ranks, wait_for_machines
from allencv.training.distributed.from_first_rank import from_first_rank
from allencv.training.distributed.ranks import START, joined
from allencv.training.distributed.same_everywhere import check_same
from tests.training.distributed.pairs import run_pairs

pytestmark = pytest.mark.slow


def as_rank(number: int, act: Callable[[ranks.Rank], Any], port: int, folder: str) -> None:
    """Join, act, and write what comes of it: the error that this rank shows, or that it exits."""
    variables = {"RANK": number, "WORLD_SIZE": 2, "LOCAL_RANK": number, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    signal.alarm(100)  # rather than wait for ever
    ranks.SECONDS_TO_BE_ENDED = 0.5
    result = ""
    try:
        with joined() as rank:
            assert rank is not None
            result = str(act(rank))
    except SystemExit as error:
        result = f"exit {error.code}"
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    Path(folder, f"{number}.txt").write_text(result)
    time.sleep(2 if number == 0 else 0)  # it has the store
    os._exit(0)


def connect(rank: ranks.Rank, timeout_s: float = 60) -> None:
    timeout = timedelta(seconds=timeout_s)
    store = dist.PrefixStore("test", rank.store)
    dist.init_process_group("gloo", store=store, rank=rank.rank, world_size=2, timeout=timeout)
    dist.barrier()


def fail(rank: ranks.Rank) -> None:
    raise ConfigurationError("a mistake")


def fail_on_the_second(rank: ranks.Rank) -> None:
    connect(rank)
    if rank.rank == 1:
        raise ConfigurationError("a mistake")
    dist.barrier()


def die_on_the_second(rank: ranks.Rank) -> None:
    connect(rank)
    if rank.rank == 1:
        os._exit(0)
    try:
        dist.barrier()
    except RuntimeError as error:
        raise TrainingError("trainer.callbacks fails") from error  # as the trainer explains it


def hang_on_the_second(rank: ranks.Rank) -> None:
    connect(rank, timeout_s=4)
    if rank.rank == 1:
        time.sleep(7)
    dist.barrier()


def fail_to_start(rank: ranks.Rank) -> bytes:
    if rank.rank == 0:
        raise ConfigurationError("a mistake")
    return rank.store.get(START)


def gather(rank: ranks.Rank) -> Any:
    connect(rank)
    return from_first_rank(lambda: {"rank": rank.rank, "weights": torch.ones(2)})


def compare(rank: ranks.Rank) -> None:
    connect(rank)
    check_same("the data", {"train": {"images": 3, "labels": {"Cat": 2}}})
    labels = {"Cat": 2 - rank.rank}
    check_same("the data", {"train": {"images": 3, "labels": labels}})


ACTS = (fail, fail_on_the_second, die_on_the_second, hang_on_the_second, fail_to_start)
Results = Dict[Callable[[ranks.Rank], Any], List[Optional[str]]]
"""What two ranks end with, for what they do; `None` for a rank that died."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    acts = {act.__name__: act for act in (*ACTS, gather, compare)}
    cases = {name: (act,) for name, act in acts.items()}
    folders = run_pairs(as_rank, cases, tmp_path_factory.mktemp("pairs"))
    found: Results = {}
    for name, act in acts.items():
        assert not (folders[name] / "error.txt").exists(), (folders[name] / "error.txt").read_text()
        files = [folders[name] / f"{number}.txt" for number in range(2)]
        found[act] = [file.read_text() if file.exists() else None for file in files]
    return found


def test_a_process_alone_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined() as rank:
        assert rank is None
    for name, value in (("RANK", "0"), ("MASTER_ADDR", "nowhere"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined() as rank:
        assert rank is None


WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"WORLD_SIZE": None},
            r"3 environment variables of .*\(RANK, .*\) without WORLD_SIZE;",
        ),
        ({"RANK": None}, r".*\(WORLD_SIZE, MASTER_ADDR, MASTER_PORT\) without RANK; expected all"),
        ({"MASTER_ADDR": None, "MASTER_PORT": None}, ".* without MASTER_ADDR, MASTER_PORT; expec"),
        ({name: None for name in WHOLE if name != "RANK"}, r"1 environment variable of .*\(RANK\)"),
        ({"RANK": "2"}, "the environment variable RANK is '2'; expected a number, 0 to 1"),
        ({"RANK": "-1"}, "the environment variable RANK is '-1'; expected a number, 0 to 1"),
        ({"WORLD_SIZE": "two"}, "the environment variable WORLD_SIZE is 'two'; expected .*, 1 or"),
        (
            {"WORLD_SIZE": "0"},
            "the environment variable WORLD_SIZE is '0'; expected .*, 1 or more",
        ),
        ({"LOCAL_RANK": "2"}, "the environment variable LOCAL_RANK is '2'; expected a .*, 0 to 1"),
        ({"MASTER_PORT": "70000"}, "the environment variable MASTER_PORT is '70000'; expected a "),
        ({"MASTER_ADDR": "nowhere.invalid"}, "MASTER_ADDR is 'nowhere.invalid', which cannot be"),
    ],
    ids=str,
)
def test_variables_that_are_missing_or_wrong(
    changed: Dict[str, Optional[str]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_for_machines, "SECONDS_TO_RESOLVE", 0.0)
    for name, value in {**WHOLE, **changed}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{message}"), joined():
        pass


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as server:
        port = str(server.getsockname()[1])
        for name, value in {**WHOLE, "RANK": "0", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        expected = f"^rank 0 cannot join the others at 127.0.0.1:{port} .* address already in use"
        with pytest.raises(TrainingError, match=expected), joined():
            pass


def test_an_error_of_all_ranks_is_shown_once(results: Results) -> None:
    found = results[fail]
    assert sorted(found, key=str) == ["ConfigurationError: a mistake", "exit 1"]


def test_a_rank_that_waits_for_one_that_fails_is_silent(results: Results) -> None:
    assert results[fail_on_the_second] == ["exit 1", "ConfigurationError: a mistake"]


def test_a_rank_that_waits_for_one_that_died_says_so(results: Results) -> None:
    shown, died = results[die_on_the_second]
    assert died is None
    assert str(shown).startswith("TrainingError: rank 0 waits for another rank, which has ended (")
    assert str(shown).endswith("; the last checkpoint is kept, and --recover resumes from it")


def test_a_rank_that_does_not_answer_ends_the_run(results: Results) -> None:
    shown, _ = results[hang_on_the_second]
    assert "rank 0 waits for another rank, which does not answer within distributed" in str(shown)


def test_others_hear_that_the_first_rank_cannot_start(results: Results) -> None:
    assert results[fail_to_start] == ["ConfigurationError: a mistake", "b'null'"]


def test_what_the_first_rank_makes(results: Results) -> None:
    assert results[gather] == ["{'rank': 0, 'weights': tensor([1., 1.])}"] * 2


def test_ranks_that_differ_are_refused(results: Results) -> None:
    expected = (
        "ConfigurationError: the data differ between ranks: on rank 1, train.labels.Cat is 1 "
        "(2 on rank 0); expected the same on all ranks"
    )
    assert sorted(results[compare], key=str) == [expected, "exit 1"]
