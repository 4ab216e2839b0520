"""How components are started and stopped: the five kinds of `healer.ports.Launcher`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import assert_never

from healer.domain.spec import (
    CommandLaunch,
    ComponentSpec,
    DockerLaunch,
    HookLaunch,
    SupervisorLaunch,
    SystemdLaunch,
)
from healer.host.launcher.command import CommandLauncher
from healer.host.launcher.docker import DockerLauncher
from healer.host.launcher.hook import HookLauncher
from healer.host.launcher.supervisor import SupervisorLauncher
from healer.host.launcher.systemd import SystemdLauncher
from healer.ports import HeldProcess, Launcher

__all__ = [
    "CommandLauncher",
    "DockerLauncher",
    "HookLauncher",
    "SupervisorLauncher",
    "SystemdLauncher",
    "build_launcher",
]


def build_launcher(
    spec: ComponentSpec,
    *,
    logs: Path,
    hold: Callable[[int], Awaitable[HeldProcess | None]],
) -> Launcher | None:
    """The launcher that `spec` asks for; None when somebody else starts the component.

    Started processes are held by `hold` (see `Host.hold`); `logs` is the directory of all logs.

    Raises:
        ConfigError: the launch names something that its manager does not take for one component.
    """
    match spec.launch:
        case None:
            return None
        case CommandLaunch():
            return CommandLauncher(spec, spec.launch, logs=logs, hold=hold)
        case SystemdLaunch():
            return SystemdLauncher(spec, spec.launch, hold=hold)
        case DockerLaunch():
            return DockerLauncher(spec, spec.launch, hold=hold)
        case SupervisorLaunch():
            return SupervisorLauncher(spec, spec.launch, hold=hold)
        case HookLaunch():
            return HookLauncher(spec, spec.launch, logs=logs)
        case _:
            assert_never(spec.launch)
