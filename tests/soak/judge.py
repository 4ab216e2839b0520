"""What must be true once a healer that was killed has been started again and is at rest."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from healer.domain.events import (
    Fact,
    IssueDetected,
    IssueFailed,
    IssueVerified,
    ProcessAdopted,
    StepFailed,
    StepSettled,
    StepSucceeded,
)
from healer.ports import Recorded
from healer.store.chain import Link, first_break, genesis
from healer.store.codec import Codec
from replay.audit import problems
from tests.soak.healer import BOUND, Acknowledged
from tests.soak.stack import Stack
from tests.soak.world import is_alive, start_ticks

__all__ = ["Verdict", "judge", "judge_at_rest"]

_PASSING: Final = frozenset({"component left down", "issue left open", "log and world"})
"""What is also so while a healer is at work: on a loaded machine an answer comes too late, and what
was at rest is healed once more."""

_PAUSE: Final = 0.1


class Verdict:
    """What was found wrong (`faults`: the promise broken, and how), and what was counted."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()

    def blame(self, promise: str, why: str) -> None:
        self.faults.append((promise, why))


def judge_at_rest(stack: Stack) -> Verdict:
    """Judge when all is at rest; what is wrong then is looked at until it has had time to pass."""
    deadline = time.monotonic() + BOUND
    while True:
        verdict = judge(stack)
        lasting = any(promise not in _PASSING for promise, _ in verdict.faults)
        if not verdict.faults or lasting or time.monotonic() > deadline:
            return verdict
        time.sleep(_PAUSE)


def judge(stack: Stack, *, at_rest: bool = True) -> Verdict:
    """Look at the log, at what the healers said, and at the world."""
    verdict = Verdict()
    with stack.rows() as connection:
        connection.execute("BEGIN")
        (log_id,) = connection.execute("SELECT log_id FROM meta").fetchone()
        links = [
            Link(*row)
            for row in connection.execute(
                "SELECT position, stream, version, topic, body, hash FROM event ORDER BY position"
            )
        ]
        opened = connection.execute("SELECT component, issue FROM open_issue").fetchall()
    broken = first_break(links, after=0, previous=genesis(log_id))
    if broken is not None:
        verdict.blame("chain", broken)
    _acknowledged(stack.heard.acknowledged, links, verdict)
    codec = Codec()
    facts = [
        Recorded(
            row.position,
            codec.decode(row.stream, row.version, row.topic, row.body, place=str(row.position)),
        )
        for row in links
    ]
    for problem in problems(facts):
        verdict.blame("legal", f"at {problem.position} {problem.code}: {problem.message}")
    _strangers(stack, [recorded.event for recorded in facts], verdict)
    _spawns(stack, [recorded.event for recorded in facts], verdict)
    if at_rest:
        for component, issue in opened:
            verdict.blame("issue left open", f"{issue} of {component}")
        _components(stack, [recorded.event for recorded in facts], verdict)
    counted = Counter(type(recorded.event) for recorded in facts)
    verdict.counts["acknowledged events"] = len(stack.heard.acknowledged)
    verdict.counts["issues"] = counted[IssueDetected]
    verdict.counts["issues verified"] = counted[IssueVerified]
    verdict.counts["issues failed"] = counted[IssueFailed]
    verdict.counts["starts"] = len(stack.heard.spawns)
    verdict.counts["signals"] = len(stack.heard.signalled)
    for recorded in facts:
        if isinstance(recorded.event, StepSettled):
            verdict.counts[f"steps settled: {recorded.event.settlement}"] += 1
    return verdict


def _acknowledged(said: list[Acknowledged], links: list[Link], verdict: Verdict) -> None:
    stored = {(link.stream, link.version): link for link in links}
    for event in said:
        link = stored.get((event.stream, event.version))
        if link is None:
            verdict.blame("acknowledged event lost", str(event))
        elif (link.position, sha256(link.body).hexdigest()) != (event.position, event.digest):
            verdict.blame("acknowledged event changed", str(event))


def _ended(facts: list[Fact]) -> Iterator[Any]:
    for fact in facts:
        if isinstance(fact, StepSucceeded | StepFailed | StepSettled):
            yield from itertools.chain(
                fact.result.stopped, fact.result.killed, fact.result.unkillable
            )


def _strangers(stack: Stack, facts: list[Fact], verdict: Verdict) -> None:
    mine = set(stack.strangers.items())
    for identity in _ended(facts):
        if (identity.pid, identity.start_ticks) in mine:
            verdict.blame("signal to another process", f"the log says that {identity} was ended")
    for pid, ticks in stack.strangers.items():
        gone = True
        if is_alive(pid):
            with contextlib.suppress(OSError):
                gone = start_ticks(pid) != ticks
        if gone and pid not in stack.sent_away:
            verdict.blame("signal to another process", f"the stranger {pid} is dead")
    for pid, ticks, number in stack.heard.signalled:
        if (pid, ticks) in mine:
            verdict.blame("signal to another process", f"signal {number} to the stranger {pid}")


def _spawns(stack: Stack, facts: list[Fact], verdict: Verdict) -> None:
    """Nothing is started while a process of the same component lives."""
    for launch_id, name, alive in stack.heard.spawns:
        if alive:
            verdict.blame("effect done twice", f"{launch_id} of {name} while {alive} lived")
    started = Counter(
        fact.result.launch_id
        for fact in facts
        if isinstance(fact, StepSucceeded | StepSettled) and fact.result.started is not None
    )
    for launch_id, times in started.items():
        if times > 1:
            verdict.blame("effect done twice", f"{times} outcomes started launch {launch_id}")


def _components(stack: Stack, facts: list[Fact], verdict: Verdict) -> None:
    adopted = {fact.component: fact.process for fact in facts if isinstance(fact, ProcessAdopted)}
    for name in stack.names:
        alive = stack.alive(name)
        if len(alive) != 1:
            verdict.blame(
                "component left down" if not alive else "effect done twice",
                f"{len(alive)} processes of {name} are alive: {alive}",
            )
            continue
        if adopted[name].pid != alive[0].pid:
            verdict.blame("log and world", f"{name} is {alive[0].pid}, not {adopted[name]}")
        if not stack.serves(name):
            verdict.blame("component left down", f"{name} does not answer on {stack.port(name)}")
