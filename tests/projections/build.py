"""Logs for tests: told by hand, or made up by chance, always of facts alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from healer.domain import events as fact
from healer.domain.health import Health
from healer.domain.playbook import (
    Check,
    CheckStatus,
    Evidence,
    Finding,
    Playbook,
    PlaybookOutcome,
    Settlement,
    Step,
    StepResult,
    Target,
)
from healer.domain.probe import ProbeResult, Reason
from healer.domain.process import OwnerProof, ProcessIdentity
from healer.domain.spec import Criticality, IssueType, Mode, Severity
from healer.errors import StoreError
from healer.ports import Recorded
from projections.fold import Fold
from projections.projection import Projection

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def process(pid: int, name: str = "chat_api") -> ProcessIdentity:
    return ProcessIdentity(boot_id="boot", pid=pid, start_ticks=pid * 10, name=name)


def probe(reason: Reason = Reason.OK) -> ProbeResult:
    return ProbeResult(kind="tcp", target="127.0.0.1:8220", reason=reason)


class Log:
    """A log that is written fact by fact. `now` moves by a millisecond with each."""

    def __init__(self) -> None:
        self.facts: list[Recorded] = []
        self.now = START
        self.actor = "watchdog"
        self._versions: dict[str, int] = {}
        self._issues = 0

    def wait(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def add(self, kind: type[fact.Event], stream: str, **fields: Any) -> Recorded:
        version = self._versions.get(stream, 0) + 1
        return self.add_raw(kind, stream, version, **fields)

    def add_raw(self, kind: type[fact.Event], stream: str, version: int, **fields: Any) -> Recorded:
        self._versions[stream] = version
        event = kind(
            originator_id=stream,
            originator_version=version,
            timestamp=self.now,
            actor=fields.pop("actor", self.actor),
            node="edge-1",
            correlation_id=stream,
            **fields,
        )
        recorded = Recorded(len(self.facts) + 1, event)  # type: ignore[arg-type]
        self.facts.append(recorded)
        self.now += timedelta(milliseconds=1)
        return recorded

    def detect(
        self,
        component: str = "chat_api",
        issue_type: IssueType = IssueType.PORT_NOT_LISTENING,
        **fields: Any,
    ) -> Told:
        self._issues += 1
        issue = Told(self, f"issue-{self._issues:04}")
        issue.add(
            fact.IssueDetected,
            component=component,
            issue_type=issue_type,
            **{
                "host": "127.0.0.1",
                "port": 8220,
                "severity": Severity.HIGH,
                "criticality": Criticality.MEDIUM,
                "epoch": 1,
                "evidence": Evidence(probe=probe(Reason.REFUSED)),
                "seen_after": 0.25,
                **fields,
            },
        )
        return issue

    def component(self, kind: type[fact.ComponentEvent], name: str, **fields: Any) -> Recorded:
        return self.add(kind, f"component:{name}", component=name, **fields)

    def register(self, name: str = "chat_api", port: int = 8220) -> None:
        self.component(
            fact.ComponentRegistered,
            name,
            host="127.0.0.1",
            port=port,
            criticality=Criticality.MEDIUM,
            mode=Mode.ACT,
            launcher="command",
        )

    def adopt(self, name: str = "chat_api", pid: int = 42, epoch: int = 1) -> None:
        self.component(
            fact.ProcessAdopted,
            name,
            process=process(pid, name),
            proof=OwnerProof.LAUNCHED,
            port=8220,
            epoch=epoch,
        )

    def health(
        self,
        before: Health,
        after: Health,
        name: str = "chat_api",
        epoch: int = 1,
        reason: Reason = Reason.OK,
    ) -> None:
        self.component(
            fact.HealthChanged, name, before=before, after=after, epoch=epoch, probe=probe(reason)
        )


class Told:
    """One issue of a log."""

    def __init__(self, log: Log, issue_id: str) -> None:
        self.log = log
        self.id = issue_id
        self._step = 0
        self._playbook = ""

    def add(self, kind: type[fact.IssueEvent], **fields: Any) -> Recorded:
        return self.log.add(kind, self.id, **fields)

    def diagnose(
        self,
        issue_type: IssueType = IssueType.PORT_NOT_LISTENING,
        *,
        complete: bool = True,
        recommendations: tuple[str, ...] = ("component crashed",),
    ) -> Told:
        self.add(fact.DiagnosisStarted, playbook="diagnose_network", checks=("port_listening",))
        check = Check(
            name="port_listening",
            status=CheckStatus.FAIL,
            facts={"listeners": 0, "port": 8220},
            elapsed=0.003,
        )
        self.add(fact.CheckRecorded, check=check)
        if complete:
            self.add(
                fact.DiagnosisCompleted,
                issue_type=issue_type,
                findings=(Finding(code="nothing_listens", checks=("port_listening",)),),
                recommendations=recommendations,
            )
        return self

    def route(self, *playbooks: str, chances: Mapping[str, float] | None = None) -> Told:
        """`chances`: of each candidate to be chosen first; by default as a fixed table chooses."""
        if chances is None:
            chances = {name: float(name == playbooks[0]) for name in playbooks}
        self.add(
            fact.RouteChosen,
            issue_type=IssueType.PORT_NOT_LISTENING,
            candidates=tuple(chances),
            probabilities=tuple(chances.values()),
            playbooks=tuple(
                Playbook(name=name, steps=(Step(action="terminate"), Step(action="start")))
                for name in playbooks
            ),
            chosen_by="table",
        )
        return self

    def remediate(self, attempt: int = 1) -> Told:
        self.add(fact.RemediationStarted, attempt=attempt)
        return self

    def playbook(self, name: str) -> Told:
        self._playbook, self._step = name, 0
        self.add(fact.PlaybookStarted, playbook=name)
        return self

    def intend(self, action: str = "terminate", pid: int = 42) -> Told:
        target = Target(process=process(pid), proof=OwnerProof.LAUNCHED, listening=True)
        self.add(
            fact.StepStarted,
            playbook=self._playbook,
            step=self._step,
            action=action,
            targets=(target,),
        )
        return self

    def step(
        self, action: str = "terminate", *, elapsed: float = 0.01, result: StepResult | None = None
    ) -> Told:
        self.intend(action)
        done = StepResult(stopped=(process(42),)) if result is None else result
        self._end(fact.StepSucceeded, action, elapsed=elapsed, result=done)
        return self

    def fail_step(self, action: str = "start", error: str = "exited") -> Told:
        self.intend(action)
        result = StepResult(error=error, exit_code=3)
        self._end(fact.StepFailed, action, elapsed=0.02, result=result)
        return self

    def settle(self, action: str, settlement: Settlement) -> Told:
        self._end(fact.StepSettled, action, settlement=settlement, result=StepResult())
        return self

    def skip(self, action: str = "terminate") -> Told:
        self._end(fact.StepSkipped, action, reason="no process of the component is alive")
        return self

    def _end(self, kind: type[fact.IssueEvent], action: str, **fields: Any) -> None:
        self.add(kind, playbook=self._playbook, step=self._step, action=action, **fields)
        self._step += 1

    def finish(self, outcome: PlaybookOutcome = PlaybookOutcome.COMPLETED) -> Told:
        self.add(fact.PlaybookFinished, playbook=self._playbook, outcome=outcome)
        return self

    def look(self, *, healthy: bool, after: str | None = None) -> Told:
        reason = Reason.OK if healthy else Reason.REFUSED
        self.add(
            fact.VerificationRecorded,
            healthy=healthy,
            probes=(probe(reason),),
            epoch=2,
            after=after,
        )
        return self

    def run(self, name: str, *, cured: bool) -> Told:
        """A whole playbook, completed, and the verification right after it."""
        self.playbook(name).step("terminate").step(
            "start", result=StepResult(started=process(43), port=8220)
        )
        return self.finish().look(healthy=cured, after=name)

    def withhold(self, reason: str = "backoff") -> Told:
        self.add(fact.HealWithheld, reason=reason, arithmetic={"pause": 2.0}, retry_in=2.0)
        return self

    def escalate(self, reason: str = "not_cured") -> Told:
        self.add(fact.IssueEscalated, reason=reason)
        return self

    def verify(self, healed_by: str | None, resolved_in: float = 1.5) -> Told:
        self.add(fact.IssueVerified, healed_by=healed_by, resolved_in=resolved_in)
        return self

    def fail(self, reason: str = "not_cured", resolved_in: float = 9.0) -> Told:
        self.add(fact.IssueFailed, reason=reason, resolved_in=resolved_in)
        return self


def heal(log: Log, component: str = "chat_api", **fields: Any) -> Told:
    """An issue that restart_component cured."""
    issue = log.detect(component, **fields).diagnose().route("restart_component").remediate()
    return issue.run("restart_component", cured=True).verify("restart_component")


def _issue(
    log: Log, random: Random, name: str, previous: str | None, count: int, *, last: bool
) -> str:
    """One issue of any course that the lifecycle allows; only the last one may stay open."""
    log.actor = random.choice(["watchdog", "watchdog", "api:ops", "cli"])
    issue = log.detect(
        name,
        random.choice(list(IssueType)),
        seen_after=random.random() * 3,
        previous=previous,
        recurrence=count,
        epoch=count + 1,
    )
    log.actor = "policy"
    log.wait(seconds=random.random() * 30)
    resolved_in = random.random() * 10
    if random.random() < 0.1:
        issue.fail("superseded", resolved_in)
        return issue.id
    issue.diagnose(random.choice(list(IssueType)), complete=random.random() < 0.95)
    for _ in range(random.randrange(3)):
        issue.withhold(random.choice(["backoff", "quorum", "maintenance"]))
    course = random.random()
    if course < 0.2:
        issue.look(healthy=True).verify(None, resolved_in)
        return issue.id
    if course < 0.3:
        issue.escalate("observe").fail("withheld", resolved_in)
        return issue.id
    if last and course < 0.4:
        return issue.id
    route = random.sample(["restart_component", "clear_port", "rebind_port"], random.randint(1, 3))
    issue.route(*route).remediate(random.randint(1, 4))
    for playbook in route:
        fate = random.random()
        if fate < 0.5:
            issue.run(playbook, cured=True).verify(playbook, resolved_in)
            return issue.id
        if fate < 0.8:
            issue.run(playbook, cured=False)
        elif fate < 0.9:
            issue.playbook(playbook).skip().fail_step().finish(PlaybookOutcome.FAILED)
            issue.look(healthy=False, after=playbook)
        else:
            issue.playbook(playbook).intend("start").settle(
                "start", random.choice(list(Settlement))
            )
            if last and random.random() < 0.5:
                return issue.id
            issue.finish().look(healthy=False, after=playbook)
    if random.random() < 0.2:
        issue.look(healthy=True, after=route[-1]).verify(None, resolved_in)
    else:
        issue.escalate().fail("not_cured", resolved_in)
    return issue.id


def random_log(random: Random, *, issues: int, components: int = 4) -> list[Recorded]:
    """A log of that many issues; the streams of different components are shuffled into each other,
    each stream keeps its order."""
    lives: list[list[fact.Fact]] = []
    for index in range(components):
        log, name = Log(), f"component-{index}"
        log._issues = index * issues  # names that no other component's issues bear
        log.register(name, 8000 + index)
        previous: str | None = None
        total = issues // components + (index < issues % components)
        for count in range(total):
            log.adopt(name, pid=100 + count, epoch=count + 1)
            log.wait(seconds=random.random() * 5)
            if random.random() < 0.7:
                log.health(Health.STARTING, Health.HEALTHY, name, epoch=count + 1)
            if random.random() < 0.3:
                log.health(Health.HEALTHY, Health.SUSPECT, name, count + 1, Reason.TIMEOUT)
                log.health(Health.SUSPECT, Health.HEALTHY, name, count + 1)
            reason = random.choice([Reason.EXITED, Reason.REFUSED])
            log.health(Health.HEALTHY, Health.UNHEALTHY, name, count + 1, reason)
            if random.random() < 0.1:
                log.component(fact.MaintenanceStarted, name, duration=60.0, reason="deploy")
                if random.random() < 0.5:
                    log.component(fact.MaintenanceEnded, name, reason="done")
            if random.random() < 0.1:
                log.component(fact.PortRebound, name, old_port=8220, new_port=8221)
            previous = _issue(log, random, name, previous, count, last=count == total - 1)
            log.wait(hours=random.random() * 12)
        lives.append([recorded.event for recorded in log.facts])
    mixed: list[Recorded] = []
    while lives := [life for life in lives if life]:
        life = random.choice(lives)
        take = random.randint(1, len(life))
        mixed += [Recorded(len(mixed) + 1 + at, event) for at, event in enumerate(life[:take])]
        del life[:take]
    return mixed


def logs(max_issues: int = 12) -> st.SearchStrategy[list[Recorded]]:
    """Logs of up to `max_issues` issues, by chance."""
    return st.builds(
        lambda random, issues: random_log(random, issues=issues),
        st.randoms(use_true_random=False),
        st.integers(0, max_issues),
    )


def view_of(projection: Projection[Any], facts: Sequence[Recorded]) -> Any:
    """What the projection shows after `facts`, from nothing."""
    fold = Fold([projection])
    fold.apply(facts)
    return fold.view(projection.name)


class MemoryLog:
    """A log in memory, that can be out of order for a while."""

    def __init__(self, facts: Sequence[Recorded] = ()) -> None:
        self.facts = list(facts)
        self.reads = 0
        self.broken = False
        self.quiet = False
        self._listeners: list[Callable[[Sequence[Recorded]], None]] = []

    async def append(self, events: Sequence[fact.Event]) -> int:
        facts = [
            Recorded(len(self.facts) + 1 + index, event)  # type: ignore[arg-type]
            for index, event in enumerate(events)
        ]
        self.facts += facts
        if not self.quiet:
            for listener in tuple(self._listeners):
                listener(facts)
        return len(self.facts)

    async def read(self, *, after: int = 0, limit: int = 500) -> list[Recorded]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.broken:
            raise StoreError("cannot read the log: the database is away")
        return [each for each in self.facts if each.position > after][:limit]

    async def stream(self, stream_id: str) -> list[fact.Fact]:
        return [each.event for each in self.facts if each.event.originator_id == stream_id]

    async def open_issues(self) -> dict[str, str]:
        return {}

    async def head(self) -> int:
        return self.facts[-1].position if self.facts else 0

    async def follow(self, *, after: int) -> AsyncIterator[Recorded]:
        for recorded in await self.read(after=after):
            yield recorded

    def listen(self, callback: Callable[[Sequence[Recorded]], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)
