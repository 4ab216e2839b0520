"""A component that is a systemd unit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from healer.domain.spec import ComponentSpec, SystemdLaunch
from healer.errors import LaunchError
from healer.host.launcher.client import Client
from healer.ports import HeldProcess, Launched

__all__ = ["SystemdLauncher"]

_JOB: Final = 100.0
"""Seconds for a start or stop job: systemd's own limit is 90 (DefaultTimeoutStartSec), and its
verdict is worth more than ours."""

_QUESTION: Final = 5.0
"""Seconds for a question to systemd that waits for nothing."""

_PROPERTIES: Final = "MainPID,ActiveState,SubState,Result,NRestarts,ControlGroup"


class SystemdLauncher:
    """Drives a unit by systemctl. What we killed, systemd would start again behind our back."""

    kind = "systemd"
    stops = True

    def __init__(
        self,
        spec: ComponentSpec,
        launch: SystemdLaunch,
        *,
        hold: Callable[[int], Awaitable[HeldProcess | None]],
        binary: str | None = None,
        timeout: float = _JOB,
    ) -> None:
        self._name = spec.name
        self._unit = launch.systemd
        self._hold = hold
        self._timeout = timeout
        self._client = Client(
            "systemctl",
            always=("--user",) if launch.user else (),
            variables=("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
            binary=binary,
        )

    def describe(self, port: int) -> str:
        return self._client.describe("start", self._unit)

    async def start(self, port: int, launch_id: str) -> Launched:
        """Start the unit and wait for systemd's verdict, which is about having been started."""
        # A spent start limit would refuse the start. A unit that was never loaded has none to
        # clear, and the start itself says best what else is wrong; so the answer does not matter.
        await self._client.ask("reset-failed", self._unit, timeout=_QUESTION)
        await self._client.demand(
            f"start {self._name!r}", "--no-ask-password", "start", self._unit, timeout=self._timeout
        )
        shown = await self._show()
        if shown.get("ActiveState") == "failed":
            raise LaunchError(
                f"cannot start {self._name!r}: {self._unit} failed at once "
                f"({shown.get('SubState')}, {shown.get('Result')}, "
                f"{shown.get('NRestarts')} restarts)"
            )
        return Launched(process=await self._main_process(shown), manager=self.kind)

    async def stop(self, port: int) -> None:
        await self._client.demand(
            f"stop {self._name!r}", "--no-ask-password", "stop", self._unit, timeout=self._timeout
        )

    async def _show(self) -> dict[str, str]:
        ran = await self._client.demand(
            f"look at {self._name!r}",
            "show",
            f"--property={_PROPERTIES}",
            self._unit,
            timeout=_QUESTION,
        )
        pairs = (line.partition("=") for line in ran.output.splitlines())
        return {key: value for key, _, value in pairs}

    async def _main_process(self, shown: dict[str, str]) -> HeldProcess | None:
        """The unit's main process, if it has one and is still the one that systemd spoke of."""
        pid = shown.get("MainPID", "0")
        if not pid.isdigit() or pid == "0":
            return None
        process = await self._hold(int(pid))
        if process is None:
            return None
        group, cgroup = shown.get("ControlGroup"), process.identity.cgroup
        if group and cgroup and not f"{cgroup}/".startswith(f"{group}/"):
            process.close()
            return None
        return process
