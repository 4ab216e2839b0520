"""What the actions on ports do, and what they say when they cannot."""

from __future__ import annotations

import errno

import pytest

from healer.domain.playbook import Settlement, StepResult
from healer.errors import LaunchError
from healer.playbooks.action import StepFailedError
from healer.playbooks.port import AnnouncePort, CommitPort, ReservePort, WaitPortFree, reserved_port
from tests.domain.walk import stamp
from tests.engine.stage import PORT, in_virtual_time
from tests.playbooks.small import RANGE, Small


@in_virtual_time
async def test_a_port_that_a_stranger_has_is_not_waited_for() -> None:
    it = Small()
    stranger = it.world.spawn("stranger")
    it.world.listen(stranger, PORT)
    result = await it.failure(WaitPortFree())
    assert (result.error, result.bind) == ("foreign_listener", "in_use")
    assert result.foreign == (stranger.identity,)
    assert it.host.holding == ()


@in_virtual_time
async def test_a_port_of_which_nobody_can_be_seen_is_not_waited_for() -> None:
    it = Small()
    it.world.listen(it.world.spawn("unseen", hidden=True), PORT)
    result = await it.failure(WaitPortFree())
    assert (result.error, result.bind, result.foreign) == ("hidden_listener", "in_use", ())


@in_virtual_time
async def test_a_port_that_is_left_in_time_is_free() -> None:
    it = Small()
    it.world.occupy(PORT, 2.0)
    assert await it.perform(WaitPortFree()) == StepResult(port=PORT, bind="free", errno=None)


@pytest.mark.parametrize(
    ("error", "number"), [("port_in_use", errno.EADDRINUSE), ("port_denied", errno.EACCES)]
)
@in_virtual_time
async def test_a_port_that_cannot_be_bound_in_the_end_says_why(error: str, number: int) -> None:
    it = Small()
    if error == "port_denied":
        it.world.denied.add(PORT)
    else:
        it.world.occupy(PORT, 60.0)
    result = await it.failure(WaitPortFree())
    assert (result.error, result.port, result.errno) == (error, PORT, number)


@in_virtual_time
async def test_whether_the_port_was_waited_for_is_seen_by_binding_it() -> None:
    it = Small()
    free, result = await it.settle(WaitPortFree())
    assert (free, result.bind) == (Settlement.OBSERVED, "free")
    it.world.occupy(PORT, 60.0)
    taken, result = await it.settle(WaitPortFree())
    assert (taken, result.bind, result.errno) == (Settlement.ABSENT, "in_use", errno.EADDRINUSE)


@in_virtual_time
async def test_the_first_free_port_of_the_range_is_kept_until_it_is_given_up() -> None:
    it = Small(rebind=RANGE)
    it.world.listen(it.world.spawn("other"), PORT + 1)
    assert (await it.perform(ReservePort())).port == PORT + 2
    assert it.world.reserved == {PORT + 2}
    again = await it.failure(ReservePort())
    assert (again.error, again.detail) == ("no_free_port", f"none of {RANGE} is free")
    assert it.world.reserved == {PORT + 2}, "what it has it keeps"
    it.instance.release()
    assert it.world.reserved == set()


@in_virtual_time
async def test_without_a_range_no_port_is_reserved() -> None:
    assert (await Small().failure(ReservePort())).error == "no_rebind_range"


@in_virtual_time
async def test_what_died_with_the_healer_was_not_done() -> None:
    it = Small(rebind=RANGE)
    assert await it.settle(ReservePort()) == (Settlement.ABSENT, StepResult())
    for action in (CommitPort(), AnnouncePort()):
        settled = await it.settle(action, port=PORT + 1)
        assert settled == (Settlement.ABSENT, StepResult(port=PORT + 1))


@in_virtual_time
async def test_the_component_moves_to_the_port_that_was_reserved() -> None:
    it = Small(rebind=RANGE)
    with pytest.raises(StepFailedError) as nothing:
        reserved_port(it.issue)
    assert nothing.value.result.error == "no_reserved_port"
    it.reserved(PORT + 2)
    assert (await it.plan(CommitPort())).does == f"move chat_api from port {PORT}"
    assert await it.perform(CommitPort()) == StepResult(port=PORT + 2)


@in_virtual_time
async def test_a_reservation_that_failed_has_reserved_no_port() -> None:
    it = Small(rebind=RANGE)
    it.issue.start_step(stamp=stamp(6))
    it.issue.fail_step(StepResult(error="no_free_port"), elapsed=0.1, stamp=stamp(7))
    with pytest.raises(StepFailedError) as nothing:
        reserved_port(it.issue)
    assert nothing.value.result.error == "no_reserved_port"


@in_virtual_time
async def test_who_has_to_know_is_told_by_the_announce_program() -> None:
    it = Small()
    assert await it.perform(AnnouncePort()) == StepResult(port=PORT, manager="hook")
    [(port, _)] = it.announcer.started
    assert port == PORT
    it.announcer.error = LaunchError("it ended with 3", exit_code=3)
    result = await it.failure(AnnouncePort())
    assert (result.error, result.exit_code, result.detail) == (
        "announce_failed",
        3,
        "it ended with 3",
    )
    it.instance.announcer = None
    assert await it.skipped(AnnouncePort()) == "the component has no announce program"
