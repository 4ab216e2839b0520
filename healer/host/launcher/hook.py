"""A component that is started, and perhaps stopped, by a program of the operator's."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from healer.domain.spec import ComponentSpec, HookLaunch
from healer.errors import LaunchError
from healer.host.launcher.environment import clean_environment, find_program, substitute
from healer.host.launcher.log import component_log, open_log
from healer.host.launcher.run import Ran, printable, run
from healer.ports import Launched

__all__ = ["HookLauncher"]

_TAIL = 4096
"""Bytes of what a failed hook wrote that are read to find its last line."""


class HookLauncher:
    """Runs a program to start the component, and waits for that program, not for the component.

    Its output goes to the component's log, since what it leaves running inherits it.
    """

    kind = "hook"

    def __init__(self, spec: ComponentSpec, launch: HookLaunch, *, logs: Path) -> None:
        self._name = spec.name
        self._launch = launch
        self._log = component_log(logs, spec.name)

    @property
    def stops(self) -> bool:
        return self._launch.stop is not None

    def describe(self, port: int) -> str:
        return printable(shlex.join(substitute(self._launch.hook, name=self._name, port=port)))

    async def start(self, port: int, launch_id: str) -> Launched:
        await self._run("start", self._launch.hook, port, launch_id)
        return Launched(process=None, manager=self.kind)

    async def stop(self, port: int) -> None:
        if self._launch.stop is None:
            raise LaunchError(
                f"cannot stop {self._name!r} by its launcher: launch.stop is not given"
            )
        await self._run("stop", self._launch.stop, port, launch_id="")

    async def _run(self, verb: str, template: Sequence[str], port: int, launch_id: str) -> None:
        environment = clean_environment(self._name, port, launch_id)
        argv = substitute(template, name=self._name, port=port)
        program = await asyncio.to_thread(
            find_program, self._name, argv[0], path=environment["PATH"]
        )
        log = await asyncio.to_thread(open_log, self._name, self._log)
        try:
            begin = os.fstat(log).st_size
            ran = await run(
                [program, *argv[1:]], environment, timeout=self._launch.timeout, log=log
            )
        except LaunchError as error:
            raise LaunchError(
                f"cannot {verb} {self._name!r}: {error}", errno=error.errno
            ) from error
        finally:
            os.close(log)
        if ran.exit_code != 0:
            said = await asyncio.to_thread(self._said_since, begin)
            # The program only: its other words may be secrets, and this goes into the log.
            raise LaunchError(
                f"cannot {verb} {self._name!r}: {printable(argv[0])!r} ended with "
                f"{ran.exit_code}: {Ran(ran.exit_code, said).last_line}",
                exit_code=ran.exit_code,
            )

    def _said_since(self, begin: int) -> str:
        """The end of what came into the log behind `begin`."""
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin, size - _TAIL) if begin <= size else 0)
            return file.read(_TAIL).decode(errors="replace")
