"""A component that the healer starts itself, and that outlives the healer."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

from healer.domain.spec import CommandLaunch, ComponentSpec
from healer.errors import HostError, LaunchError
from healer.host.launcher.child import end_unheld
from healer.host.launcher.environment import clean_environment, find_program, marks, substitute
from healer.host.launcher.log import component_log, open_log
from healer.host.launcher.run import printable
from healer.host.launcher.spawn import spawn
from healer.ports import HeldProcess, Launched

__all__ = ["CommandLauncher"]


class CommandLauncher:
    """Starts a command in a session of its own and hands it over, held.

    The process is our child, but never reaped here: whoever holds it learns how it ended.
    """

    kind = "command"
    stops = False

    def __init__(
        self,
        spec: ComponentSpec,
        launch: CommandLaunch,
        *,
        logs: Path,
        hold: Callable[[int], Awaitable[HeldProcess | None]],
    ) -> None:
        self._name = spec.name
        self._launch = launch
        self._log = Path(launch.log) if launch.log else component_log(logs, spec.name)
        self._hold = hold

    def describe(self, port: int) -> str:
        return printable(shlex.join(substitute(self._launch.command, name=self._name, port=port)))

    async def start(self, port: int, launch_id: str) -> Launched:
        """Start the command, and return when the kernel has loaded it.

        Cancelling does not call a start back that is under way: such a process is found again by
        its launch id.
        """
        pid = await asyncio.shield(asyncio.to_thread(self._spawn, port, launch_id))
        try:
            process = await self._hold(pid)
        except HostError as error:
            await asyncio.to_thread(end_unheld, pid)
            raise LaunchError(
                f"cannot start {self._name!r}: it was ended again, since pid {pid} "
                f"cannot be held: {error}",
                errno=error.errno,
            ) from error
        if process is None:
            await asyncio.to_thread(end_unheld, pid)
            raise LaunchError(
                f"cannot start {self._name!r}: pid {pid} was gone at once; its log is {self._log}"
            )
        return Launched(process=process, manager=self.kind)

    def _spawn(self, port: int, launch_id: str) -> int:
        directory = str(self._launch.cwd) if self._launch.cwd else None
        environment = {
            **clean_environment(self._name, port, launch_id),
            **self._launch.env,
            **marks(self._name, port, launch_id),
        }
        argv = substitute(self._launch.command, name=self._name, port=port)
        program = find_program(self._name, argv[0], path=environment["PATH"], directory=directory)
        log = open_log(self._name, self._log)
        try:
            return spawn(
                program, [program, *argv[1:]], environment, output=log, directory=directory
            )
        except (OSError, ValueError) as error:
            raise LaunchError(
                f"cannot start {self._name!r}: {printable(program)}: {error}",
                errno=getattr(error, "errno", None),
            ) from error
        finally:
            os.close(log)

    async def stop(self, port: int) -> None:
        raise LaunchError(
            f"cannot stop {self._name!r} by its launcher: a command is stopped by signals"
        )
