"""An issue's story, for a person and for a program."""

from __future__ import annotations

import orjson
from hypothesis import given, settings

from healer.domain import events as fact
from healer.domain.health import Health
from healer.domain.playbook import Check, CheckStatus
from replay.line import Level, describe
from replay.timeline import Timeline, timeline
from tests.projections.build import Log, heal, logs


def told(log: Log) -> list[str]:
    return [str(entry) for entry in timeline(recorded.event for recorded in log.facts)]


def test_a_healing_is_told_in_short_lines():
    log = Log()
    heal(log)
    assert told(log) == [
        "     +0 ms  detected     chat_api 127.0.0.1:8220 port_not_listening "
        "(tcp 127.0.0.1:8220: refused), seen after 250ms",
        "     +1 ms  diagnosing   diagnose_network: port_listening",
        "     +2 ms  diagnosing   port_listening: fail (listeners=0, port=8220) 3ms",
        "     +3 ms  diagnosing   diagnosis: port_not_listening (nothing_listens)",
        "     +4 ms  diagnosing   route: restart_component, chosen by table",
        "     +5 ms  remediating  remediation begins, attempt 1",
        "     +6 ms  remediating  restart_component begins",
        "     +7 ms  remediating  terminate chat_api[42] (launched) …",
        "     +8 ms  remediating  terminate chat_api[42]: stopped (10ms)",
        "     +9 ms  remediating  start chat_api[42] (launched) …",
        "    +10 ms  remediating  start chat_api[43]: started on port 8220 (10ms)",
        "    +11 ms  remediating  restart_component completed",
        "    +12 ms  remediating  healthy after restart_component (tcp 127.0.0.1:8220 in 0ms)",
        "    +13 ms  verified     healed by restart_component in 1.5s",
    ]


def test_a_check_is_told_in_words_and_what_is_empty_is_not():
    log = Log()
    facts = {"addresses": [], "hidden": False, "why": None, "pids": [4, 2], "port": 8220}
    check = Check(name="port_listening", status=CheckStatus.FAIL, facts=facts)
    recorded = log.detect().add(fact.CheckRecorded, check=check)
    text = describe(recorded.event).text
    assert text == "port_listening: fail (hidden=no, pids=4 2, port=8220)"


def test_trouble_is_told_with_its_arithmetic():
    log = Log()
    issue = log.detect().diagnose().withhold("backoff").escalate("budget_spent")
    log.wait(minutes=20)
    issue.fail("not_cured")
    lines = told(log)
    assert lines[-3].endswith("heal withheld: backoff (pause=2); again in 2s")
    assert lines[-2].endswith("escalated: budget_spent")
    assert lines[-1] == "   +20 min  failed       not cured: not_cured, after 9s"


def test_facts_about_the_component_can_stand_in_between():
    log, story = Log(), Timeline()
    log.adopt()
    assert story.tell(log.facts[-1].event).offset_ms is None
    log.detect()
    story.tell(log.facts[-1].event)
    log.health(Health.HEALTHY, Health.UNHEALTHY)
    entry = story.tell(log.facts[-1].event)
    assert (entry.offset_ms, entry.state) == (1.0, "component")


@given(facts=logs())
@settings(max_examples=30, deadline=None)
def test_every_entry_is_one_line_and_json(facts):
    for entry in timeline(recorded.event for recorded in facts):
        assert "\n" not in str(entry)
        assert orjson.loads(orjson.dumps(entry.view()))["type"] == entry.topic


def test_a_program_gets_the_facts_and_not_the_envelope():
    log = Log()
    heal(log)
    view = timeline(recorded.event for recorded in log.facts)[2].view()
    assert view["type"] == "issue.check_recorded.v1"
    assert set(view["facts"]) == {"check"}
    assert view["facts"]["check"]["status"] == CheckStatus.FAIL


def test_outcomes_have_their_level():
    log = Log()
    issue = heal(log)
    assert describe(log.facts[-1].event).level is Level.GOOD
    failed = issue.add(fact.IssueFailed, reason="not_cured", resolved_in=1.0)
    assert describe(failed.event).level is Level.BAD
