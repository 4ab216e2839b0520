"""One record per issue, and how they are found."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healer.domain.playbook import PlaybookOutcome, Settlement, StepResult
from healer.domain.spec import IssueType
from projections.active import ACTIVE
from projections.fold import Fold
from projections.history import (
    HISTORY,
    HistoryQuery,
    HistoryQueryError,
    page,
    pages,
    shown,
)
from tests.projections.build import START, Log, heal, logs, process, view_of


def search(log: Log, **conditions):
    fold = Fold([HISTORY])
    fold.apply(log.facts)
    return page(fold.state("history"), HistoryQuery(**conditions))


def test_a_record_holds_what_the_document_wants_logged():
    log = Log()
    issue = log.detect(previous="issue-0000", recurrence=1)
    issue.diagnose().withhold("backoff").route("clear_port", "restart_component").remediate()
    issue.run("clear_port", cured=False).playbook("restart_component")
    issue.step("terminate", result=StepResult(stopped=(process(42),), killed=(process(42),)))
    issue.fail_step("start", "exited").finish(PlaybookOutcome.FAILED)
    issue.look(healthy=False, after="restart_component").escalate("not_cured").fail(
        "route_exhausted", resolved_in=9.0
    )
    [record] = view_of(HISTORY, log.facts)
    expected = {
        "timestamp": "2026-03-01T12:00:00.000000Z",
        "component": "chat_api",
        "port": 8220,
        "issue_type": "port_not_listening",
        "severity": "high",
        "playbooks_executed": ["clear_port", "restart_component"],
        "success": False,
        "outcome": "failed",
        "state": "failed",
        "reason": "route_exhausted",
        "time_to_detect": 0.25,
        "time_to_resolution": 9.0,
        "previous": "issue-0000",
        "recurrence": 1,
        "recommendations": ["component crashed"],
        "findings": ["nothing_listens"],
        "chosen_by": "table",
        "actions_taken": [
            "terminate chat_api[42]: stopped",
            "start chat_api[43]: started on port 8220",
            "terminate chat_api[42]: killed",
            "start: failed (exited, exit code 3)",
        ],
    }
    assert expected.items() <= record.items()
    assert record["evidence"]["probe"]["reason"] == "refused"
    assert [each["reason"] for each in record["withheld"]] == ["backoff"]
    assert record["withheld"][0]["arithmetic"] == {"pause": 2.0}
    assert [each["reason"] for each in record["escalations"]] == ["not_cured"]


def test_an_interrupted_step_says_what_was_seen_of_it():
    log = Log()
    issue = log.detect().diagnose().route("restart_component").remediate()
    issue.playbook("restart_component").intend("start").settle("start", Settlement.OBSERVED)
    [record] = view_of(HISTORY, log.facts)
    assert record["actions_taken"] == ["start: interrupted, then observed"]
    assert (record["success"], record["outcome"]) == (None, "open")


def test_the_newest_record_comes_first():
    log = Log()
    issues = [heal(log).id for _ in range(3)]
    assert [record["issue_id"] for record in view_of(HISTORY, log.facts)] == issues[::-1]


def test_conditions_hold_together():
    log = Log()
    heal(log, "a")
    wanted = log.detect("a", IssueType.PORT_CONFLICT).diagnose(IssueType.PORT_CONFLICT).fail()
    log.detect("b", IssueType.PORT_CONFLICT).diagnose(IssueType.PORT_CONFLICT).fail()
    log.detect("a", IssueType.PORT_CONFLICT).diagnose(IssueType.PORT_CONFLICT)
    found = search(log, component="a", issue_type="port_conflict", outcome="failed")
    assert [record["issue_id"] for record in found["records"]] == [wanted.id]
    assert found["next"] is None


def test_since_is_included_and_until_is_not():
    log = Log()
    for _ in range(3):
        heal(log)
        log.now = log.now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    one, two = START + timedelta(hours=1), START + timedelta(hours=2)
    [record] = search(log, since=one, until=two)["records"]
    assert record["timestamp"] == "2026-03-01T13:00:00.000000Z"


@given(facts=logs(20), limit=st.integers(1, 5), outcome=st.sampled_from([None, "failed", "healed"]))
@settings(max_examples=40, deadline=None)
def test_pages_put_together_are_the_whole(facts, limit, outcome):
    fold = Fold([HISTORY])
    fold.apply(facts)
    state = fold.state("history")
    collected, before = [], None
    while True:
        got = page(state, HistoryQuery(outcome=outcome, before=before, limit=limit))
        collected += got["records"]
        before = got["next"]
        if before is None:
            break
        assert len(got["records"]) == limit
    whole = [each for each in fold.view("history") if outcome in {None, each["outcome"]}]
    assert collected == whole


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"limit": 0}, "limit 0; allowed: 1 to 1000"),
        ({"limit": 1001}, "limit 1001"),
        ({"before": 0}, "before 0; allowed: a position"),
        ({"outcome": "cured"}, "'cured'; allowed: healed, recovered, failed, open"),
        ({"since": datetime(2026, 1, 1)}, "allowed: an instant with its UTC offset"),
    ],
)
def test_a_query_that_cannot_be_answered_says_what_is_allowed(conditions, words):
    with pytest.raises(HistoryQueryError, match="cannot search history") as caught:
        HistoryQuery(**conditions)
    assert words in str(caught.value)


def test_an_unknown_component_has_no_history():
    assert search(Log(), component="nobody") == {"records": [], "next": None}


def test_an_active_issue_tells_what_is_being_done():
    log = Log()
    issue = log.detect()
    steps = []

    def now():
        [entry] = view_of(ACTIVE, log.facts)
        steps.append((entry["state"], entry["playbook"], entry["step"]))

    now()
    issue.diagnose(complete=False)
    now()
    issue.withhold().route("restart_component").remediate().playbook("restart_component")
    now()
    issue.intend("terminate")
    now()
    issue.settle("terminate", Settlement.ABSENT)
    issue.finish()
    now()
    assert steps == [
        ("detected", None, None),
        ("diagnosing", "diagnose_network", None),
        ("remediating", "restart_component", None),
        ("remediating", "restart_component", "terminate"),
        ("remediating", None, None),
    ]
    [entry] = view_of(ACTIVE, log.facts)
    assert (entry["since"], entry["withheld"]) == ("2026-03-01T12:00:00.000000Z", "backoff")
    issue.fail()
    assert view_of(ACTIVE, log.facts) == []


@given(facts=logs(), data=st.data())
def test_pages_are_those_of_when_they_were_asked_for_whatever_happens_between_them(facts, data):
    cut = data.draw(st.integers(0, len(facts)))
    size = data.draw(st.integers(1, 4))
    step = data.draw(st.integers(0, 9))
    fold, later = Fold([HISTORY]), facts[cut:]
    fold.apply(facts[:cut])
    then = fold.view("history")
    told = []
    for records in pages(fold.state("history"), fold.position, size):
        assert len(records) <= size
        told += records
        fold.apply(later[:step])
        del later[:step]
    assert [shown(record) for record in told] == then
