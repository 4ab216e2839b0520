"""What an issue needs next: always something that it accepts, and never for ever."""

from __future__ import annotations

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from healer.domain import decision
from healer.domain.decision import next_move, wants_launcher
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import State
from healer.domain.playbook import Playbook
from healer.domain.routing import PLAYBOOKS
from healer.domain.spec import Mode
from tests.domain.walk import COMMANDS, PLAIN, detected, given, next_command, route, stamp

BOUND = 200
"""More moves than any walk can take: at most five playbooks of eight steps, three crashes."""

DIAGNOSED = ("start_diagnosis", "complete_diagnosis")


@hypothesis_given(data=st.data(), mode=st.sampled_from([Mode.ACT, Mode.SUGGEST]))
def test_every_answer_is_accepted_and_every_issue_ends(data: st.DataObject, mode: Mode) -> None:
    """A random world: steps succeed, fail, have nothing to do, or lose their healer."""
    books = data.draw(st.lists(st.sampled_from([*PLAYBOOKS.values()]), max_size=5))
    crashes = 3
    issue = detected()
    for second in range(1, BOUND):
        name = next_command(issue, mode)
        match next_move(issue, mode):
            case decision.Done():
                break
            case decision.RouteIssue():
                route(*books)(issue, stamp(second))
                continue
            case decision.AskApproval() if issue.approval is not None:
                name = data.draw(st.sampled_from(["grant_approval", "deny_approval"]))
            case decision.Verify():
                name = data.draw(st.sampled_from(["see_healthy", "see_unhealthy"]))
            case decision.SettleStep():
                ends = ["succeed_step", "fail_step", "settle_observed", "settle_unknowable"]
                name = data.draw(st.sampled_from([*ends, "settle_absent"] if crashes else ends))
                crashes -= name == "settle_absent"
            case decision.RunStep():
                name = data.draw(st.sampled_from(["start_step", "skip_step"]))
            case _:
                pass
        assert name is not None
        COMMANDS[name](issue, stamp(second))
    assert issue.closed
    assert issue.intent is None
    assert issue.executed == tuple(book.name for book in books[: len(issue.executed)])


@pytest.mark.parametrize(
    ("history", "mode", "move"),
    [
        ((), Mode.ACT, decision.Diagnose),
        (("start_diagnosis",), Mode.ACT, decision.Diagnose),
        (DIAGNOSED, Mode.ACT, decision.RouteIssue),
        ((*DIAGNOSED, "choose_one"), Mode.ACT, decision.Remediate),
        ((*DIAGNOSED, "choose_one"), Mode.OBSERVE, decision.Remediate),
        ((*DIAGNOSED, "choose_one"), Mode.SUGGEST, decision.AskApproval),
        ((*DIAGNOSED, "choose_none"), Mode.SUGGEST, decision.Remediate),
        ((*DIAGNOSED, "choose_none", "see_unhealthy"), Mode.ACT, decision.Fail),
        ((*DIAGNOSED, "choose_one", "see_healthy"), Mode.OBSERVE, decision.Verified),
    ],
)
def test_while_diagnosing(history: tuple[str, ...], mode: Mode, move: type[decision.Move]) -> None:
    assert isinstance(next_move(given(*history), mode), move)


def test_what_one_playbook_did_not_cure_is_left_to_the_next() -> None:
    undone = ("choose_two", "start_remediation", "start_playbook", "skip_step", "skip_step")
    issue = given(*DIAGNOSED, *undone, "finish_playbook", "see_unhealthy")
    assert issue.remaining
    assert next_move(issue, Mode.ACT) == decision.StartPlaybook()


def test_a_step_that_is_due_or_open_is_named_with_its_playbook() -> None:
    playing = given(*DIAGNOSED, "choose_one", "start_remediation", "start_playbook")
    assert next_move(playing, Mode.ACT) == decision.RunStep(PLAIN, 0, PLAIN.steps[0])
    COMMANDS["start_step"](playing, stamp(20))
    assert playing.intent is not None
    assert next_move(playing, Mode.ACT) == decision.SettleStep(playing.intent)


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ((*DIAGNOSED, "choose_one", "request_approval", "deny_approval"), "approval_denied"),
        ((*DIAGNOSED, "choose_none", "see_unhealthy"), "no_remedy"),
    ],
)
def test_an_issue_that_cannot_be_healed_fails_for_a_reason(
    history: tuple[str, ...], reason: str
) -> None:
    assert next_move(given(*history), Mode.SUGGEST) == decision.Fail(reason)


def test_what_no_playbook_cured_fails_by_that_name() -> None:
    history = ["choose_one", "start_remediation", "start_playbook"]
    for _ in PLAIN.steps:
        history += ["start_step", "succeed_step"]
    issue = given(*DIAGNOSED, *history, "finish_playbook", "see_unhealthy")
    assert next_move(issue, Mode.ACT) == decision.Fail("not_cured")


def test_a_replayed_issue_is_asked_the_same_question() -> None:
    """Recovery after a crash needs no code of its own."""
    issue = detected()
    history = [*issue.collect_events()]
    for second in range(1, 40):
        name = next_command(issue, Mode.ACT)
        if name is None:
            break
        COMMANDS[name](issue, stamp(second))
        history += issue.collect_events()
        replayed = NetworkIssue.replay(issue.id, history)
        assert next_move(replayed, Mode.ACT) == next_move(issue, Mode.ACT)
    assert issue.state is State.FAILED
    assert issue.reason == "not_cured"


def through(
    *books: Playbook, remaining: tuple[Playbook, ...] = (), failed: bool = False
) -> NetworkIssue:
    issue = given(*DIAGNOSED)
    route(*books, *remaining)(issue, stamp())
    issue.start_remediation(attempt=1, stamp=stamp())
    for _ in books:
        issue.start_playbook(stamp=stamp())
        if failed:
            COMMANDS["start_step"](issue, stamp())
            COMMANDS["fail_step"](issue, stamp())
        while issue.next_step is not None:
            COMMANDS["skip_step"](issue, stamp())
        issue.finish_playbook(stamp=stamp())
    return issue


CLEAR, REBIND, RESTART = (
    PLAYBOOKS[name] for name in ("clear_port", "rebind_port", "restart_component")
)


@pytest.mark.parametrize(
    ("issue", "wanted"),
    [
        (through(CLEAR), True),
        (through(CLEAR, remaining=(REBIND,)), True),
        (through(CLEAR, remaining=(RESTART,)), False),
        (through(CLEAR, failed=True), False),
        (through(RESTART, CLEAR), False),
        (through(REBIND), False),
        (through(remaining=(CLEAR,)), False),
    ],
)
def test_a_cleared_port_is_filled_by_the_launcher_that_was_not_tried(
    issue: NetworkIssue, wanted: bool
) -> None:
    assert wants_launcher(issue, port_free=True, has_launcher=True) is wanted
    assert not wants_launcher(issue, port_free=False, has_launcher=True)
    assert not wants_launcher(issue, port_free=True, has_launcher=False)
