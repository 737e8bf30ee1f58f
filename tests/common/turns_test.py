import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from allencv.common.turns import Turns, waiting_for_data


def test_as_many_threads_work_at_once_as_there_are_turns() -> None:
    turns, both, working, most = Turns(2), threading.Barrier(2), set(), []

    def work(number: int) -> None:
        with turns.turn():
            working.add(number)
            both.wait(60)  # only two at once come past this
            most.append(len(working))
            both.wait(60)
            working.discard(number)

    with ThreadPoolExecutor(6) as executor:
        list(executor.map(work, range(6)))
    assert most == [2] * 6


def test_another_thread_works_while_one_waits_for_data() -> None:
    turns, has_worked = Turns(1), threading.Event()

    def work() -> None:
        with turns.turn():
            has_worked.set()

    with ThreadPoolExecutor(1) as executor, turns.turn():
        executor.submit(work)
        with waiting_for_data():
            assert has_worked.wait(60)


def test_a_turn_ends_with_an_error() -> None:
    turns = Turns(1)
    for _ in range(2):  # the second would wait forever
        with pytest.raises(OSError, match="mine"), turns.turn(), waiting_for_data():
            raise OSError("mine")


def test_waiting_without_a_turn() -> None:
    with waiting_for_data():
        pass
