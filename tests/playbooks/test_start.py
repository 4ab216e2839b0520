"""What starting does, how what became of a start is seen, and the look at a reserved port."""

from __future__ import annotations

import asyncio

from healer.domain.playbook import Settlement
from healer.domain.probe import Reason
from healer.errors import LaunchError
from healer.playbooks.start import ProbeReserved, Start, StartReserved
from healer.testing import FakeLauncher, Program
from tests.engine.stage import PORT, in_virtual_time
from tests.playbooks.small import RANGE, Small


@in_virtual_time
async def test_what_is_started_is_held_and_named() -> None:
    it = Small()
    plan = await it.plan(Start())
    result = await Start().perform(it.instance, it.issue, plan)
    assert it.launcher.started == [(PORT, plan.launch_id)]
    assert (result.port, result.launch_id, result.manager) == (PORT, plan.launch_id, "command")
    [process] = it.world.starts
    assert it.instance.process is not None
    assert result.started == it.instance.process.identity == process.identity


@in_virtual_time
async def test_a_start_that_is_refused_says_why() -> None:
    it = Small()
    it.launcher.error = LaunchError("no such file", errno=2)
    result = await it.failure(Start())
    assert (result.error, result.errno, result.detail) == ("launch_failed", 2, "no such file")
    assert result.port == PORT
    it.instance.launcher = None
    assert await it.skipped(Start()) == (
        "the component has no launcher; it is ready for its own supervisor"
    )


@in_virtual_time
async def test_of_what_a_dead_healer_started_the_oldest_is_held() -> None:
    it = Small()
    oldest = it.world.spawn("chat_api", launch_id="launch-1")
    it.world.fork(oldest)
    settlement, result = await it.settle(Start(), launch_id="launch-1", port=PORT)
    assert (settlement, result.started) == (Settlement.OBSERVED, oldest.identity)
    assert it.host.holding == (oldest.identity,)
    [launch] = it.instance.launches
    assert (launch.launch_id, launch.leader) == ("launch-1", oldest.identity)


@in_virtual_time
async def test_what_a_manager_started_is_looked_for_on_the_port() -> None:
    it = Small(owner={"cmdline": "chat_api"})
    nothing, _ = await it.settle(Start(), launch_id="launch-1", manager="systemd", port=PORT)
    assert nothing is Settlement.ABSENT
    unknown, _ = await it.settle(Start(), launch_id="launch-1", manager="hook", port=PORT)
    assert unknown is Settlement.UNKNOWABLE
    it.world.listen(it.world.spawn("chat_api"), PORT)
    there, result = await it.settle(Start(), launch_id="launch-1", manager="systemd", port=PORT)
    assert (there, result.manager, result.port) == (Settlement.OBSERVED, "systemd", PORT)
    assert it.host.holding == ()


@in_virtual_time
async def test_a_dry_run_says_that_the_first_free_port_is_meant() -> None:
    it = Small(rebind=RANGE)
    assert (await it.plan(StartReserved())).does == f"run chat_api --port {PORT} (first free port)"
    it.reserved(PORT + 1)
    plan = await it.plan(StartReserved())
    assert (plan.does, plan.port) == (f"run chat_api --port {PORT + 1}", PORT + 1)
    it.instance.launcher = None
    assert "has no launcher" in await it.skipped(StartReserved())


@in_virtual_time
async def test_a_reservation_that_died_with_its_healer_is_made_again_or_lost() -> None:
    it = Small(rebind=RANGE)
    it.reserved(PORT + 1)
    await it.perform(StartReserved())
    assert it.world.reserved == {PORT + 1}
    it = Small(rebind=RANGE)
    it.reserved(PORT + 1)
    it.world.listen(it.world.spawn("thief"), PORT + 1)
    result = await it.failure(StartReserved())
    assert (result.error, result.port) == ("port_lost", PORT + 1)
    assert it.launcher.started == []


@in_virtual_time
async def test_what_cannot_bind_a_reserved_port_is_started_with_it_given_up() -> None:
    it = Small(Program(name="chat_api", reuses_address=False), rebind=RANGE)
    it.reserved(PORT + 1)
    result = await it.perform(StartReserved())
    assert len(it.launcher.started) == 2
    assert it.world.reserved == set()
    assert it.instance.process is not None
    assert result.started == it.instance.process.identity


@in_virtual_time
async def test_what_is_not_healthy_there_is_not_moved() -> None:
    it = Small(Program(name="chat_api", answers=Reason.BAD_STATUS), rebind=RANGE)
    it.reserved(PORT + 1)
    await it.perform(StartReserved())
    result = await it.failure(ProbeReserved())
    assert (result.error, result.port) == ("not_healthy_there", PORT + 1)
    assert result.probe is not None
    assert result.probe.reason is Reason.BAD_STATUS
    settlement, _ = await it.settle(ProbeReserved(), port=PORT + 1)
    assert settlement is Settlement.ABSENT


@in_virtual_time
async def test_a_start_that_bears_no_launch_id_is_looked_for_on_the_port() -> None:
    it = Small(owner={"cmdline": "chat_api"})
    nothing, _ = await it.settle(Start(), launch_id=None, port=PORT)
    assert nothing is Settlement.ABSENT
    it.world.listen(it.world.spawn("chat_api"), PORT)
    there, result = await it.settle(Start(), launch_id=None, port=PORT)
    assert (there, result.launch_id, result.started) == (Settlement.OBSERVED, None, None)


@in_virtual_time
async def test_what_a_manager_starts_keeps_the_reservation_and_is_started_once() -> None:
    it = Small(rebind=RANGE)
    manager = FakeLauncher(it.host, Program(name="chat_api"), kind="systemd", stops=True)
    it.instance.launcher = manager
    it.reserved(PORT + 1)
    result = await it.perform(StartReserved())
    assert (result.started, result.manager, it.instance.process) == (None, "systemd", None)
    assert len(manager.started) == 1
    assert it.world.reserved == {PORT + 1}


@in_virtual_time
async def test_what_lives_and_does_not_listen_in_time_is_not_started_again() -> None:
    it = Small(Program(name="chat_api", address=None), rebind=RANGE)
    it.reserved(PORT + 1)
    begun = asyncio.get_running_loop().time()
    await it.perform(StartReserved())
    waited = asyncio.get_running_loop().time() - begun
    assert waited >= it.instance.spec.start_period
    assert len(it.launcher.started) == 1
    assert it.world.reserved == {PORT + 1}
    assert it.world.signals == []


@in_virtual_time
async def test_without_a_start_period_nobody_waits_for_what_was_started() -> None:
    it = Small(Program(name="chat_api", address=None), rebind=RANGE, start_period=0.0)
    it.reserved(PORT + 1)
    await it.perform(StartReserved())
    assert asyncio.get_running_loop().time() < 0.001, "it has turned, and not waited"
    assert len(it.launcher.started) == 1
    assert it.world.reserved == {PORT + 1}


@in_virtual_time
async def test_without_a_reserved_port_a_dry_run_probes_no_port() -> None:
    it = Small(rebind=RANGE)
    assert (await it.plan(ProbeReserved())).port is None
    it.reserved(PORT + 1)
    assert (await it.plan(ProbeReserved())).port == PORT + 1
