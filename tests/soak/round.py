"""One round: break components, kill the healer (again and again), let the last one bring rest."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import orjson

from tests.soak.driver import MOMENTS, SYNCS, sync_shim
from tests.soak.healer import Healer
from tests.soak.outcome import Outcome
from tests.soak.stack import Stack
from tests.soak.world import PATIENCE, is_alive, request, wait

__all__ = ["FAULTS", "REMEDIES", "Death", "finish", "play", "random_deaths"]

Fault = Callable[[Stack, str], None]


def _kill(stack: Stack, name: str) -> None:
    for found in stack.alive(name):
        os.kill(found.pid, signal.SIGKILL)


def _stop(stack: Stack, name: str) -> None:
    for found in stack.alive(name):
        os.kill(found.pid, signal.SIGSTOP)


def _make(port: int, kind: str) -> None:
    answer = request(port, "POST /fault", orjson.dumps({"kind": kind}))
    if b" 202 " not in answer:
        raise TimeoutError(f"port {port} did not take the fault {kind}: {answer!r}")


def _tell(kind: str) -> Fault:
    return lambda stack, name: _make(stack.port(name), kind)


def _rob(stack: Stack, name: str, *, sick: bool = False) -> None:
    """A stranger has the port before the healer can look: it is held still meanwhile. One that is
    sick answers as a component would that has to be restarted."""
    healer = stack.healer
    assert healer is not None
    healer.signal(signal.SIGSTOP)
    try:
        port = stack.port(name)
        victims = [found.pid for found in stack.alive(name)]
        _kill(stack, name)
        wait(lambda: not any(is_alive(pid) for pid in victims), PATIENCE, f"the end of {name}")
        stack.thieves.append(stack.bring_stranger(port))
        if sick:
            _make(port, "500")
    finally:
        healer.signal(signal.SIGCONT)


def _flop(stack: Stack, name: str, *, says: str) -> None:
    """As a thief does it; and until the last healer is there, whatever is started does not work:
    heals fail, moves to another port are undone, again and again."""
    stack.flop(name).write_text(says)
    _rob(stack, name)


REMEDIES: Final[dict[str, Fault]] = {
    "kill": _kill,
    "stop": _stop,
    "close_listener": _tell("close_listener"),
    "orphan": _tell("orphan"),
    "500": _tell("500"),
    "thief": _rob,
    "sick_thief": partial(_rob, sick=True),
}
"""How a component is broken that the first heal cures; each leads to another remediation."""

FAULTS: Final[dict[str, Fault]] = {
    **REMEDIES,
    "exit": partial(_flop, says="exit"),
    "mute": partial(_flop, says="mute"),
}
"""All of them."""


@dataclass(frozen=True, slots=True)
class Death:
    """When a healer dies: at a moment, or `after` seconds (counted from the break or its start)."""

    kind: str = "time"
    number: int = 0
    after: float = 0.0

    def __str__(self) -> str:
        return f"{self.after:.3f} s" if self.kind == "time" else f"{self.kind} {self.number}"


def random_deaths(rng: Random, faults: dict[str, str]) -> list[Death]:
    """How the healers of one round die, in order."""
    kinds = [kind for kind in MOMENTS if kind not in SYNCS or sync_shim() is not None]
    if "exit" in faults.values():
        kinds.remove("signalled")  # what ends by itself is signalled by nobody
    deaths = []
    for _ in range(1 + min(int(rng.expovariate(0.5)), 5)):
        if rng.random() < 0.5:
            longest = 2.0 if "mute" in faults.values() else 0.2 if deaths else 0.4
            deaths.append(Death(after=rng.uniform(0.0, longest)))
        else:
            deaths.append(Death(kind=rng.choice(kinds), number=rng.randint(1, 6)))
    return deaths


def play(stack: Stack, faults: dict[str, str], deaths: list[Death], outcome: Outcome) -> int:
    """Break components (name → fault), and let healers die as told; how many did in mid-heal.

    The last healer lives on. TimeoutError: something did not come to rest.
    """
    healer = stack.healer
    if healer is None or not _is_calm(healer):
        # An order that was not reached in the last round was reached after it.
        if healer is not None:
            healer.kill()
            outcome.kills["at rest"] += 1
        healer = stack.start_healer()
    if not healer.await_rest():
        raise TimeoutError(f"the healer ended by itself with status {healer.status}")
    killed = 0
    restless = stack.heard.restless
    for place, death in enumerate(deaths):
        first = place == 0
        if death.kind != "time":
            healer.order(death.kind, death.number, "issue" if first else "now")
        if first:
            for name, fault in faults.items():
                FAULTS[fault](stack, name)
        if not _dies(healer, death, restless if first else None):
            break  # all was healed before; this healer lives on
        if healer.dead and healer.status != -signal.SIGKILL:
            raise TimeoutError(f"the healer ended by itself with status {healer.status}")
        healer.kill()
        killed += 1
        outcome.kills[death.kind] += 1
        healer = stack.start_healer()
    for name in faults:
        stack.flop(name).unlink(missing_ok=True)
    if not killed:
        return 0
    if not healer.await_rest():
        raise TimeoutError(f"the last healer ended by itself with status {healer.status}")
    outcome.recoveries.append(time.monotonic() - healer.begun)
    return killed


def _is_calm(healer: Healer) -> bool:
    """Take a former order back; False when the healer has died of it."""
    try:
        return not healer.dead and healer.order("-", 0, "issue")
    except BrokenPipeError:
        return False


def _dies(healer: Healer, death: Death, restless: int | None) -> bool:
    """Wait for a healer's death; False when all was at rest before."""
    if death.kind != "time":
        return not healer.await_rest(after=restless)
    deadline = time.monotonic() + death.after
    while time.monotonic() < deadline and not healer.dead:
        healer.listen(min(0.005, max(0.0, deadline - time.monotonic())))
    return healer.dead or not healer.at_rest(restless)


def finish(stack: Stack) -> None:
    """Send the thieves of a round away, once it has been judged."""
    for thief in stack.thieves:
        stack.send_away(thief)
    stack.thieves.clear()
