"""What the tests rely on: what they start ends, waits have a bound, ports are theirs alone."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

import pytest

from tests import conftest
from tests.conftest import Processes, Until

FORKING = "import os, time; os.fork() or os.setsid(); time.sleep(99)"


def test_ports_are_consecutive_bindable_and_never_given_twice(
    free_ports: Callable[[int], list[int]],
) -> None:
    first, second = free_ports(5), free_ports(5)
    assert first == list(range(first[0], first[0] + 5))
    assert not set(first) & set(second)
    with socket.create_server(("127.0.0.1", first[0])):
        pass


def test_no_two_workers_of_a_run_are_given_the_same_port() -> None:
    for workers in (1, 2, 3, 8):
        shares = [set(conftest.ports_of(worker, workers)) for worker in range(workers)]
        assert len(set.union(*shares)) == sum(map(len, shares)) > 9_900


def test_processes_end_with_all_their_descendants_in_whatever_session(until: Until) -> None:
    processes = Processes()
    process = processes.start(sys.executable, "-c", FORKING)
    until(lambda: len(processes.descendants()) == 2)
    processes.end()
    assert processes.descendants() == []
    assert process.returncode is not None


def test_what_a_healer_launched_and_nobody_ended_is_found(
    processes: Processes, until: Until
) -> None:
    """Launchers give a clean environment, with a PATH."""
    env = {"PATH": os.environ["PATH"], "HEALER_LAUNCH_ID": "left-1"}
    process = processes.start(sys.executable, "-c", "import time; time.sleep(99)", env=env)
    until(lambda: bool(processes.descendants()))
    found = until(conftest.leftovers)
    assert [line for line in found if line.startswith(f"{process.pid}: ")], found
    assert process.wait(30) == -9


def test_a_wait_fails_at_its_bound_and_names_the_condition(until: Until) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not within 0.02 s: .*len.* > 1"):
        until(lambda: len("a") > 1, 0.02)


async def test_a_wait_can_be_awaited(until: Until) -> None:
    async def answer() -> int:
        return 7

    assert await until.soon(answer) == 7
    with pytest.raises(pytest.fail.Exception, match=r"not within 0.02 s: the moon is full"):
        await until.soon(lambda: False, 0.02, name="the moon is full")
