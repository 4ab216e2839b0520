"""What every host does, the real one and its twin: else the engine's tests prove nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from healer.domain.process import Launch, ProcessIdentity
from healer.domain.spec import ComponentSpec, PortRange
from healer.errors import HostError, UnknownNameError
from healer.host.linux import LinuxHost
from healer.ports import HeldProcess
from healer.testing import FakeHost, World
from tests.conftest import Processes, Until
from tests.host_contract.machine import Machine, RealMachine, SimulatedMachine

HERE = "127.0.0.1"


@pytest.fixture(params=["real", "simulated"])
def machine(request: pytest.FixtureRequest, processes: Processes) -> Machine:
    return RealMachine(processes) if request.param == "real" else SimulatedMachine()


class Holding:
    """Holds processes, and lets go of them after the test."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.held: list[HeldProcess] = []

    async def __call__(self, pid: int) -> HeldProcess:
        process = await self._machine.host.hold(pid)
        assert process is not None
        self.held.append(process)
        return process


@pytest.fixture
async def hold(machine: Machine) -> AsyncIterator[Holding]:
    holding = Holding(machine)
    yield holding
    for process in holding.held:
        process.close()


async def test_nobody_listens_on_a_port_that_nobody_took(machine: Machine, free_port: int) -> None:
    assert await machine.host.listeners(free_port) == ()
    assert await machine.host.sockets(free_port) == frozenset()


async def test_a_listener_is_named_with_all_of_its_holders(
    machine: Machine, free_port: int
) -> None:
    pids = machine.start(port=free_port, forks=2)
    (listener,) = await machine.host.listeners(free_port)
    assert [holder.pid for holder in listener.holders] == sorted(pids)
    assert (listener.address, listener.port, listener.family) == (HERE, free_port, 4)
    assert not listener.hidden
    assert await machine.host.sockets(free_port) == {listener.inode}


async def test_who_holds_a_socket_can_be_asked_of_one_process(
    machine: Machine, hold: Holding, free_port: int
) -> None:
    (pid,) = machine.start(port=free_port)
    (other,) = machine.start()
    (inode,) = await machine.host.sockets(free_port)
    assert await machine.host.holds(await hold(pid), inode)
    assert not await machine.host.holds(await hold(other), inode)


async def test_a_process_is_held_by_its_identity(machine: Machine, hold: Holding) -> None:
    (pid,) = machine.start()
    held = await hold(pid)
    assert held.identity.pid == pid
    assert held.identity.boot_id == machine.host.boot_id
    assert not held.gone()
    again = await machine.host.reacquire(held.identity)
    if held.identity.pidfd_inode is not None:
        assert again is not None
        assert again.identity.same_as(held.identity) is True
        again.close()


@pytest.mark.parametrize(
    "change",
    [{"boot_id": "another"}, {"start_ticks": 1}, {"pidfd_inode": 1}, {"pidfd_inode": None}],
)
async def test_another_process_under_the_same_pid_is_not_reacquired(
    machine: Machine, hold: Holding, change: dict[str, object]
) -> None:
    (pid,) = machine.start()
    identity = (await hold(pid)).identity
    other: ProcessIdentity = identity.model_copy(update=change)
    assert await machine.host.reacquire(other) is None


async def test_there_are_no_processes_below_one(machine: Machine) -> None:
    for pid in (0, -1):
        with pytest.raises(HostError, match="cannot hold"):
            await machine.host.hold(pid)


async def test_a_look_shows_where_a_process_belongs(machine: Machine, hold: Holding) -> None:
    pid, child = machine.start(forks=1, launch_id="a-launch")
    view = await machine.host.inspect(await hold(child))
    assert view is not None
    assert (view.ppid, view.pgid, view.sid) == (pid, pid, pid)
    assert view.launch_id == "a-launch"
    assert view.forbidden is None


async def test_how_a_child_ended_is_told_to_all_who_wait(machine: Machine, hold: Holding) -> None:
    (pid,) = machine.start(exit_code=7)
    held = await hold(pid)
    waiting = [asyncio.create_task(held.exited()) for _ in range(3)]
    await asyncio.sleep(0)
    machine.leave(pid)
    statuses = await asyncio.wait_for(asyncio.gather(*waiting), 60)
    assert {status.code for status in statuses} == {7}
    assert held.gone()
    assert await machine.host.inspect(held) is None
    assert await machine.host.reacquire(held.identity) is None


async def test_waiting_for_an_end_can_be_given_up(machine: Machine, hold: Holding) -> None:
    (pid,) = machine.start()
    held = await hold(pid)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(held.exited(), 0.01)
    assert not held.gone()


async def test_what_was_let_go_alive_cannot_be_asked(machine: Machine) -> None:
    (pid,) = machine.start()
    held = await machine.host.hold(pid)
    assert held is not None
    held.close()
    held.close()
    with pytest.raises(HostError, match="let go"):
        held.gone()


async def test_a_group_is_ended_and_its_end_is_seen(
    machine: Machine, hold: Holding, free_port: int
) -> None:
    pids = machine.start(port=free_port, forks=1)
    held = [await hold(pid) for pid in pids]
    stopped = await machine.host.stop(held, grace=5.0)
    assert {identity.pid for identity in stopped.stopped} == set(pids)
    assert (stopped.killed, stopped.unkillable) == ((), ())
    assert all(process.gone() for process in held)
    assert (await machine.host.wait_bindable(HERE, free_port, timeout=5)).free
    again = await machine.host.stop(held, grace=0.1)
    assert {identity.pid for identity in again.stopped} == set(pids)


async def test_one_that_ignores_sigterm_is_killed_after_the_grace(
    machine: Machine, hold: Holding
) -> None:
    (pid,) = machine.start(ignores_sigterm=True)
    stopped = await machine.host.stop([await hold(pid)], grace=0.1)
    assert [identity.pid for identity in stopped.killed] == [pid]
    assert stopped.stopped == stopped.killed


async def test_a_suspended_one_gets_no_grace(machine: Machine, hold: Holding, until: Until) -> None:
    (pid,) = machine.start()
    held = await hold(pid)
    machine.suspend(pid)

    async def suspended() -> bool:
        view = await machine.host.inspect(held)
        return view is not None and view.state == "T"

    await until.soon(suspended)
    async with asyncio.timeout(60):
        stopped = await machine.host.stop([held], grace=60.0)
    assert [identity.pid for identity in stopped.killed] == [pid]


async def test_where_one_may_not_be_signalled_nobody_is(machine: Machine, hold: Holding) -> None:
    (pid,) = machine.start()
    ours = machine.host.pid if isinstance(machine.host, FakeHost) else os.getpid()
    victim, itself = await hold(pid), await hold(ours)
    view = await machine.host.inspect(itself)
    assert view is not None
    assert view.forbidden == "healer"
    with pytest.raises(HostError, match="forbidden"):
        await machine.host.stop([victim, itself], grace=0.1)
    assert not victim.gone()


async def test_what_another_host_holds_is_not_signalled(machine: Machine) -> None:
    world = World()
    elsewhere = FakeHost(world)
    stranger = await elsewhere.hold(world.spawn().pid)
    assert stranger is not None
    with pytest.raises(HostError, match="not held"):
        await machine.host.stop([stranger], grace=0.1)
    assert world.signals == []


async def test_the_members_of_a_launch_are_found_by_its_mark_and_by_its_group(
    machine: Machine, hold: Holding
) -> None:
    pids = machine.start(forks=2, launch_id="this-launch")
    machine.start(launch_id="another-launch")
    leader = (await hold(pids[0])).identity
    for launch in (Launch(launch_id="this-launch"), Launch(launch_id="this-launch", leader=leader)):
        members = await machine.host.members(launch)
        assert {held.identity.pid for held in members} == set(pids)
        for held in members:
            held.close()
    assert await machine.host.members(Launch(launch_id="no-launch")) == ()


async def test_a_reused_group_number_does_not_make_members(machine: Machine, hold: Holding) -> None:
    pids = machine.start(forks=1)
    impostor = (await hold(pids[0])).identity.model_copy(update={"pidfd_inode": 1})
    assert await machine.host.members(Launch(launch_id="old", leader=impostor)) == ()


async def test_a_port_is_tried_by_binding_it(machine: Machine, free_port: int) -> None:
    assert (await machine.host.bind_test(HERE, free_port)).free
    machine.start(port=free_port)
    assert (await machine.host.bind_test(HERE, free_port)).result == "in_use"
    assert (await machine.host.wait_bindable(HERE, free_port, timeout=0.05)).result == "in_use"
    assert (await machine.host.bind_test("192.0.2.1", free_port)).result == "not_local"


async def test_a_reserved_port_is_given_to_one_only(machine: Machine, free_ports: object) -> None:
    first, second, third = free_ports(3)  # type: ignore[operator]
    ports = PortRange(first=first, last=third)
    machine.start(port=first)
    one = await machine.host.reserve(HERE, ports)
    assert one is not None
    assert one.port == second
    assert (await machine.host.bind_test(HERE, second)).free
    assert await machine.host.listeners(second) == ()
    two = await machine.host.reserve(HERE, ports)
    assert two is not None
    assert two.port == third
    assert await machine.host.reserve(HERE, ports) is None
    one.release()
    one.release()
    three = await machine.host.reserve(HERE, ports, excluding=(third,))
    assert three is not None
    assert three.port == second
    two.release()
    three.release()


async def test_the_checks_have_the_same_names() -> None:
    real, twin = LinuxHost(), FakeHost(World())
    assert real.check_names() == twin.check_names()
    assert real.fast_checks() == twin.fast_checks()


async def test_an_unknown_check_is_refused_with_all_that_there_are(machine: Machine) -> None:
    with pytest.raises(UnknownNameError) as raised:
        await machine.host.check("weather", ComponentSpec(name="a", port=1), 1)
    assert raised.value.known == machine.host.check_names()
