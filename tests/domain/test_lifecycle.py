"""The one table: every trigger in every state."""

from __future__ import annotations

import itertools

import pytest

from healer.domain.lifecycle import TERMINAL, State, Trigger, allowed, destination, mermaid
from healer.errors import IllegalTransitionError

# As the design's table has it, written down a second time on purpose.
TABLE = {
    (Trigger.DIAGNOSE, State.DETECTED): State.DIAGNOSING,
    (Trigger.REMEDIATE, State.DIAGNOSING): State.REMEDIATING,
    (Trigger.VERIFY, State.DIAGNOSING): State.VERIFIED,
    (Trigger.VERIFY, State.REMEDIATING): State.VERIFIED,
    (Trigger.FAIL, State.DETECTED): State.FAILED,
    (Trigger.FAIL, State.DIAGNOSING): State.FAILED,
    (Trigger.FAIL, State.REMEDIATING): State.FAILED,
}


@pytest.mark.parametrize(("trigger", "state"), [*itertools.product(Trigger, State)])
def test_every_trigger_leads_where_the_table_says_or_is_refused(
    trigger: Trigger, state: State
) -> None:
    expected = TABLE.get((trigger, state))
    if expected is not None:
        assert destination(trigger, state) is expected
        return
    with pytest.raises(IllegalTransitionError) as raised:
        destination(trigger, state)
    assert (raised.value.trigger, raised.value.state) == (trigger, state)
    assert raised.value.allowed == tuple(str(option) for option in allowed(state))
    assert str(raised.value).startswith(f"cannot {trigger} an issue that is {state}; allowed: ")


@pytest.mark.parametrize("state", State)
def test_what_is_allowed_is_what_leads_somewhere(state: State) -> None:
    assert set(allowed(state)) == {trigger for trigger, source in TABLE if source is state}
    assert (allowed(state) == ()) is (state in TERMINAL)


def test_the_drawing_holds_every_arrow_and_no_other() -> None:
    lines = [line.strip() for line in mermaid().splitlines()]
    arrows = {line for line in lines if ": " in line}
    assert arrows == {f"{source} --> {to}: {trigger}" for (trigger, source), to in TABLE.items()}
    assert "[*] --> detected" in lines
    assert {"verified --> [*]", "failed --> [*]"} <= set(lines)
