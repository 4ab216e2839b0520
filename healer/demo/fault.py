"""The demo's faults: how each is made on a real process, and how its healing has to end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from healer.bootstrap import Healer
from healer.demo.stack import Member
from healer.domain.process import ProcessIdentity
from healer.domain.spec import IssueType
from healer.errors import HostError
from healer.host.linux import LinuxHost

__all__ = ["CRASH_LOOP", "FAULTS", "Expected", "Fault", "Scene"]

_STRANGER: Final = "stranger"


@dataclass(slots=True)
class Scene:
    """What a fault is made with: the healer that watches, and the strangers that it brought."""

    healer: Healer
    host: LinuxHost
    directory: Path
    program: Path
    crash_loop: Path
    strangers: list[asyncio.subprocess.Process] = field(default_factory=list)

    def process(self, component: str) -> ProcessIdentity:
        """The process that is the component now.

        Raises:
            HostError: there is none.
        """
        process = self.healer.engine.status(component).process
        if process is None:
            raise HostError(f"cannot break {component}: no process of it is known")
        return process

    async def signal(self, component: str, number: signal.Signals) -> None:
        """Send a signal to the component's process, through a pidfd of ours.

        Raises:
            HostError: it is gone.
        """
        held = await self.host.reacquire(self.process(component))
        if held is None:
            raise HostError(f"cannot signal {component}: its process is gone")
        try:
            held.signal(number)
        finally:
            held.close()

    async def tell(self, component: str, kind: str) -> None:
        """Ask the component to make trouble in itself."""
        port = self.healer.engine.status(component).port
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/fault", json={"kind": kind})
        answer.raise_for_status()

    async def bring_stranger(self, port: int, give_up: Awaitable[None]) -> None:
        """Start a process that has nothing to do with any component, and that takes `port` in the
        moment in which `give_up` has its holder let go of it.

        Raises:
            HostError: it ended instead.
        """
        stranger = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-E", str(self.program), "--port", str(port),
            "--name", _STRANGER, "--lie-in-wait",
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )  # fmt: skip
        self.strangers.append(stranger)
        assert stranger.stderr is not None
        await stranger.stderr.readline()
        await give_up
        while not any(
            holder.pid == stranger.pid
            for listener in await self.host.listeners(port)
            for holder in listener.holders
        ):
            if stranger.returncode is not None:
                raise HostError(f"cannot bring a stranger: it ended with {stranger.returncode}")
            await asyncio.sleep(0.01)

    async def send_strangers_away(self) -> None:
        """End what `bring_stranger` started."""
        for stranger in self.strangers:
            if stranger.returncode is None:
                stranger.kill()
            await stranger.wait()


Injection = Callable[[Scene, str], Awaitable[None]]
Check = Callable[[Scene, str], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Expected:
    """How the healing has to end. `also` looks for more, and says what is wrong."""

    issue_type: IssueType
    playbooks: tuple[str, ...]
    verdict: str = "verified"
    also: Check | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the demo."""

    title: str
    member: Member
    inject: Injection
    expected: Expected


async def _kill(scene: Scene, component: str) -> None:
    await scene.signal(component, signal.SIGKILL)


async def _stop(scene: Scene, component: str) -> None:
    await scene.signal(component, signal.SIGSTOP)


async def _close_listener(scene: Scene, component: str) -> None:
    await scene.tell(component, "close_listener")


async def _orphan(scene: Scene, component: str) -> None:
    await scene.tell(component, "orphan")


async def _steal_port(scene: Scene, component: str) -> None:
    port = scene.healer.engine.status(component).port
    await scene.bring_stranger(port, scene.tell(component, "close_listener"))


async def _wrong_interface(scene: Scene, component: str) -> None:
    await scene.tell(component, "rebind_wrong")


async def _answer_500(scene: Scene, component: str) -> None:
    await scene.tell(component, "500")


async def _crash_loop(scene: Scene, component: str) -> None:
    scene.crash_loop.touch()
    await scene.signal(component, signal.SIGKILL)


async def _nothing(scene: Scene, component: str) -> None:
    """It is broken from the start: its address cannot be reached from here."""


async def _stranger_lives(scene: Scene, component: str) -> str | None:
    status = scene.healer.engine.status(component)
    if any(stranger.returncode is not None for stranger in scene.strangers):
        return "the foreign process was killed"
    if status.port == scene.healer.config.components[component].port:
        return "the component was not moved to another port"
    return None


CRASH_LOOP: Final = "mail_kernel"
"""The component that crashes at every start while a flag file exists."""

FAULTS: Final = (
    Fault(
        "crash: kill -9",
        Member("chat_api"),
        _kill,
        Expected(IssueType.PROCESS_CRASHED, ("restart_component",)),
    ),
    Fault(
        "hang: SIGSTOP",
        Member("search_api"),
        _stop,
        Expected(IssueType.CONNECTION_TIMEOUT, ("clear_port", "restart_component")),
    ),
    Fault(
        "alive, but not listening",
        Member("memory_kernel"),
        _close_listener,
        Expected(IssueType.PORT_NOT_LISTENING, ("restart_component",)),
    ),
    Fault(
        "an orphan of ours holds the port",
        Member("orders_api"),
        _orphan,
        Expected(IssueType.PORT_CONFLICT, ("clear_port", "restart_component")),
    ),
    Fault(
        "a foreign process holds the port",
        Member("billing_api", rebinds=True),
        _steal_port,
        Expected(IssueType.PORT_CONFLICT, ("clear_port", "rebind_port"), also=_stranger_lives),
    ),
    Fault(
        "listens on the wrong interface",
        Member("librarian_kernel"),
        _wrong_interface,
        Expected(IssueType.CONNECTION_REFUSED, ("restart_component",)),
    ),
    Fault(
        "answers 500 until restarted",
        Member("voice_api"),
        _answer_500,
        Expected(IssueType.CONNECTION_REFUSED, ("restart_component",)),
    ),
    Fault(
        "its host cannot be reached",
        # TCP to a multicast address: the kernel itself answers ENETUNREACH, and sends nothing.
        Member("remote_api", host="239.0.0.1"),
        _nothing,
        Expected(IssueType.NETWORK_UNREACHABLE, (), verdict="escalated"),
    ),
    Fault(
        "crash loop",
        Member(CRASH_LOOP, options=("--crash-loop", "{crash_loop}")),
        _crash_loop,
        Expected(
            IssueType.PROCESS_CRASHED,
            ("restart_component",),
            verdict="backed off, escalated, re-armed, verified",
        ),
    ),
)
