"""Who is found around a component's port, and which process of it is held."""

from __future__ import annotations

from healer.domain.component import Component
from healer.domain.playbook import Target
from healer.domain.process import Launch, OwnerProof
from healer.errors import HostError
from healer.testing import FakeHost, WorldProcess
from tests.engine.stage import PORT, in_virtual_time
from tests.playbooks.small import Small


def launched(it: Small, leader: WorldProcess) -> None:
    """The healer has started `leader`, as launch-1."""
    it.instance.extra_launches = (Launch(launch_id="launch-1", leader=leader.identity),)


async def owned(it: Small) -> list[tuple[str, OwnerProof | None, bool]]:
    """The component's processes: the name, why it is the component's, whether it listens."""
    async with it.instance.occupants(PORT, members=True) as found:
        targets: tuple[Target, ...] = found.targets
        return [(str(each.process), each.proof, each.listening) for each in targets]


@in_virtual_time
async def test_who_listens_twice_on_the_port_is_found_once() -> None:
    it = Small(owner={"cmdline": "chat_api"})
    process = it.world.spawn("chat_api")
    it.world.listen(process, PORT)
    it.world.listen(process, PORT, "::1")
    async with it.instance.occupants(PORT, members=False) as found:
        assert [target.process for target in found.targets] == [process.identity]
        assert (len(found.listeners), found.serving) == (2, True)
        assert it.host.holding == (process.identity,)
    assert it.host.holding == ()


@in_virtual_time
async def test_a_stranger_that_listens_twice_is_one_stranger() -> None:
    it = Small()
    stranger = it.world.spawn("stranger")
    it.world.listen(stranger, PORT)
    it.world.listen(stranger, PORT, "0.0.0.0", shared=True)
    async with it.instance.occupants(PORT, members=False) as found:
        assert (found.strangers, found.serving) == ((stranger.identity,), False)


@in_virtual_time
async def test_who_ends_between_the_look_and_the_hold_is_nobody() -> None:
    it = Small()
    leaving, staying = it.world.spawn("leaving"), it.world.spawn("staying")
    it.world.listen(leaving, PORT)
    it.world.listen(staying, PORT, "127.0.0.1", shared=True)

    class Late(FakeHost):
        async def hold(self, pid: int):  # type: ignore[no-untyped-def]
            it.world.end(leaving)
            return await super().hold(pid)

    it.instance.host = Late(it.world)
    async with it.instance.occupants(PORT, members=False) as found:
        assert len(found.listeners) == 2
        assert (found.strangers, found.owned) == ((staying.identity,), [])


@in_virtual_time
async def test_whose_descriptors_may_not_be_seen_is_foreign() -> None:
    it = Small()
    it.host.faults["holds"] = HostError("cannot see the descriptors: permission denied")
    guarded = it.world.spawn("guarded")
    it.world.listen(guarded, PORT)
    async with it.instance.occupants(PORT, members=False) as found:
        assert found.strangers == (guarded.identity,)


@in_virtual_time
async def test_of_what_was_launched_who_may_never_be_signalled_is_left_out() -> None:
    it = Small()
    leader = it.world.spawn("chat_api", launch_id="launch-1")
    it.world.spawn("other_net", session=leader, launch_id="launch-1", forbidden="namespace")
    worker = it.world.spawn("worker", session=leader)
    launched(it, leader)
    assert await owned(it) == [
        (str(leader.identity), OwnerProof.LAUNCHED, False),
        (str(worker.identity), OwnerProof.LAUNCHED, False),
    ]
    assert it.host.holding == ()


@in_virtual_time
async def test_the_watched_process_stays_held_when_it_may_not_be_signalled() -> None:
    it = Small()
    process = it.world.spawn("chat_api", launch_id="launch-1", forbidden="namespace")
    launched(it, process)
    it.instance.hold(await it.host.hold(process.pid))
    assert await owned(it) == []
    assert it.host.holding == (process.identity,)
    assert it.instance.process is not None
    assert not it.instance.process.gone()


@in_virtual_time
async def test_the_watched_process_is_not_the_components_without_proof() -> None:
    it = Small()
    stranger = it.world.spawn("stranger")
    it.instance.hold(await it.host.hold(stranger.pid))
    assert await owned(it) == []
    assert it.host.holding == (stranger.identity,)
    launched(it, stranger)
    assert await owned(it) == [(str(stranger.identity), OwnerProof.LAUNCHED, False)]
    assert it.host.holding == (stranger.identity,)


@in_virtual_time
async def test_of_several_workers_the_oldest_is_adopted() -> None:
    it = Small(owner={"cmdline": "chat_api"})
    assert await it.instance.adopt() is None
    oldest = it.world.spawn("chat_api")
    it.world.listen(oldest, PORT)
    it.world.fork(oldest)
    assert await it.instance.adopt() == (oldest.identity, OwnerProof.CMDLINE)
    assert it.host.holding == (oldest.identity,)


@in_virtual_time
async def test_a_stranger_that_serves_is_watched_and_never_owned() -> None:
    it = Small()
    stranger = it.world.spawn("stranger")
    it.world.listen(stranger, PORT)
    assert await it.instance.adopt() == (stranger.identity, None)
    assert it.instance.process is not None
    assert it.instance.process.identity == stranger.identity
    assert await owned(it) == []
    assert it.world.signals == []


@in_virtual_time
async def test_a_process_that_cannot_be_looked_at_again_stays_held() -> None:
    it = Small()
    await it.instance.look_again()
    assert it.instance.process is None
    process = it.world.spawn("chat_api")
    it.instance.hold(await it.host.hold(process.pid))
    it.host.faults["reacquire"] = HostError("cannot hold: too many open files")
    await it.instance.look_again()
    assert it.host.holding == (process.identity,)
    it.host.faults.clear()
    await it.instance.look_again()
    assert it.host.holding == (process.identity,)
    assert it.instance.process is not None
    assert it.instance.process.identity == process.identity


@in_virtual_time
async def test_only_the_process_that_the_log_names_is_held_again() -> None:
    it = Small()
    assert not await it.instance.reacquire()
    process = it.world.spawn("chat_api")
    component: Component = it.instance.component
    component.process = process.identity
    assert await it.instance.reacquire()
    assert it.host.holding == (process.identity,)
    it.world.end(process)
    it.world.spawn("another", pid=process.pid)
    it.instance.close()
    assert not await it.instance.reacquire()
    assert it.host.holding == ()
