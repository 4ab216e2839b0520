"""NetworkIssue: commands decide and may refuse, facts evolve and never refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from healer.domain.events import (
    Event,
    HealWithheld,
    IssueFailed,
    IssueTakenOver,
    IssueVerified,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import TERMINAL, State, Trigger, allowed
from healer.domain.playbook import (
    Check,
    CheckStatus,
    Finding,
    PlaybookOutcome,
    StepResult,
)
from healer.domain.spec import IssueType, Mode
from healer.errors import HealerError, IllegalCommandError, IllegalTransitionError
from tests import factory
from tests.domain.walk import COMMANDS, detected, given, next_command, shown, stamp

DIAGNOSED = ("start_diagnosis", "complete_diagnosis")
REMEDIATING = (*DIAGNOSED, "choose_one", "start_remediation")
PLAYING = (*REMEDIATING, "start_playbook")
ACTING = (*PLAYING, "start_step")
DONE = (*ACTING, "succeed_step", "skip_step", "finish_playbook")
MOVES = {
    "start_diagnosis": Trigger.DIAGNOSE,
    "start_remediation": Trigger.REMEDIATE,
    "verify": Trigger.VERIFY,
    "fail": Trigger.FAIL,
}


def refused(issue: NetworkIssue, command: str) -> HealerError:
    """Give a command that must be refused; nothing may have changed."""
    before = shown(issue)
    with pytest.raises((IllegalCommandError, IllegalTransitionError)) as raised:
        COMMANDS[command](issue, stamp(99))
    assert issue.pending_events == ()
    assert shown(issue) == before
    assert str(raised.value).startswith("cannot ")
    return raised.value


IN_STATE = {
    State.DETECTED: (),
    State.DIAGNOSING: DIAGNOSED,
    State.REMEDIATING: REMEDIATING,
    State.VERIFIED: (*DONE, "see_healthy", "verify"),
    State.FAILED: (*DONE, "see_unhealthy", "fail"),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("command", MOVES)
def test_a_command_that_the_table_forbids_is_refused_by_its_name(
    state: State, command: str
) -> None:
    issue = given(*IN_STATE[state])
    assert issue.state is state
    if MOVES[command] in allowed(state):
        return
    error = refused(issue, command)
    assert isinstance(error, IllegalTransitionError)
    assert (error.trigger, error.state) == (MOVES[command], state)


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_can_be_done_to_an_issue_that_has_ended(state: State, command: str) -> None:
    refused(given(*IN_STATE[state]), command)


@pytest.mark.parametrize(
    ("history", "command"),
    [
        ((), "choose_one"),
        ((), "record_check"),
        ((), "see_healthy"),
        (("start_diagnosis",), "choose_one"),
        (DIAGNOSED, "start_remediation"),
        (DIAGNOSED, "request_approval"),
        (DIAGNOSED, "start_step"),
        ((*DIAGNOSED, "choose_none"), "start_remediation"),
        ((*DIAGNOSED, "choose_one"), "grant_approval"),
        ((*DIAGNOSED, "choose_one"), "deny_approval"),
        ((*DIAGNOSED, "choose_one", "request_approval", "grant_approval"), "deny_approval"),
        (REMEDIATING, "start_step"),
        (REMEDIATING, "finish_playbook"),
        (PLAYING, "start_playbook"),
        (PLAYING, "choose_one"),
        (PLAYING, "succeed_step"),
        (PLAYING, "settle_observed"),
        (PLAYING, "finish_playbook"),
        (ACTING, "start_step"),
        (ACTING, "skip_step"),
        (ACTING, "finish_playbook"),
        (ACTING, "see_healthy"),
        (ACTING, "fail"),
        (DONE, "start_playbook"),
        (DONE, "start_step"),
        (DONE, "see_stranger"),
        (DONE, "verify"),
        ((*DONE, "see_unhealthy"), "verify"),
        ((*DIAGNOSED, "see_unhealthy"), "verify"),
    ],
)
def test_a_command_out_of_its_turn_is_refused(history: tuple[str, ...], command: str) -> None:
    refused(given(*history), command)


@pytest.mark.parametrize(
    "acted_after",
    [
        (),
        ("start_playbook", "start_step", "succeed_step"),
        ("start_playbook", "skip_step"),
        ("start_playbook", "start_step", "settle_absent"),
    ],
)
def test_a_cure_seen_before_the_last_step_proves_nothing(acted_after: tuple[str, ...]) -> None:
    history = (*DIAGNOSED, "choose_two", "start_remediation", "start_playbook")
    history += ("start_step", "fail_step", "start_step", "succeed_step", "finish_playbook")
    issue = given(*history, "see_healthy", *acted_after)
    if acted_after:
        refused(issue, "verify")
    else:
        COMMANDS["verify"](issue, stamp(50))
        assert issue.state is State.VERIFIED


def test_a_healthy_verification_needs_a_healthy_last_probe() -> None:
    issue = given(*DONE)
    for probes in ((), (factory.probe(), factory.probe(factory.Reason.TIMEOUT))):
        with pytest.raises(IllegalCommandError):
            issue.record_verification(
                healthy=True, probes=probes, epoch=1, elapsed=0.1, stamp=stamp(9)
            )
    assert issue.pending_events == ()


def test_a_step_is_an_intent_and_an_outcome_that_names_it() -> None:
    issue = given(*PLAYING)
    issue.start_step(port=8220, launch_id="l1", stamp=stamp(10))
    issue.succeed_step(StepResult(port=8220), elapsed=0.5, stamp=stamp(11))
    started, succeeded = issue.pending_events
    assert isinstance(started, StepStarted)
    assert isinstance(succeeded, StepSucceeded)
    assert (started.playbook, started.step, started.action) == ("plain", 0, "stop")
    assert (succeeded.playbook, succeeded.step, succeeded.action) == ("plain", 0, "stop")
    assert succeeded.causation_id == started.event_id
    assert succeeded.correlation_id == issue.id
    assert (started.timestamp, started.actor, started.node) == (
        stamp(10).now,
        "test",
        factory.NODE,
    )


def test_a_failed_step_leaves_only_undoing() -> None:
    history = (*DIAGNOSED, "choose_two", "start_remediation", "start_playbook")
    issue = given(*history, "start_step", "fail_step")
    assert issue.next_step is not None
    assert issue.next_step[1].action == "undo"
    for command in ("start_step", "succeed_step", "finish_playbook"):
        COMMANDS[command](issue, stamp(20))
    assert issue.finished[-1][1] is PlaybookOutcome.UNDONE
    assert [book.name for book in issue.remaining] == ["plain"]


def test_an_undo_step_does_not_run_when_all_went_well() -> None:
    history = (*DIAGNOSED, "choose_two", "start_remediation", "start_playbook")
    issue = given(*history, "skip_step", "skip_step")
    assert issue.next_step is None
    COMMANDS["finish_playbook"](issue, stamp(20))
    assert issue.finished[-1][1] is PlaybookOutcome.COMPLETED


def test_a_step_whose_effect_is_absent_is_due_again() -> None:
    issue = given(*ACTING, "settle_absent")
    assert issue.next_step is not None
    assert issue.next_step[0] == 0
    issue = given(*ACTING, "settle_observed")
    assert issue.next_step is not None
    assert issue.next_step[0] == 1


def test_a_route_stands_while_its_playbook_runs() -> None:
    error = refused(given(*PLAYING), "choose_one")
    assert str(error) == "cannot choose a route: a playbook is under way"


def test_a_route_with_unequal_probabilities_is_refused() -> None:
    issue = given(*DIAGNOSED)
    why = "^cannot choose a route: 1 candidates have 2 probabilities$"
    with pytest.raises(IllegalCommandError, match=why):
        issue.choose_route(
            (), candidates=("a",), probabilities=(0.5, 0.5), chosen_by="x", stamp=stamp()
        )


def test_an_issue_knows_what_its_events_said() -> None:
    found = (Finding(code="foreign_listener", checks=("listener",)),)
    issue = given("start_diagnosis", "record_check")
    issue.complete_diagnosis(
        issue_type=IssueType.PORT_CONFLICT,
        findings=found,
        recommendations=("ask its owner",),
        pending=("dns",),
        stamp=stamp(3),
    )
    assert (issue.issue_type, issue.findings) == (IssueType.PORT_CONFLICT, found)
    assert (issue.recommendations, issue.pending_checks) == (("ask its owner",), ("dns",))
    assert issue.checks == {"route": Check(name="route", status=CheckStatus.OK)}
    for second, name in enumerate(("choose_one", "withhold", "escalate"), 4):
        COMMANDS[name](issue, stamp(second))
    assert isinstance(issue.withheld, HealWithheld)
    assert issue.withheld.reason == "paused"
    assert issue.escalations == ["deadline"]
    COMMANDS["start_remediation"](issue, stamp(7))
    assert issue.withheld is None
    issue.take_over(None, stamp=replace(stamp(8), node="another"))
    assert issue.node == "another"


def test_an_issue_knows_what_opened_it() -> None:
    issue = detected(epoch=3, at=replace(stamp(), causation_id="alert:1"))
    assert (issue.cause, issue.node, issue.epoch) == ("alert:1", factory.NODE, 3)
    assert (issue.routed, issue.diagnosed, issue.withheld) == (False, False, None)


def test_a_history_that_today_s_table_forbids_still_replays() -> None:
    history: list[Event] = [
        factory.issue_detected(version=1),
        factory.verification_recorded(version=2),
        factory.step_succeeded(version=3),
        factory.playbook_finished(version=4),
        factory.issue_verified(version=5),
        factory.playbook_started(version=6),
        factory.remediation_started(version=7),
        factory.issue_failed(version=8),
        factory.issue_verified(version=9),
    ]
    issue = NetworkIssue.replay(factory.ISSUE, history)
    assert issue.state is State.VERIFIED
    assert issue.version == 9
    assert issue.modified_on == history[-1].timestamp


def test_a_fact_of_another_stream_or_out_of_order_is_no_history() -> None:
    opened = factory.issue_detected(version=1)
    with pytest.raises(Exception, match="other"):
        NetworkIssue.replay(factory.ISSUE, [opened, factory.issue_failed("other", version=2)])
    with pytest.raises(Exception, match="3"):
        NetworkIssue.replay(factory.ISSUE, [opened, factory.issue_failed(version=3)])


class Life(RuleBasedStateMachine):
    """Any commands in any order: none leads to an illegal state, and history is all there is."""

    issue: NetworkIssue

    @initialize()
    def detect(self) -> None:
        self.second = 0
        self.issue = detected()
        self.history: list[Event] = [*self.issue.collect_events()]

    @rule(name=st.sampled_from(sorted(COMMANDS)))
    def command(self, name: str) -> None:
        self.second += 1
        before, state = shown(self.issue), self.issue.state
        try:
            COMMANDS[name](self.issue, stamp(self.second))
        except (IllegalCommandError, IllegalTransitionError):
            assert self.issue.pending_events == ()
            assert shown(self.issue) == before
            return
        events = list(self.issue.collect_events())
        assert len(events) == 1
        self.history += events
        if self.issue.state is not state:
            assert MOVES[name] in allowed(state)
        if isinstance(events[0], IssueVerified):
            self._was_seen_cured()

    @rule()
    def the_way_on(self) -> None:
        """Commands at random seldom get far: take the one that the issue needs next."""
        name = next_command(self.issue, Mode.ACT)
        if name is not None:
            self.command(name)

    def _was_seen_cured(self) -> None:
        """The last look was healthy, and nothing was done after it."""
        looks = [each for each in self.history if isinstance(each, VerificationRecorded)]
        assert looks
        assert looks[-1].healthy
        after = self.history[self.history.index(looks[-1]) :]
        assert not any("step" in each.TOPIC or "playbook" in each.TOPIC for each in after)

    @invariant()
    def history_is_all_there_is(self) -> None:
        if hasattr(self, "history"):
            replayed = NetworkIssue.replay(self.issue.id, self.history)
            assert shown(replayed) == shown(self.issue)

    @invariant()
    def it_ends_once(self) -> None:
        if hasattr(self, "history"):
            ends = [each for each in self.history if isinstance(each, IssueVerified | IssueFailed)]
            assert len(ends) == int(self.issue.closed)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("history", [(), DIAGNOSED, ACTING])
def test_who_takes_an_issue_over_names_the_one_given_up(history: tuple[str, ...]) -> None:
    issue = given(*history)
    issue.take_over("elsewhere", stamp=stamp(50))
    (taken,) = issue.collect_events()
    assert isinstance(taken, IssueTakenOver)
    assert (taken.holder, taken.timestamp, taken.node) == (
        "elsewhere",
        stamp(50).now,
        factory.NODE,
    )
    issue.take_over(None, stamp=stamp(51))
    (again,) = issue.collect_events()
    assert again.holder is None


def test_an_issue_that_has_ended_cannot_be_taken_over() -> None:
    with pytest.raises(IllegalCommandError, match="cannot take the issue over"):
        given(*DONE, "see_healthy", "verify").take_over("elsewhere", stamp=stamp(50))
