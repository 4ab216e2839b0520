"""One component: from the fault to the verified cure, or to somebody who is told."""

from __future__ import annotations

import asyncio

import pytest

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    HealWithheld,
    IssueEscalated,
    IssueVerified,
    PlaybookFinished,
    PlaybookStarted,
    PortRebound,
    ProcessAdopted,
    RemediationStarted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.domain.health import Health
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import State
from healer.domain.playbook import PlaybookOutcome
from healer.domain.probe import Reason
from healer.domain.spec import Backoff, Budget, IssueType, Mode, PortRange
from healer.engine import HealRequest
from healer.errors import (
    HealInProgressError,
    HealWithheldError,
    HostError,
    LaunchError,
    UnknownNameError,
)
from healer.testing import Program
from tests.engine.route import REBIND, ROUTES
from tests.engine.stage import PORT, Stage, in_virtual_time, spec

ASK = HealRequest(actor="api:test")


async def broken(stage: Stage, route: str) -> None:
    """Bring the component up, and break it as the route says."""
    await stage.healthy()
    ROUTES[route].make(stage)
    stage.world.signals.clear()


@in_virtual_time
async def test_a_crash_is_one_issue_verified_by_fresh_probes() -> None:
    async with Stage() as stage:
        await broken(stage, "process_crashed")
        _, issue = await stage.ended(2)
        await stage.healthy()
    assert issue.issue_type is IssueType.PROCESS_CRASHED
    assert issue.state is State.VERIFIED
    assert issue.executed == ("restart_component",)
    assert stage.answers()
    assert len(await stage.issues()) == 2
    assert stage.host.holding == ()
    verified = (await stage.facts(IssueVerified))[-1]
    assert verified.healed_by == "restart_component"
    assert verified.resolved_in < 0.2


@in_virtual_time
async def test_the_end_of_a_process_is_seen_at_once_not_at_the_next_interval() -> None:
    async with Stage(spec(interval=3600.0)) as stage:
        await broken(stage, "process_crashed")
        begun = stage.clock.monotonic()
        await stage.ended(2)
    assert stage.clock.monotonic() - begun < 0.2


@in_virtual_time
async def test_a_recurrence_names_the_issue_before_it() -> None:
    async with Stage() as stage:
        await broken(stage, "process_crashed")
        await stage.ended(2)
        await stage.healthy()
        stage.crash()
        first, second, third = await stage.ended(3)
    assert (second.previous, third.previous) == (first.id, second.id)
    assert (first.recurrence, second.recurrence, third.recurrence) == (0, 1, 2)


@in_virtual_time
async def test_a_quiet_day_adds_nothing_to_the_log() -> None:
    async with Stage(spec(interval=60.0)) as stage:
        await stage.healthy()
        before = await stage.log.head()
        await asyncio.sleep(24 * 3600 - 60)
        assert await stage.log.head() == before


@in_virtual_time
async def test_every_process_of_the_component_ends_before_it_is_started_again() -> None:
    program = Program(name="chat_api", children=2)
    async with Stage(programs={"chat_api": program}) as stage:
        await broken(stage, "connection_refused")
        old = set(stage.world.processes)
        await stage.ended(2)
        await stage.healthy()
        fresh = stage.serving()
        assert fresh is not None
        family = {each.pid for each in stage.world.processes.values() if each.sid == fresh.sid}
    assert len(family) == 3
    assert len([p for p in stage.world.processes.values() if p.launch_id]) == 3
    assert len(stage.signalled()) == 3
    assert {identity.pid for identity in stage.signalled()} <= old


@in_virtual_time
async def test_one_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    async with Stage(programs={"chat_api": Program(ignores_sigterm=True)}) as stage:
        await broken(stage, "connection_refused")
        await stage.ended(2)
        stopped = [s for s in await stage.facts(StepSucceeded) if s.action == "terminate"]
    assert [number for _, number in stage.world.signals] == [15, 9]
    assert len(stopped[0].result.killed) == 1
    assert stopped[0].elapsed == pytest.approx(1.0, abs=0.1)


@in_virtual_time
async def test_a_component_of_a_manager_is_stopped_by_it_and_never_signalled() -> None:
    async with Stage(manager="systemd", budget=Budget()) as stage:
        await broken(stage, "connection_refused")
        stage.launchers["chat_api"].stopped.clear()
        await stage.ended(2)
        await stage.healthy()
    assert stage.launchers["chat_api"].stopped == [PORT]
    assert stage.world.signals == []
    assert stage.answers()


@in_virtual_time
async def test_a_component_without_a_launcher_is_cleared_and_waited_for() -> None:
    async with Stage(spec(launch=None, owner={"cmdline": "chat_api"})) as stage:
        process = stage.world.run(Program(name="chat_api"), PORT)
        await stage.healthy()
        process.answers = Reason.BAD_STATUS
        await stage.until(lambda: not process.alive)
        asyncio.get_running_loop().call_later(
            1.0, lambda: stage.world.run(Program(name="chat_api"), PORT)
        )
        (issue,) = await stage.ended()
    assert issue.state is State.VERIFIED
    (skipped,) = [s for s in await stage.facts(StepSkipped) if s.action == "start"]
    assert "its own supervisor" in skipped.reason


# Strangers and ports


@in_virtual_time
async def test_a_stranger_on_the_port_is_never_signalled_and_the_component_moves() -> None:
    async with Stage(spec(rebind=REBIND, announce=("announce",))) as stage:
        await broken(stage, "port_conflict")
        thief = stage.serving()
        issue = (await stage.ended(2))[1]
        await stage.healthy()
    assert thief is not None
    assert thief.alive
    assert stage.world.signals == []
    assert issue.state is State.VERIFIED
    assert issue.executed == ("clear_port", "rebind_port")
    assert issue.finished[0][1] is PlaybookOutcome.FAILED
    evicted = [s for s in await stage.facts(StepFailed) if s.action == "evict"]
    assert evicted[0].result.error == "foreign_listener"
    assert evicted[0].result.foreign == (thief.identity,)
    assert stage.answers(PORT + 1)
    assert stage.launchers["announce chat_api"].started[0][0] == PORT + 1
    assert stage.world.reserved == set()


@in_virtual_time
async def test_of_two_who_share_a_port_only_ours_is_signalled() -> None:
    async with Stage(spec(rebind=REBIND, announce=("announce",))) as stage:
        await stage.healthy()
        ours = stage.serving()
        assert ours is not None
        stranger = stage.world.spawn("stranger")
        stranger.answers = Reason.BAD_STATUS
        stage.world.listen(stranger, PORT, shared=True)
        ours.answers = Reason.BAD_STATUS
        await stage.until(lambda: not ours.alive)
        await stage.healthy()
    assert stranger.alive
    assert stage.signalled() == [ours.identity]
    assert stage.answers(PORT + 1)


@in_virtual_time
async def test_a_moved_port_is_appended_together_with_the_outcome_of_its_step() -> None:
    async with Stage(spec(rebind=REBIND)) as stage:
        appended: list[list[str]] = []
        stage.log.listen(lambda batch: appended.append([type(r.event).__name__ for r in batch]))
        await broken(stage, "port_conflict")
        await stage.ended(2)
        (moved,) = await stage.facts(PortRebound)
    assert (moved.old_port, moved.new_port) == (PORT, PORT + 1)
    (batch,) = [batch for batch in appended if "PortRebound" in batch]
    assert "StepSucceeded" in batch


@in_virtual_time
async def test_a_move_that_does_not_verify_is_undone() -> None:
    sick_elsewhere = {
        "chat_api": lambda port: Program(
            name="chat_api", answers=Reason.OK if port == PORT else Reason.BAD_STATUS
        )
    }
    async with Stage(spec(rebind=REBIND), programs=sick_elsewhere) as stage:
        await broken(stage, "port_conflict")
        issue = (await stage.ended(2))[1]
    assert issue.state is State.FAILED
    assert issue.finished[-1][1] is PlaybookOutcome.UNDONE
    assert await stage.facts(PortRebound) == []
    assert (await stage.component()).port == PORT
    assert not list(stage.world.on_port(PORT + 1))
    assert stage.world.reserved == set()


@in_virtual_time
async def test_one_that_cannot_bind_a_reserved_port_is_started_again_without_it() -> None:
    program = Program(name="chat_api", reuses_address=False)
    async with Stage(spec(rebind=REBIND), programs={"chat_api": program}) as stage:
        await broken(stage, "port_conflict")
        issue = (await stage.ended(2))[1]
        await stage.healthy()
    assert issue.state is State.VERIFIED
    assert stage.answers(PORT + 1)


@in_virtual_time
async def test_a_stranger_is_evicted_only_where_the_configuration_says_so() -> None:
    async with Stage(spec(evict_foreign=True)) as stage:
        await broken(stage, "port_conflict")
        thief = stage.serving()
        issue = (await stage.ended(2))[1]
        await stage.healthy()
    assert thief is not None
    assert not thief.alive
    assert stage.signalled() == [thief.identity]
    assert issue.state is State.VERIFIED
    assert stage.answers(PORT)


@in_virtual_time
@pytest.mark.parametrize("forbidden", ["ancestor", "network_namespace"])
async def test_one_that_may_never_be_signalled_is_not_evicted_either(forbidden: str) -> None:
    async with Stage(spec(evict_foreign=True)) as stage:
        await broken(stage, "port_conflict")
        thief = stage.serving()
        assert thief is not None
        thief.forbidden = forbidden
        issue = (await stage.ended(2))[1]
    assert thief.alive
    assert stage.world.signals == []
    assert issue.state is State.FAILED


@in_virtual_time
async def test_a_listener_whom_nobody_can_see_is_not_taken_for_nobody() -> None:
    async with Stage() as stage:
        await broken(stage, "port_conflict")
        thief = stage.serving()
        assert thief is not None
        thief.hidden, thief.answers = True, Reason.TIMEOUT
        issue = (await stage.ended(2))[1]
    assert thief.alive
    assert stage.world.signals == []
    assert issue.state is State.FAILED
    assert stage.world.starts[1:] == []


@in_virtual_time
async def test_an_impersonator_that_answers_is_not_a_cure() -> None:
    async with Stage() as stage:
        await broken(stage, "port_conflict")
        thief = stage.serving()
        issue = (await stage.ended(2))[1]
    assert thief is not None
    assert issue.state is State.FAILED
    looks = await stage.facts(VerificationRecorded)
    assert looks[-1].foreign == (thief.identity,)
    assert not looks[-1].healthy
    assert (await stage.component()).health is Health.UNHEALTHY


@in_virtual_time
async def test_an_impersonator_whom_nobody_can_see_is_not_a_cure_either() -> None:
    async with Stage() as stage:
        await broken(stage, "port_conflict")
        thief = stage.serving()
        assert thief is not None
        thief.hidden = True
        issue = (await stage.ended(2))[1]
    assert issue.state is State.FAILED
    assert not (await stage.facts(VerificationRecorded))[-1].healthy
    assert stage.world.signals == []


@in_virtual_time
async def test_a_host_that_fails_for_a_while_ends_nothing() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.host.faults["sockets"] = HostError("cannot list sockets: too many open files")
        stage.host.faults["listeners"] = HostError("cannot list sockets: too many open files")
        stage.crash()
        await asyncio.sleep(30)
        stage.host.faults.clear()
        await stage.ended(2)
        await stage.healthy()


@in_virtual_time
async def test_a_reused_pid_is_not_taken_for_the_component() -> None:
    async with Stage() as stage:
        await stage.healthy()
        old = stage.crash()
        reused = stage.world.spawn("stranger", pid=old.pid)
        await stage.ended(2)
        await stage.healthy()
    assert reused.alive
    assert stage.world.signals == []


@in_virtual_time
async def test_an_unkillable_process_is_tried_once_and_told_of() -> None:
    async with Stage(budget=Budget(attempts=1, rearm_after=3600)) as stage:
        await broken(stage, "connection_refused")
        process = stage.serving()
        assert process is not None
        process.unkillable = True
        issue = (await stage.ended(2))[1]
    assert issue.state is State.FAILED
    failed = [s for s in await stage.facts(StepFailed) if s.action in {"terminate", "evict"}]
    for playbook in ("restart_component", "clear_port"):
        tries = [s for s in failed if s.playbook == playbook and s.originator_id == issue.id]
        assert len(tries) <= 1
    assert failed[0].result.error == "unkillable"
    assert failed[0].result.unkillable == (process.identity,)
    assert "not_cured" in issue.escalations
    assert len(stage.world.starts) == 1


# What goes wrong on the way


@in_virtual_time
async def test_a_launcher_that_fails_fails_its_playbook_and_the_next_one_runs() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.launchers["chat_api"].error = LaunchError("cannot start: no such file", errno=2)
        await broken(stage, "connection_refused")
        issue = (await stage.ended(2))[1]
        assert issue.state is State.FAILED
        assert issue.executed == ("restart_component", "clear_port")
        failed = [s for s in await stage.facts(StepFailed) if s.action == "start"]
        assert failed[0].result.error == "launch_failed"
        assert failed[0].result.errno == 2
        stage.launchers["chat_api"].error = None
        await stage.healthy()
    assert stage.answers()


@in_virtual_time
async def test_a_defect_in_a_step_is_its_failure_and_the_issue_goes_on() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.launchers["chat_api"].error = ZeroDivisionError("a defect")
        await broken(stage, "process_crashed")
        issue = (await stage.ended(2))[1]
        stage.launchers["chat_api"].error = None
        await stage.healthy()
    assert issue.state is State.FAILED
    failed = [s for s in await stage.facts(StepFailed) if s.action == "start"]
    assert failed[0].result.error == "internal_error"
    assert failed[0].result.detail == "ZeroDivisionError"


@in_virtual_time
@pytest.mark.parametrize("check", ["route", "firewall_rules"])
async def test_a_defect_in_a_check_is_a_check_that_says_unknown(check: str) -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.host.faults[f"check:{check}"] = ZeroDivisionError("a defect")
        ROUTES["connection_refused"].make(stage)
        issue = (await stage.ended(2, within=60))[1]
        await stage.healthy()
    assert issue.state is State.VERIFIED
    assert issue.checks[check].status == "unknown"


@in_virtual_time
@pytest.mark.parametrize("error", [ZeroDivisionError("a defect"), OSError("gone")])
async def test_a_plan_that_fails_is_the_failure_of_its_step(error: Exception) -> None:
    async with Stage() as stage:
        await broken(stage, "connection_refused")
        stage.host.faults["members"] = error
        issue = (await stage.ended(2, within=60))[1]
        stage.host.faults.clear()
        await stage.healthy()
    assert issue.closed
    assert stage.answers()


@in_virtual_time
async def test_a_playbook_that_says_done_does_not_verify_an_issue() -> None:
    """Started is not healthy: the new process answers 500."""
    async with Stage(programs={"chat_api": Program(answers=Reason.BAD_STATUS)}) as stage:
        (issue,) = (await stage.ended(1))[:1]
    finished = await stage.facts(PlaybookFinished)
    assert finished[0].outcome is PlaybookOutcome.COMPLETED
    assert issue.state is State.FAILED
    assert issue.reason == "not_cured"


@in_virtual_time
async def test_slow_checks_run_beside_the_restart_and_are_recorded_all_the_same() -> None:
    async with Stage() as stage:
        await broken(stage, "process_crashed")
        issue = (await stage.ended(2))[1]
    assert set(issue.checks) == set(stage.host.check_names())
    names = await stage.names(issue.id)
    assert names.index("DiagnosisCompleted") < len(names) - 1 - names[::-1].index("CheckRecorded")


# Asking


@in_virtual_time
async def test_observe_mode_looks_and_never_acts() -> None:
    async with Stage(spec(mode=Mode.OBSERVE)) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        await asyncio.sleep(3600)
        (withheld,) = await stage.facts(HealWithheld)
        assert withheld.reason == "observe"
        assert await stage.facts(StepStarted) == []
    assert stage.world.starts == []


@in_virtual_time
async def test_suggest_mode_waits_for_a_yes() -> None:
    async with Stage(spec(mode=Mode.SUGGEST)) as stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        await asyncio.sleep(600)
        assert stage.world.starts == []
        assert await stage.engine.controls.approve(asked.originator_id, "api:alice") == "chat_api"
        (issue,) = await stage.ended()
    (granted,) = await stage.facts(ApprovalGranted)
    assert granted.actor == "api:alice"
    assert asked.playbooks == ("restart_component",)
    assert issue.state is State.VERIFIED
    assert stage.answers()


@in_virtual_time
async def test_suggest_mode_takes_a_no() -> None:
    async with Stage(spec(mode=Mode.SUGGEST)) as stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        await stage.engine.controls.deny(asked.originator_id, "api:alice", "not now")
        (issue, *_) = await stage.ended()
    (denied,) = await stage.facts(ApprovalDenied)
    assert (denied.actor, denied.reason) == ("api:alice", "not now")
    assert (issue.state, issue.reason) == (State.FAILED, "approval_denied")
    assert stage.world.starts == []


@in_virtual_time
async def test_a_suggestion_that_nobody_answers_expires() -> None:
    budget = Budget(approval_expires=120)
    async with Stage(spec(mode=Mode.SUGGEST), budget=budget) as stage:
        (issue, *_) = await stage.ended()
        denied = (await stage.facts(ApprovalDenied))[0]
        asked = (await stage.facts(ApprovalRequested))[0]
    assert denied.reason == "expired"
    assert (denied.timestamp - asked.timestamp).total_seconds() == pytest.approx(120, abs=1)
    assert issue.state is State.FAILED
    assert stage.world.starts == []


@in_virtual_time
async def test_an_operator_forces_a_withheld_heal() -> None:
    async with Stage(spec(mode=Mode.OBSERVE)) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        issue_id = await stage.engine.heal("chat_api", ASK)
        report = await stage.engine.outcome("chat_api", issue_id)
    assert report.success
    assert report.playbooks_executed == ("restart_component",)
    (started,) = await stage.facts(StepSucceeded) and [
        s for s in await stage.facts(StepStarted) if s.action == "start"
    ]
    assert started.actor == "api:test"
    assert started.originator_id == issue_id


@in_virtual_time
async def test_who_asks_while_a_heal_acts_is_told_which_one() -> None:
    async with Stage(programs={"chat_api": Program(shutdown=0.5)}) as stage:
        await broken(stage, "connection_refused")
        await stage.until(lambda: stage.engine.status("chat_api").healing)
        issue = stage.engine.status("chat_api").issue
        with pytest.raises(HealInProgressError) as raised:
            await stage.engine.heal("chat_api", ASK)
        await stage.healthy()
    assert issue is not None
    assert raised.value.issue_id == issue.id


@in_virtual_time
async def test_who_asks_and_does_not_wait_for_the_answer_breaks_nothing() -> None:
    async with Stage() as stage:
        await stage.healthy()
        known = len(await stage.issues())
        crashed = HealRequest("api:test", issue_type=IssueType.PROCESS_CRASHED)
        asking = asyncio.create_task(stage.engine.heal("chat_api", crashed))
        await asyncio.sleep(0)
        asking.cancel()
        await stage.ended(known + 1)
        stage.crash()
        await stage.ended(known + 2)
        await stage.healthy()


@in_virtual_time
async def test_an_operator_may_name_the_playbook_of_a_healthy_component() -> None:
    async with Stage() as stage:
        await stage.healthy()
        old = stage.serving()
        issue_id = await stage.engine.heal(
            "chat_api",
            HealRequest(
                actor="cli",
                issue_type=IssueType.CONNECTION_REFUSED,
                playbooks=("restart_component",),
            ),
        )
        report = await stage.engine.outcome("chat_api", issue_id)
        assert report.success
        await stage.healthy()
    assert old is not None
    assert not old.alive
    assert stage.answers()


@in_virtual_time
async def test_an_unknown_name_changes_nothing() -> None:
    async with Stage() as stage:
        await stage.healthy()
        before = await stage.log.head()
        with pytest.raises(UnknownNameError, match="chat_api"):
            await stage.engine.heal("chat", ASK)
        with pytest.raises(UnknownNameError, match="restart_component"):
            await stage.engine.heal("chat_api", HealRequest(actor="cli", playbooks=("reboot",)))
        with pytest.raises(UnknownNameError):
            await stage.engine.controls.approve("chat_api", "cli")
        assert await stage.log.head() == before


@in_virtual_time
async def test_while_everything_is_paused_nobody_heals_not_even_by_hand() -> None:
    async with Stage() as stage:
        await stage.healthy()
        await stage.engine.controls.begin_pause("api:alice", "storm")
        stage.crash()
        (withheld,) = await stage.until(lambda: stage.facts(HealWithheld))
        assert withheld.reason == "paused"
        with pytest.raises(HealWithheldError, match="by api:alice: storm"):
            await stage.engine.heal("chat_api", ASK)
        await asyncio.sleep(3600)
        assert stage.serving() is None
        await stage.engine.controls.end_pause("api:alice", "calm")
        await stage.healthy()
    assert stage.answers()


@in_virtual_time
async def test_a_dry_run_names_the_processes_and_changes_nothing() -> None:
    async with Stage() as stage:
        await broken(stage, "connection_refused")
        process = stage.serving()
        assert process is not None
        head = await stage.log.head()
        issue_type, steps = await stage.engine.plan("chat_api", playbooks=("restart_component",))
        assert await stage.log.head() == head
    assert issue_type is IssueType.CONNECTION_REFUSED
    assert [step.action for step in steps] == ["terminate", "wait_port_free", "start"]
    assert [target.process for target in steps[0].targets] == [process.identity]
    assert steps[2].does == f"run chat_api --port {PORT}"


@in_virtual_time
async def test_a_dry_run_of_a_rebind_says_what_only_its_steps_will_tell() -> None:
    async with Stage(spec(rebind=REBIND, announce=("announce",))) as stage:
        await stage.healthy()
        head = await stage.log.head()
        issue_type, steps = await stage.engine.plan(
            "chat_api", issue_type=IssueType.PORT_CONFLICT, playbooks=("rebind_port",)
        )
        assert await stage.log.head() == head
    assert issue_type is IssueType.PORT_CONFLICT
    told = {step.action: step for step in steps}
    assert told["reserve_port"].does is not None
    later = [step for step in steps if step.skipped == "known only when it runs: no_reserved_port"]
    assert [step.does for step in later] == [None] * len(later)
    assert later


# Recovering by itself


@in_virtual_time
async def test_a_withheld_issue_that_recovers_by_itself_was_healed_by_nobody() -> None:
    async with Stage(spec(mode=Mode.OBSERVE, owner={"cmdline": "chat_api"})) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        stage.world.run(Program(name="chat_api"), PORT)
        issues = await stage.ended(within=60)
    verified = (await stage.facts(IssueVerified))[0]
    assert issues[0].state is State.VERIFIED
    assert verified.healed_by is None
    assert await stage.facts(RemediationStarted) == []


@in_virtual_time
async def test_a_prober_in_trouble_never_heals() -> None:
    async with Stage() as stage:
        await stage.healthy()
        issues = len(await stage.issues())
        for reason in (Reason.PROBER_FAILED, Reason.VANTAGE_LOST):
            stage.prober.says["chat_api"] = reason
            await asyncio.sleep(3600)
        assert len(await stage.issues()) == issues
        assert len(stage.world.starts) == 1


@in_virtual_time
async def test_failures_within_the_start_period_of_a_foreign_start_do_not_count() -> None:
    component = spec(launch=None, owner={"cmdline": "chat_api"}, start_period=30.0)
    async with Stage(component) as stage:
        stage.world.run(Program(name="chat_api", ready_after=20.0), PORT)
        await stage.healthy(within=60)
        assert await stage.issues() == []


@in_virtual_time
async def test_a_network_that_is_cut_off_is_diagnosed_and_told_and_nothing_is_touched() -> None:
    async with Stage() as stage:
        await broken(stage, "network_unreachable")
        issue = (await stage.ended(2))[1]
        assert issue.issue_type is IssueType.NETWORK_UNREACHABLE
        assert (issue.state, issue.reason) == (State.FAILED, "no_remedy")
        assert issue.recommendations
        await stage.healthy()
    assert len(stage.world.starts) == 1
    assert stage.world.signals == []
    assert await stage.facts(IssueEscalated)


@in_virtual_time
async def test_a_playbook_of_the_component_s_own_route_runs_instead() -> None:
    own = {IssueType.CONNECTION_REFUSED: ("clear_port", "restart_component")}
    async with Stage(spec(routes=own)) as stage:
        await broken(stage, "connection_refused")
        issue = (await stage.ended(2))[1]
    assert issue.executed == ("clear_port", "restart_component")
    started = [s.playbook for s in await stage.facts(PlaybookStarted)]
    assert started[-2:] == ["clear_port", "restart_component"]


@in_virtual_time
async def test_resolved_in_is_measured_by_the_monotonic_clock() -> None:
    async with Stage(programs={"chat_api": Program(ready_after=1.0)}) as stage:
        await stage.healthy()
        stage.crash()
        asyncio.get_running_loop().call_later(0.5, stage.clock.set_wall, -86400)
        await stage.ended(2)
    assert (await stage.facts(IssueVerified))[-1].resolved_in == pytest.approx(1.0, abs=0.3)


@in_virtual_time
async def test_what_the_log_says_is_what_the_engine_says() -> None:
    async with Stage(budget=Budget(backoff=Backoff(initial=0))) as stage:
        await broken(stage, "connection_timeout")
        issue_id = (await stage.ended(2))[1].id
        replayed = NetworkIssue.replay(issue_id, await stage.log.stream(issue_id))
        report = await stage.engine.outcome("chat_api", issue_id)
    assert report.playbooks_executed == replayed.executed
    assert report.state is replayed.state


def test_a_rebind_range_is_read_as_people_write_it() -> None:
    assert spec(rebind="8221-8223").rebind == PortRange(first=PORT + 1, last=PORT + 3)


@in_virtual_time
async def test_checks_that_do_not_end_in_time_hold_up_no_end() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.host._check_time = 3600.0
        stage.crash()
        issue = (await stage.ended(2, within=60))[1]
    assert issue.state is State.VERIFIED
    check = issue.checks["firewall_rules"]
    assert (check.status, check.facts) == ("unknown", {"why": "not finished in time"})


@in_virtual_time
async def test_a_recovery_of_what_is_nobodys_is_recorded_and_nothing_is_adopted() -> None:
    async with Stage(spec(launch=None, mode=Mode.OBSERVE)) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        stage.world.run(Program(name="chat_api"), PORT)
        (issue,) = await stage.ended(within=60)
        assert await stage.facts(ProcessAdopted) == []
    assert issue.state is State.VERIFIED
