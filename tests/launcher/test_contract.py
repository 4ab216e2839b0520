"""What every launcher owes the engine, asked of all five."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from healer.domain.spec import DockerLaunch, SupervisorLaunch, SystemdLaunch
from healer.errors import LaunchError
from healer.host.launcher import (
    DockerLauncher,
    SupervisorLauncher,
    SystemdLauncher,
    build_launcher,
)
from healer.ports import Launcher

from .conftest import Holder, component, eventually
from .managers import (
    FakeClient,
    fake_docker,
    fake_systemctl,
    supervisor_program,
)

KINDS = ["command", "systemd", "docker", "supervisor", "hook"]
_HIDDEN = "hunter2"


@dataclass
class Case:
    """A launcher, one of its kind that must fail, and how the world says that it is up."""

    launcher: Launcher
    failing: Launcher
    holds: bool
    running: Callable[[], bool]


def _managed(fake: FakeClient) -> Callable[[], bool]:
    def running() -> bool:
        pid = fake.pid
        return pid is not None and Path(f"/proc/{pid}").exists()

    return running


@pytest.fixture(params=KINDS)
def case(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    hold: Holder,
    script: Callable[[str, str], Path],
) -> Case:
    def built(launch: dict[str, object]) -> Launcher:
        launcher = build_launcher(component(launch), logs=tmp_path / "logs", hold=hold)
        assert launcher is not None
        return launcher

    spec = component({"command": ["unused"]})
    match request.param:
        case "command":
            return Case(
                built({"command": ["sleep", "60"], "env": {"PASSWORD": _HIDDEN}}),
                built({"command": ["no-such-program"]}),
                holds=True,
                running=lambda: bool(hold.held) and not hold.held[-1].gone(),
            )
        case "systemd":
            fake = fake_systemctl(script, tmp_path)
            launch = SystemdLaunch(systemd="chat.service")
            return Case(
                SystemdLauncher(spec, launch, hold=hold, binary=fake.binary),
                SystemdLauncher(spec, launch, hold=hold, binary="/no/such/systemctl"),
                holds=True,
                running=_managed(fake),
            )
        case "docker":
            fake = fake_docker(script, tmp_path)
            container = DockerLaunch(docker="chat")
            return Case(
                DockerLauncher(spec, container, hold=hold, binary=fake.binary),
                DockerLauncher(spec, container, hold=hold, binary="/no/such/docker"),
                holds=False,  # the stand-in's process is in no container
                running=_managed(fake),
            )
        case "supervisor":
            client = supervisor_program("supervisorctl")
            config = str(request.getfixturevalue("supervisor_config"))
            good = SupervisorLaunch.model_validate({"supervisor": "api", "config": config})
            bad = SupervisorLaunch.model_validate({"supervisor": "dies", "config": config})
            return Case(
                SupervisorLauncher(spec, good, hold=hold, binary=client),
                SupervisorLauncher(spec, bad, hold=hold, binary=client),
                holds=True,
                running=lambda: bool(hold.held) and not hold.held[-1].gone(),
            )
        case "hook":
            pid = tmp_path / "pid"
            start = f"setsid sleep 60 & echo $! > {pid}"
            stop = f"kill $(cat {pid}) && rm {pid}"
            return Case(
                built({"hook": ["sh", "-c", start], "stop": ["sh", "-c", stop]}),
                built({"hook": ["false"]}),
                holds=False,
                running=lambda: pid.exists() and Path(f"/proc/{pid.read_text().strip()}").exists(),
            )
        case other:
            raise AssertionError(other)


async def test_what_is_started_runs_until_it_is_stopped(case: Case) -> None:
    started = await case.launcher.start(8220, "launch-1")

    assert started.manager == case.launcher.kind
    assert (started.process is not None) == case.holds
    await eventually(case.running, "the component")
    if case.launcher.stops:
        await case.launcher.stop(8220)
        await eventually(lambda: not case.running(), "its end")


async def test_a_launcher_stops_what_it_started_or_says_that_it_cannot(case: Case) -> None:
    if not case.launcher.stops:
        with pytest.raises(LaunchError, match=r"^cannot stop 'chat_api'"):
            await case.launcher.stop(8220)
        return
    for launch_id in ("launch-1", "launch-2"):
        await case.launcher.start(8220, launch_id)
        await eventually(case.running, "the component")
        await case.launcher.stop(8220)
        await eventually(lambda: not case.running(), "its end")


async def test_a_start_that_fails_says_what_and_why(case: Case) -> None:
    with pytest.raises(LaunchError, match=r"^cannot ") as caught:
        await case.failing.start(8220, "launch-1")
    assert caught.value.errno is not None or caught.value.exit_code is not None
    assert "\n" not in str(caught.value)


def test_what_it_would_do_is_one_line_and_does_nothing(case: Case) -> None:
    line = case.launcher.describe(8220)
    assert line
    assert line.isprintable()
    assert _HIDDEN not in line
    assert not case.running()


def test_its_kind_is_its_name_in_the_configuration(
    case: Case, request: pytest.FixtureRequest
) -> None:
    assert case.launcher.kind == request.node.callspec.params["case"]
