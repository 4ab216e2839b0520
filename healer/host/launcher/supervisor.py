"""A component that is a program of supervisord."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from healer.domain.spec import ComponentSpec, SupervisorLaunch
from healer.errors import ConfigError
from healer.host.launcher.client import Client
from healer.host.launcher.run import Ran
from healer.ports import HeldProcess, Launched

__all__ = ["SupervisorLauncher"]

_REQUEST: Final = 60.0
"""Seconds for a start (supervisord waits for `startsecs`) or a stop (`stopwaitsecs`)."""

_QUESTION: Final = 15.0
"""Seconds for a question: the client alone needs some tenths of one to come up."""

_ERROR: Final = ": ERROR ("


class SupervisorLauncher:
    """Drives a program by supervisorctl.

    `already started` and `not running` are said as errors and are what was wanted; some versions
    end with 0 in spite of an error: so what is said counts as much as the exit code.
    """

    kind = "supervisor"
    stops = True

    def __init__(
        self,
        spec: ComponentSpec,
        launch: SupervisorLaunch,
        *,
        hold: Callable[[int], Awaitable[HeldProcess | None]],
        binary: str | None = None,
        timeout: float = _REQUEST,
    ) -> None:
        self._name = spec.name
        self._program = launch.supervisor
        if self._program == "all" or self._program.endswith(":"):
            raise ConfigError(
                f"component {spec.name!r}",
                [
                    f"launch.supervisor: {self._program!r} means several programs; "
                    "allowed: one program, as name or group:name"
                ],
            )
        self._hold = hold
        self._timeout = timeout
        self._client = Client(
            "supervisorctl",
            always=("-c", str(launch.config)) if launch.config else (),
            binary=binary,
        )

    def describe(self, port: int) -> str:
        return self._client.describe("start", self._program)

    async def start(self, port: int, launch_id: str) -> Launched:
        """Start the program; supervisord answers when it has lived for its `startsecs`."""
        await self._request("start", unless="already started")
        answer = await self._client.ask("pid", self._program, timeout=_QUESTION)
        return Launched(process=await self._main_process(answer), manager=self.kind)

    async def stop(self, port: int) -> None:
        await self._request("stop", unless="not running")

    async def _request(self, verb: str, *, unless: str) -> None:
        ran = await self._client.ask(verb, self._program, timeout=self._timeout)
        refused = [line for line in ran.output.splitlines() if _ERROR in line]
        if refused and all(f"{_ERROR}{unless})" in line for line in refused):
            return
        if ran.exit_code != 0 or refused:
            raise self._client.refused(f"{verb} {self._name!r}", ran, verb, self._program)

    async def _main_process(self, answer: Ran) -> HeldProcess | None:
        """The program's process, where it provably is one of this machine: supervisord may run on
        another, and its pid would then mean a stranger here."""
        pid = answer.output.strip()
        if answer.exit_code != 0 or not pid.isdigit() or pid == "0":
            return None
        process = await self._hold(int(pid))
        if process is None:
            return None
        if await asyncio.to_thread(self._bears_our_name, int(pid)) and not process.gone():
            return process
        process.close()
        return None

    def _bears_our_name(self, pid: int) -> bool:
        """Whether supervisord has named the process so when it started it."""
        _, _, name = self._program.rpartition(":")
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False  # gone, or not ours to read: not proved
        return f"SUPERVISOR_PROCESS_NAME={name}".encode() in variables
