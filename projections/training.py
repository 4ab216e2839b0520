"""The training set: one row per decision, and one per window of a component's health.

`docs/training-data-card.md` says what each column means. Features are taken down when the decision
is made, from what the log said by then, in log order; labels are added as they become known, and a
row is *final* when nothing that can be appended would change it. A final row goes to a sink and is
forgotten: what is kept are the rows that wait, a few for each component, and a digest.

So the view shows no rows but how many there are, of which outcome, and their digest: two folds that
show the same view made the same rows. Those who want the rows give a sink, and ask for those that
are not final at the end (`unfinished`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from healer.domain.events import (
    BudgetReset,
    CheckRecorded,
    ComponentEvent,
    ComponentRegistered,
    ComponentRemoved,
    DiagnosisCompleted,
    DiagnosisStarted,
    HealthChanged,
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueEvent,
    IssueFailed,
    IssueTakenOver,
    IssueVerified,
    MaintenanceEnded,
    MaintenanceStarted,
    ModeChanged,
    PlaybookFinished,
    PlaybookStarted,
    PortRebound,
    ProcessAdopted,
    RemediationStarted,
    RouteChosen,
    VerificationRecorded,
)
from healer.domain.health import Health
from healer.domain.probe import Reason
from projections.book import APPROVAL_EVENTS, FLEET_EVENTS, STEP_EVENTS, Evolved
from projections.decision_row import RESOURCE_CHECK, OpenIssue
from projections.digest import Digest
from projections.health_window import Window
from projections.past import Past
from projections.projection import Cases, Json, Projection, micros
from projections.training_state import (
    DECISIONS,
    RECURRENCE_WINDOW,
    WINDOWS,
    Life,
    Row,
    Sink,
    Training,
)

__all__ = [
    "DECISIONS",
    "RECURRENCE_WINDOW",
    "TRAINING",
    "WINDOWS",
    "Row",
    "Sink",
    "Training",
    "training",
    "unfinished",
]

_MICRO: Final = 1_000_000

_cases: Cases[Training] = Cases()


def _on_component(kind: type[ComponentEvent], case: Callable[..., None] | None) -> None:
    def settled(state: Training, position: int, event: ComponentEvent) -> None:
        now = micros(event.timestamp)
        life = state.life(event.component)  # type: ignore[attr-defined]
        state.settle(life, now, again=False)
        if case is not None:
            case(state, position, event, life, now)

    _cases.on(kind)(settled)


def _tick(state: Training, now: int) -> None:
    state.latest = max(state.latest, now)


def _on_issue(kind: type[IssueEvent], case: Callable[..., None]) -> None:
    def known(state: Training, position: int, event: IssueEvent) -> None:
        issue = state.open.get(event.originator_id)
        if issue is not None:
            case(state, position, event, issue)

    _cases.on(kind)(known)


@_cases.on(IssueDetected)
def _detected(state: Training, _position: int, event: IssueDetected) -> None:
    now = micros(event.timestamp)
    life = state.life(event.component)
    state.settle(life, now, again=True)
    if life.windows:
        for window in life.windows:
            if window.failed is None:
                window.failed = now
        state.leave(life)
    state.open[event.originator_id] = OpenIssue(event, life.past, now)
    life.past.fail(now)
    life.past.criticality = str(event.criticality)


def _routed(state: Training, position: int, event: RouteChosen, issue: OpenIssue) -> None:
    if issue.decision is not None:
        issue.decision.rerouted()
        state.decided(issue.decision, recurred=None, again=None)
    state.ask(issue.component, position)
    issue.decide(position, event, micros(event.timestamp))


def _verified(state: Training, _position: int, event: IssueVerified, issue: OpenIssue) -> None:
    past = _ended(state, event.originator_id, issue)
    past.healed_by = event.healed_by
    past.outcome = "recovered" if event.healed_by is None else "healed"
    if issue.decision is not None:
        issue.decision.verified(event, micros(event.timestamp))


def _failed(state: Training, _position: int, event: IssueFailed, issue: OpenIssue) -> None:
    past = _ended(state, event.originator_id, issue)
    past.healed_by = None
    past.outcome = "failed"
    if issue.decision is not None:
        issue.decision.failed(event, micros(event.timestamp))


def _ended(state: Training, issue_id: str, issue: OpenIssue) -> Past:
    del state.open[issue_id]
    life = state.life(issue.component)
    life.past.issue_type = issue.issue_type
    if issue.decision is not None:
        life.ended.append(issue.decision)
    return life.past


def _registered(
    state: Training, position: int, event: ComponentRegistered, life: Life, _now: int
) -> None:
    life.past.criticality = str(event.criticality)
    life.past.mode = str(event.mode)
    state.dependencies.register(event.component, position, event.depends_on)


def _health_changed(
    state: Training, position: int, event: HealthChanged, life: Life, now: int
) -> None:
    if life.current is not None:
        life.current.left = now
        state.leave(life)
    if event.probe is not None and event.probe.reason is Reason.EXITED:
        life.past.adopted = None
    life.current = None
    if event.after is not Health.UNHEALTHY:
        state.ask(event.component, position)
        life.current = Window(position, event, life.past)
        life.windows.append(life.current)
    state.dependencies.change(event.component, position, str(event.after))


def _mode_changed(
    _state: Training, _position: int, event: ModeChanged, life: Life, _now: int
) -> None:
    life.past.mode = str(event.after)


def _adopted(
    _state: Training, _position: int, _event: ProcessAdopted, life: Life, now: int
) -> None:
    life.past.adopted = now


_cases.on(CheckRecorded)(Evolved(OpenIssue.checked))
_cases.on(DiagnosisCompleted)(Evolved(OpenIssue.diagnosed))
_on_issue(RouteChosen, _routed)
_cases.on(RemediationStarted)(Evolved(OpenIssue.remediating))
_cases.on(PlaybookStarted)(Evolved(OpenIssue.playbook_started))
_cases.on(HealWithheld)(Evolved(OpenIssue.withheld))
_on_issue(IssueVerified, _verified)
_on_issue(IssueFailed, _failed)
_cases.marked(CheckRecorded, RESOURCE_CHECK.encode())
_cases.timed(_tick)
_cases.ignore(
    *APPROVAL_EVENTS,
    *STEP_EVENTS,
    DiagnosisStarted,
    PlaybookFinished,
    VerificationRecorded,
    IssueEscalated,
    IssueTakenOver,
)
_on_component(ComponentRegistered, _registered)
_on_component(HealthChanged, _health_changed)
_on_component(ModeChanged, _mode_changed)
_on_component(ProcessAdopted, _adopted)
for _other in (
    PortRebound,
    MaintenanceStarted,
    MaintenanceEnded,
    BudgetReset,
    ComponentRemoved,
):
    _on_component(_other, None)
_cases.ignore(*FLEET_EVENTS)


def unfinished(state: Training) -> Iterator[tuple[str, Row]]:
    """The rows that are not final, as they stand: table and row; labels that are not known yet are
    null. With a sink they have their dependency columns."""
    for table, row in state.waiting():
        yield table, row | state.asked.get(row["position"], {})


def _view(state: Training) -> Json:
    digests = {table: digest.copy() for table, digest in state.digests.items()}
    outcomes = state.outcomes.copy()
    censored = 0
    for table, row in state.waiting():
        digests[table].add([*row.values()])
        if table == DECISIONS:
            outcomes[row["outcome"] or "open"] += 1
        else:
            censored += row["censored"]
    answers = Digest()
    for answer in state.dependencies.answers():
        answers.add([*answer.values()])
    return {
        "recurrence_window": state.recurrence_window / _MICRO,
        "decisions": {**digests[DECISIONS].view(), "outcomes": dict(outcomes)},
        "windows": {**digests[WINDOWS].view(), "censored": censored},
        "dependencies": answers.view(),
    }


def _merge(left: Training, right: Training) -> Training:
    left.merge(right)
    return left


def training(
    sink: Sink | None = None, *, recurrence_window: float = RECURRENCE_WINDOW
) -> Projection[Training]:
    """The projection, with a sink for its final rows. `recurrence_window` in seconds.

    Raises:
        ValueError: the window is not a length of time.
    """
    if not 0 < recurrence_window < float("inf"):
        raise ValueError(
            f"cannot look for recurrences within {recurrence_window} s; allowed: more than 0"
        )
    width = round(recurrence_window * _MICRO)
    return Projection("training", 2, lambda: Training(sink, width), _cases, _view, _merge)


TRAINING = training()
