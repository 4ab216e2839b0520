"""A case: components, and what goes wrong with them when. Data: it can be kept and shrunk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, Final

import orjson

__all__ = ["KINDS", "PROFILES", "TRIGGERS", "Case", "Fault", "Incident", "generate"]

HOUR: Final = 3600.0
LASTING: Final = 2 * HOUR
"""Virtual seconds in which faults happen."""

PROFILES: Final = (
    "plain",
    "plain",
    "movable",  # has a rebind range and announces its port
    "leaning",  # depends on the component before it
    "slow",  # takes long to start
    "stubborn",  # ignores SIGTERM and forks
    "managed",  # a manager starts and stops it
    "suggest",  # a person approves
    "observe",  # nobody acts
)
"""What a component is like; drawn for each case."""

KINDS: Final = {
    # Of one component
    "crash": 6,
    "hang": 4,
    "sicken": 4,
    "deafen": 3,  # alive, but not listening
    "orphan": 3,  # a child keeps the socket when the parent dies
    "rob": 4,  # a stranger takes the port when it dies
    "impersonate": 2,  # ... and answers like the component
    "reuse": 4,  # it dies, and an innocent is given its pid
    "unkillable": 1,
    "crash_loop": 2,
    "bad_launch": 2,  # its starts are refused for a while
    "mute_launch": 1,  # it is started and never listens
    "unreachable": 2,
    "blind": 3,  # the prober itself fails
    # Of the healer and its machine
    "kill": 6,  # kill -9, another healer comes after a while
    "restart": 2,
    "store_down": 3,
    "lost_answer": 3,  # written, and said not to be
    "host_down": 2,  # looks at the machine fail
    "wall": 3,  # the wall clock jumps
    # Of people
    "heal": 3,
    "approve": 4,
    "deny": 1,
    "pause": 2,
    "maintenance": 2,
    "rearm": 1,
    "mode": 2,
    # Of other systems
    "alert": 0,  # one that fires and is resolved, again and again
}
"""What can go wrong, or be asked for, and how often it is drawn (0: by other dice)."""

TRIGGERS: Final = (
    "append:StepStarted",
    "append:StepSucceeded",
    "append:IssueDetected",
    "append:VerificationRecorded",
    "append:IssueVerified",
    "call:stop",
    "call:listeners",
    "call:members",
    "call:reserve",
    "call:bind_test",
    "start",
)
"""States in which a fault may be made to happen: before an append, a look, a signal or a start."""

_ON_TRIGGER: Final = (
    *("kill", "kill", "kill"),
    *("reuse", "crash", "rob", "sicken", "hang"),
    *("store_down", "lost_answer", "approve", "maintenance"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong at second `at`; or, with `trigger`, the first time that state is met after
    it. `component` is an index; `lasts` is in seconds; `value` belongs to the kind."""

    at: float
    kind: str
    component: int = 0
    lasts: float = 0.0
    value: float = 0.0
    trigger: str | None = None

    def __str__(self) -> str:
        when = f"{self.at:8.1f} s" + (f", then at {self.trigger}" if self.trigger else "")
        return f"{when}: {self.kind} (component {self.component}) for {self.lasts:.1f} s"


@dataclass(frozen=True, slots=True)
class Incident:
    """An issue of a real log that a case was made of: what it was called there, and its course.

    In the case it is the first issue of `component` from second `begins` on.
    """

    issue: str
    component: str
    begins: float
    course: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Two hours of a small machine. The same case is the same history, to the byte."""

    seed: int
    components: tuple[str, ...]
    faults: tuple[Fault, ...]
    pidfd_inodes: bool = True
    max_concurrent: int = 2
    incident: Incident | None = None

    def without(self, index: int) -> Case:
        """The case without one of its faults."""
        return replace(self, faults=(*self.faults[:index], *self.faults[index + 1 :]))

    def dump(self) -> bytes:
        """As JSON; `load` reads it."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    @staticmethod
    def load(text: bytes) -> Case:
        """The case that `dump` wrote.

        Raises:
            ValueError: it is none.
        """
        fields: dict[str, Any] = orjson.loads(text)
        try:
            faults = tuple(Fault(**each) for each in fields.pop("faults"))
            components = tuple(fields.pop("components"))
            told = fields.pop("incident", None)
            if told is not None:
                told = Incident(**told | {"course": tuple(told["course"])})
            case = Case(components=components, faults=faults, incident=told, **fields)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"cannot read a case: {error}") from error
        unknown = {each.kind for each in case.faults} - KINDS.keys()
        unknown |= set(case.components) - set(PROFILES)
        unknown |= {each.trigger for each in case.faults if each.trigger} - set(TRIGGERS)
        if unknown:
            raise ValueError(f"cannot read a case: it names {sorted(unknown)}")
        return case


def generate(seed: int) -> Case:
    """The case of that seed."""
    random = Random(seed)
    components = tuple(random.choice(PROFILES) for _ in range(random.randint(1, 5)))
    faults = [_fault(random, len(components)) for _ in range(random.randint(2, 14))]
    # Dice of their own: without alerts a seed is the case that it was before there were any.
    dice = Random(f"alerts of {seed}")
    faults += [_alert(dice, len(components)) for _ in range(dice.choice((0, 0, 1, 3)))]
    return Case(
        seed=seed,
        components=components,
        faults=tuple(sorted(faults, key=lambda each: each.at)),
        pidfd_inodes=random.random() < 0.85,
        max_concurrent=random.choice((1, 2, 4)),
    )


def _alert(random: Random, components: int) -> Fault:
    return Fault(
        at=round(random.choice((300.0, 1500.0, 3300.0, 5100.0)) + random.expovariate(1 / 90), 3),
        kind="alert",
        component=random.randrange(components),
        lasts=round(random.choice((1.0, 3.0, 20.0, 60.0)) * random.uniform(0.5, 1.5), 3),
        value=round(random.uniform(-1, 1), 6),
    )


def _fault(random: Random, components: int) -> Fault:
    trigger = random.choice(TRIGGERS) if random.random() < 0.4 else None
    if trigger is not None:
        kind = random.choice(_ON_TRIGGER)
    else:
        [kind] = random.choices(list(KINDS), weights=list(KINDS.values()))
    # Faults come in clusters: those that meet are the ones that hurt.
    at = random.choice((300.0, 1500.0, 3300.0, 5100.0)) + random.expovariate(1 / 90)
    return Fault(
        at=round(at, 3),
        kind=kind,
        component=random.randrange(components),
        lasts=round(random.choice((0.2, 3.0, 20.0, 120.0, 600.0)) * random.uniform(0.5, 1.5), 3),
        value=round(random.uniform(-1, 1), 6),
        trigger=trigger,
    )
