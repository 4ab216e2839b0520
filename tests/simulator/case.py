"""A case: components, and what goes wrong with them when. Data: it can be kept and shrunk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, Final

import orjson

__all__ = [
    "DAY", "KINDS", "PROFILES", "TRIGGERS", "Case", "Fault", "Incident", "Pace", "generate",
    "generate_long",
]  # fmt: skip

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR

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
    # Of what takes its time
    "slow_launch": 0,  # starts hang: for less than the healer waits for them, or for more
    "slow_probe": 0,  # answers come late, or too late
    # Of long times
    "suspend": 0,  # the machine stands still: with its clocks, or all but the wall's
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


_CLUSTERS: Final = (300.0, 1500.0, 3300.0, 5100.0)
"""Seconds from which on faults meet."""

_SET_IN_A_WINDOW: Final = 0.1
"""How many cases have a clock that is set while a window is open."""


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
class Pace:
    """How long a case lasts, how closely its machine is watched, and how soon people and the healer
    try again. Seconds. The defaults are two hours in which faults meet all the time.

    `liveness` is how long after the last fault everything has to be well again, `quiet` how long
    after that nothing may be written. A case of months is `long`: it is held to both whenever its
    faults leave the time for it, others at their end.
    """

    lasting: float = 2 * HOUR
    interval: float = 30.0
    fast_interval: float = 2.0
    failure_threshold: int = 2
    max_backoff: float = 60.0
    reset_after: float = 300.0
    rearm_after: float = 120.0
    escalate_after: float = 120.0
    approval_expires: float = 90.0
    liveness: float = 1800.0
    quiet: float = 900.0
    long: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Hours, or months, of a small machine. The same case is the same history, to the byte."""

    seed: int
    components: tuple[str, ...]
    faults: tuple[Fault, ...]
    pidfd_inodes: bool = True
    max_concurrent: int = 2
    incident: Incident | None = None
    pace: Pace = Pace()

    def without(self, index: int, count: int = 1) -> Case:
        """The case without `count` of its faults."""
        return replace(self, faults=(*self.faults[:index], *self.faults[index + count :]))

    def until(self, seconds: float) -> Case:
        """The case as it is until then."""
        return replace(
            self,
            faults=tuple(each for each in self.faults if each.at < seconds),
            pace=replace(self.pace, lasting=min(seconds, self.pace.lasting)),
        )

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
            pace = Pace(**fields.pop("pace", {}))
            case = Case(components=components, faults=faults, incident=told, pace=pace, **fields)
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
    dice = Random(f"windows of {seed}")
    if dice.random() < _SET_IN_A_WINDOW:
        faults += _set_in_a_window(dice, len(components))
    dice = Random(f"slow ones of {seed}")
    for _ in range(dice.choice((0, 1, 1, 2))):
        faults += _slow(dice, len(components), dice.choice(_CLUSTERS) + dice.expovariate(1 / 90))
    return Case(
        seed=seed,
        components=components,
        faults=tuple(sorted(faults, key=lambda each: each.at)),
        pidfd_inodes=random.random() < 0.85,
        max_concurrent=random.choice((1, 2, 4)),
    )


def _set_in_a_window(random: Random, components: int) -> list[Fault]:
    """A window, and a clock that is set while it is open."""
    at = random.choice(_CLUSTERS) + random.expovariate(1 / 90)
    window = Fault(
        at=round(at, 3),
        kind="maintenance",
        component=random.randrange(components),
        lasts=round(random.choice((120.0, 600.0)) * random.uniform(0.5, 1.5), 3),
    )
    at += window.lasts * random.random()
    return [window, Fault(round(at, 3), "wall", value=round(random.uniform(-1, 1), 6))]


def _alert(random: Random, components: int) -> Fault:
    return Fault(
        at=round(random.choice(_CLUSTERS) + random.expovariate(1 / 90), 3),
        kind="alert",
        component=random.randrange(components),
        lasts=round(random.choice((1.0, 3.0, 20.0, 60.0)) * random.uniform(0.5, 1.5), 3),
        value=round(random.uniform(-1, 1), 6),
    )


def _slow(random: Random, components: int, at: float) -> list[Fault]:
    """What takes its time; a healer may end while it waits for a start."""
    launch = random.random() < 0.7
    slow = Fault(
        at=round(at, 3),
        kind="slow_launch" if launch else "slow_probe",
        component=random.randrange(components),
        lasts=round(random.choice((1.0, 10.0, 60.0, 150.0, 400.0)) * random.uniform(0.5, 1.5), 3),
        value=round(random.uniform(-1, 1), 6),
        # It hangs from its next start on, whatever that is for.
        trigger="start" if launch and random.random() < 0.3 else None,
    )
    if not launch or random.random() < 0.6:
        return [slow]
    end = random.choice(("kill", "restart"))
    after = round(random.choice((0.2, 3.0, 20.0)) * random.uniform(0.5, 1.5), 3)
    return [slow, Fault(round(at + slow.lasts * random.random(), 3), end, lasts=after)]


def _fault(random: Random, components: int) -> Fault:
    trigger = random.choice(TRIGGERS) if random.random() < 0.4 else None
    if trigger is not None:
        kind = random.choice(_ON_TRIGGER)
    else:
        [kind] = random.choices(list(KINDS), weights=list(KINDS.values()))
    # Faults come in clusters: those that meet are the ones that hurt.
    at = random.choice(_CLUSTERS) + random.expovariate(1 / 90)
    return Fault(
        at=round(at, 3),
        kind=kind,
        component=random.randrange(components),
        lasts=round(random.choice((0.2, 3.0, 20.0, 120.0, 600.0)) * random.uniform(0.5, 1.5), 3),
        value=round(random.uniform(-1, 1), 6),
        trigger=trigger,
    )


# Months

_BETWEEN: Final = 3 * DAY
"""Mean seconds between two troubles of a machine of months."""

_BETWEEN_SLOW: Final = 10 * DAY

_LASTS: Final = {
    "maintenance": (15 * MINUTE, 2 * HOUR, 12 * HOUR, 2 * DAY),
    "pause": (10 * MINUTE, HOUR, 10 * HOUR),
    "mode": (HOUR, DAY, 5 * DAY),
    "alert": (1.0, 20.0, MINUTE),
    "store_down": (1.0, MINUTE, 30 * MINUTE),
    "host_down": (1.0, MINUTE, 10 * MINUTE),
    "suspend": (MINUTE, HOUR, 10 * HOUR),
    "kill": (1.0, 20.0, MINUTE),
    "restart": (1.0, 20.0, MINUTE),
}
_LASTS_USUALLY: Final = (3.0, 20.0, 2 * MINUTE, 10 * MINUTE, HOUR)

_LONG_KINDS: Final = KINDS | {"alert": 3, "suspend": 4, "restart": 4, "maintenance": 5}


def generate_long(seed: int) -> Case:
    """The case of months of that seed: a calm machine, with a trouble now and then."""
    random = Random(f"months of {seed}")
    components = tuple(random.choice(PROFILES) for _ in range(random.randint(2, 4)))
    lasting = random.randint(90, 365) * DAY
    interval = round(random.uniform(MINUTE, 5 * MINUTE), 1)
    rearm_after = random.choice((5 * MINUTE, 15 * MINUTE, HOUR))
    # The faults may spend a budget; whoever waits for another may then have to wait for both.
    liveness = HOUR + 3 * rearm_after + 20 * interval
    pace = Pace(
        lasting=lasting,
        interval=interval,
        fast_interval=random.choice((2.0, 5.0)),
        failure_threshold=random.choice((2, 3)),
        max_backoff=5 * MINUTE,
        reset_after=random.choice((10 * MINUTE, HOUR)),
        rearm_after=rearm_after,
        escalate_after=random.choice((5 * MINUTE, 30 * MINUTE)),
        approval_expires=random.choice((HOUR, DAY)),
        liveness=liveness,
        quiet=HOUR,
        long=True,
    )
    faults = _visits(random, components, 0.0)
    at = random.expovariate(1 / _BETWEEN)
    while at < lasting:
        together = random.randint(2, 6) if random.random() < 0.25 else 1
        faults += [_trouble(random, at, len(components), together) for _ in range(together)]
        # People come by after each trouble, sooner or later, and do what is left to them.
        faults += _visits(random, components, at + random.choice((10 * MINUTE, 2 * HOUR, 9 * HOUR)))
        at += random.expovariate(1 / _BETWEEN)
    # Dice of their own, as in `generate`.
    dice = Random(f"slow ones of the months of {seed}")
    at = dice.expovariate(1 / _BETWEEN_SLOW)
    while at < lasting:
        faults += _slow(dice, len(components), at)
        at += dice.expovariate(1 / _BETWEEN_SLOW)
    # New versions of the healer come out every few weeks.
    at = random.uniform(7 * DAY, 40 * DAY)
    while at < lasting:
        faults.append(Fault(round(at, 3), "restart", lasts=random.choice(_LASTS["restart"])))
        at += random.uniform(7 * DAY, 40 * DAY)
    return Case(
        seed=seed,
        components=components,
        faults=tuple(sorted(faults, key=lambda each: each.at)),
        pidfd_inodes=random.random() < 0.85,
        max_concurrent=random.choice((1, 2, 4)),
        pace=pace,
    ).until(lasting)


def _trouble(random: Random, at: float, components: int, together: int) -> Fault:
    """One of the faults that come `together` at about the second `at`."""
    trigger = random.choice(TRIGGERS) if together > 1 and random.random() < 0.3 else None
    kinds = dict.fromkeys(_ON_TRIGGER, 1) if trigger else _LONG_KINDS
    [kind] = random.choices(list(kinds), weights=list(kinds.values()))
    lasts = random.choice(_LASTS.get(kind, _LASTS_USUALLY)) * random.uniform(0.5, 1.5)
    # Clocks are set by hours, and now and then by weeks.
    by = random.choice((1.0, 12.0, 360.0)) if kind == "wall" else 1.0
    return Fault(
        at=round(at + (random.expovariate(1 / 90) if together > 1 else 0.0), 3),
        kind=kind,
        component=random.randrange(components),
        lasts=round(lasts, 3),
        value=round(by * random.uniform(-1, 1), 6),
        trigger=trigger,
    )


def _visits(random: Random, components: tuple[str, ...], at: float) -> list[Fault]:
    """Somebody approves what is suggested, and asks for what the healer may only look at."""
    at += random.uniform(MINUTE, 5 * MINUTE)
    observed = [index for index, profile in enumerate(components) if profile == "observe"]
    faults = [Fault(round(at, 3), "heal", component=index, value=-1.0) for index in observed]
    if "suggest" in components:
        faults.append(Fault(round(at, 3), "approve", lasts=100.0))
    return faults
