"""Playbooks as data: ordered steps, stored in the issue when it is routed.

A changed playbook therefore never re-interprets an open issue. What an action *does* is registered
in `healer.playbooks`; here is only what it is called and with what it is asked.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from healer.domain.probe import ProbeResult
from healer.domain.process import ExitStatus, Listener, OwnerProof, ProcessIdentity
from healer.domain.value import Value

__all__ = [
    "Check",
    "CheckStatus",
    "Evidence",
    "Finding",
    "Playbook",
    "PlaybookOutcome",
    "Settlement",
    "Skipped",
    "Step",
    "StepResult",
    "Target",
]


class Step(Value):
    """One action of a playbook. `undo` steps run only when an earlier step of the playbook failed;
    the others only while none has."""

    action: str
    undo: bool = False


class Playbook(Value):
    """A named list of steps."""

    name: str
    steps: tuple[Step, ...]


class PlaybookOutcome(StrEnum):
    """How a playbook ended. Completed is not cured: only a verification says that."""

    COMPLETED = "completed"
    FAILED = "failed"
    UNDONE = "undone"


class Settlement(StrEnum):
    """What a look at the world says of a step whose healer died in the middle of it."""

    OBSERVED = "observed"
    ABSENT = "absent"
    UNKNOWABLE = "unknowable"


class Skipped(Value):
    """A playbook that was a candidate and was not chosen, and why."""

    playbook: str
    why: str


class Target(Value):
    """A process that a step would act on, and the proof that it may."""

    process: ProcessIdentity
    proof: OwnerProof | None
    listening: bool = False


class StepResult(Value):
    """The facts of a step: each action fills what it has.

    `stopped` are the processes that a pidfd said are gone, `unkillable` those that SIGKILL did not
    end. `started` is the process that was started, `manager` the launcher that was asked.
    `bind` is the result of a real bind (free, in_use, denied, not_local). `exit_code` and `errno`
    are a failed call's own. `error` is a stable word, `detail` one line for a person.
    """

    stopped: tuple[ProcessIdentity, ...] = ()
    killed: tuple[ProcessIdentity, ...] = ()
    unkillable: tuple[ProcessIdentity, ...] = ()
    foreign: tuple[ProcessIdentity, ...] = ()
    started: ProcessIdentity | None = None
    launch_id: str | None = None
    manager: str | None = None
    port: int | None = None
    bind: str | None = None
    probe: ProbeResult | None = None
    exit: ExitStatus | None = None
    exit_code: int | None = None
    errno: int | None = None
    error: str | None = None
    detail: str | None = None


class CheckStatus(StrEnum):
    """The verdict of one diagnostic check. UNKNOWN: it could not be made (no right, no tool)."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Check(Value):
    """One diagnostic reading. `facts` holds figures and words, never prose; `elapsed` seconds."""

    name: str
    status: CheckStatus
    facts: dict[str, str | int | float | bool | list[str] | list[int] | None] = Field(
        default_factory=dict
    )
    elapsed: float = 0.0


class Finding(Value):
    """What the checks together say: a stable word, and the checks that say it."""

    code: str
    checks: tuple[str, ...] = ()


class Evidence(Value):
    """All that was known when an issue was classified.

    `exit` is how the component's process ended, `process` which one it was (alive or not), `alive`
    None where no process of the component is known. `listeners` are the sockets that listened on
    its port, `owned` whether any holder of them is provably the component's; None: nobody looked.
    """

    probe: ProbeResult | None = None
    exit: ExitStatus | None = None
    process: ProcessIdentity | None = None
    alive: bool | None = None
    listeners: tuple[Listener, ...] = ()
    owned: bool | None = None
