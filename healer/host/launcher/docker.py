"""A component that is a container."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

from healer.domain.spec import ComponentSpec, DockerLaunch
from healer.errors import LaunchError
from healer.host.launcher.client import Client
from healer.ports import HeldProcess, Launched

__all__ = ["DockerLauncher"]

_REQUEST: Final = 30.0
"""Seconds for a request to the docker daemon, on top of what the container itself is given."""

_STATE: Final = "{{.Id}} {{.State.Status}} {{.State.Pid}} {{.State.ExitCode}}"


class DockerLauncher:
    """Drives an existing container by the docker client."""

    kind = "docker"
    stops = True

    def __init__(
        self,
        spec: ComponentSpec,
        launch: DockerLaunch,
        *,
        hold: Callable[[int], Awaitable[HeldProcess | None]],
        binary: str | None = None,
        timeout: float = _REQUEST,
    ) -> None:
        self._name = spec.name
        self._container = launch.docker
        self._grace = math.ceil(launch.grace)  # the client takes whole seconds
        self._hold = hold
        self._timeout = timeout
        self._client = Client(
            "docker",
            variables=(
                "DOCKER_HOST",
                "DOCKER_CONTEXT",
                "DOCKER_CONFIG",
                "DOCKER_CERT_PATH",
                "DOCKER_TLS_VERIFY",
                "XDG_RUNTIME_DIR",
            ),
            binary=binary,
        )

    def describe(self, port: int) -> str:
        return self._client.describe("start", self._container)

    async def start(self, port: int, launch_id: str) -> Launched:
        purpose = f"start {self._name!r}"
        await self._client.demand(purpose, "start", self._container, timeout=self._timeout)
        ran = await self._client.demand(
            f"look at {self._name!r}",
            "inspect",
            "--type=container",
            f"--format={_STATE}",
            self._container,
            timeout=self._timeout,
        )
        words = ran.output.split()
        if len(words) != len(_STATE.split()):
            raise LaunchError(
                f"cannot {purpose}: docker inspect answered {ran.last_line!r}; "
                f"expected an id, a status, a pid and an exit code"
            )
        container, status, pid, exit_code = words
        if status in {"exited", "dead"}:
            raise LaunchError(
                f"cannot {purpose}: container {self._container} ended at once "
                f"with exit code {exit_code}"
            )
        return Launched(process=await self._main_process(container, pid), manager=self.kind)

    async def stop(self, port: int) -> None:
        await self._client.demand(
            f"stop {self._name!r}",
            "stop",
            "-t",
            str(self._grace),
            self._container,
            timeout=self._grace + self._timeout,
        )

    async def _main_process(self, container: str, pid: str) -> HeldProcess | None:
        """The container's main process, where it provably is one of this machine: the daemon may
        run on another, and its pid would then mean a stranger here."""
        if not pid.isdigit() or pid == "0":
            return None
        process = await self._hold(int(pid))
        if process is None:
            return None
        if container not in (process.identity.cgroup or ""):
            process.close()
            return None
        return process
