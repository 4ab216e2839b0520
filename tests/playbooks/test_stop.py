"""Who is ended, who is not, and what is said when somebody stays."""

from __future__ import annotations

import signal

import pytest

from healer.domain.playbook import Settlement, Target
from healer.domain.process import Launch, OwnerProof
from healer.errors import HostError, LaunchError
from healer.playbooks.stop import Evict, Terminate, TerminateReserved
from healer.testing import FakeHost, FakeLauncher, Program
from tests.engine.stage import PORT, in_virtual_time
from tests.playbooks.small import RANGE, Small


class Forking(FakeHost):
    """A host on which the component forks a child as often as it is ended."""

    forks = 0

    async def stop(self, *arguments, **named):  # type: ignore[no-untyped-def]
        stopped = await super().stop(*arguments, **named)
        if self.forks:
            self.forks -= 1
            self.world.spawn("chat_api", launch_id="launch-1")
        return stopped


def forking(forks: int) -> Small:
    it = Small()
    host = Forking(it.world)
    host.forks = forks
    it.host = it.instance.host = host
    it.world.spawn("chat_api", launch_id="launch-1")
    it.instance.extra_launches = (Launch(launch_id="launch-1"),)
    return it


@in_virtual_time
async def test_who_was_forked_meanwhile_is_ended_too() -> None:
    it = forking(2)
    result = await it.perform(Terminate())
    assert len(result.stopped) == 3
    assert [number for _, number in it.world.signals] == [signal.SIGTERM] * 3
    assert await it.skipped(Terminate()) == "no process of the component is alive"


@in_virtual_time
async def test_who_forks_for_ever_is_not_said_to_be_gone() -> None:
    it = forking(1000)
    result = await it.failure(Terminate())
    assert (result.error, result.port) == ("still_alive", PORT)
    ended = [identity for identity, _ in it.world.signals]
    assert list(result.stopped) == ended, "what was ended is told all the same"
    assert any(each.launch_id == "launch-1" for each in it.world.processes.values())
    assert it.host.holding == ()


@in_virtual_time
async def test_who_cannot_be_killed_is_named() -> None:
    it = Small(owner={"cmdline": "chat_api"})
    process = it.world.spawn("chat_api", unkillable=True)
    it.world.listen(process, PORT)
    result = await it.failure(Terminate())
    assert (result.error, result.unkillable) == ("unkillable", (process.identity,))
    assert it.world.signals == [
        (process.identity, signal.SIGTERM),
        (process.identity, signal.SIGKILL),
    ]


@pytest.mark.parametrize("action", [Terminate(), Evict()], ids=["terminate", "evict"])
@in_virtual_time
async def test_what_the_host_refuses_to_signal_fails_the_step(action: Terminate | Evict) -> None:
    it = Small(owner={"cmdline": "chat_api"})
    it.world.listen(it.world.spawn("chat_api"), PORT)
    it.host.faults["stop"] = HostError("cannot signal it: not permitted", errno=1)
    result = await it.failure(action)
    assert (result.error, result.errno) == ("forbidden_target", 1)
    assert result.detail == "cannot signal it: not permitted"


@in_virtual_time
async def test_a_manager_that_cannot_stop_it_says_why() -> None:
    it = Small()

    class Refusing(FakeLauncher):
        async def stop(self, port: int) -> None:
            raise LaunchError(f"cannot stop port {port}", exit_code=5)

    it.instance.launcher = Refusing(it.host, Program(), kind="systemd", stops=True)
    assert (await it.plan(Terminate())).does == "ask systemd to stop chat_api"
    result = await it.failure(Terminate())
    assert (result.error, result.manager, result.exit_code) == ("manager_failed", "systemd", 5)
    assert result.detail == f"cannot stop port {PORT}"


@in_virtual_time
async def test_a_stranger_that_may_be_evicted_goes_and_one_that_is_forbidden_stays() -> None:
    it = Small(evict_foreign=True)
    assert await it.skipped(Evict()) == f"nothing listens on port {PORT}"
    stranger = it.world.spawn("stranger")
    it.world.listen(stranger, PORT)
    assert (await it.perform(Evict())).stopped == (stranger.identity,)
    forbidden = it.world.spawn("forbidden", forbidden="ancestor")
    it.world.listen(forbidden, PORT)
    assert (await it.plan(Evict())).does == "end nobody"
    result = await it.failure(Evict())
    assert (result.error, result.foreign) == ("forbidden_listener", (forbidden.identity,))
    assert forbidden.alive


@in_virtual_time
async def test_the_reserved_port_is_given_up_whether_or_not_somebody_has_to_be_ended() -> None:
    it = Small(rebind=RANGE, owner={"cmdline": "chat_api"})
    it.instance.reservation = await it.host.reserve("127.0.0.1", RANGE)
    await it.skipped(TerminateReserved())
    assert it.world.reserved == set()
    it.instance.reservation = await it.host.reserve("127.0.0.1", RANGE)
    it.world.listen(it.world.spawn("chat_api", unkillable=True), PORT)
    assert (await it.failure(TerminateReserved())).error == "unkillable"
    assert it.world.reserved == set()


@in_virtual_time
async def test_what_became_of_the_targets_of_a_dead_healer_is_seen_by_looking_at_each() -> None:
    it = Small()
    gone, lives = it.world.spawn("gone"), it.world.spawn("lives")
    it.world.end(gone)
    targets = tuple(
        Target(process=each.identity, proof=OwnerProof.LAUNCHED) for each in (gone, lives)
    )
    settlement, result = await it.settle(Terminate(), targets=targets)
    assert (settlement, result.stopped) == (Settlement.ABSENT, (gone.identity,))
    settlement, result = await it.settle(Terminate(), targets=targets[:1])
    assert (settlement, result.stopped) == (Settlement.OBSERVED, (gone.identity,))
    assert (await it.settle(Terminate()))[0] is Settlement.ABSENT
    elsewhere = Target(
        process=lives.identity.model_copy(update={"boot_id": "boot-2"}), proof=OwnerProof.LAUNCHED
    )
    settlement, _ = await it.settle(Evict(), targets=(elsewhere,), node="node-9")
    assert settlement is Settlement.UNKNOWABLE
    assert it.host.holding == ()
