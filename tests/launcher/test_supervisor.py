"""Programs of a real supervisord."""

from __future__ import annotations

from pathlib import Path

import pytest

from healer.domain.spec import SupervisorLaunch
from healer.errors import ConfigError, LaunchError
from healer.host.launcher import SupervisorLauncher

from .conftest import Holder, component
from .managers import supervisor_program


@pytest.fixture
def config(supervisor_config: Path) -> Path:
    return supervisor_config


def launcher(config: Path, hold: Holder, program: str = "api") -> SupervisorLauncher:
    launch = SupervisorLaunch.model_validate({"supervisor": program, "config": str(config)})
    spec = component({"supervisor": program})
    return SupervisorLauncher(spec, launch, hold=hold, binary=supervisor_program("supervisorctl"))


async def test_what_runs_already_is_started_and_what_is_stopped_already_is_stopped(
    config: Path, hold: Holder
) -> None:
    built = launcher(config, hold)
    first = await built.start(8220, "launch-1")
    again = await built.start(8220, "launch-2")
    assert first.process is not None
    assert again.process is not None
    assert again.process.identity == first.process.identity
    await built.stop(8220)
    await built.stop(8220)
    assert first.process.gone()


async def test_a_program_in_a_group_is_named_with_its_group(config: Path, hold: Holder) -> None:
    built = launcher(config, hold, "group:inner")
    started = await built.start(8220, "launch-1")
    assert started.process is not None
    await built.stop(8220)
    assert started.process.gone()


@pytest.mark.parametrize(
    ("program", "reason"),
    [("dies", "ERROR .(spawn error|abnormal termination)"), ("unknown", "ERROR .no such process")],
)
async def test_what_supervisord_refuses_is_said(
    config: Path, hold: Holder, program: str, reason: str
) -> None:
    with pytest.raises(LaunchError, match=reason) as caught:
        await launcher(config, hold, program).start(8220, "launch-1")
    assert caught.value.exit_code is not None


async def test_a_server_that_is_not_there_is_said(tmp_path: Path, hold: Holder) -> None:
    config = tmp_path / "s.conf"
    config.write_text(f"[supervisorctl]\nserverurl=unix://{tmp_path}/none.sock\n")
    built = launcher(config, hold)
    for act in (built.start(8220, "launch-1"), built.stop(8220)):
        with pytest.raises(LaunchError, match=r"none\.sock no such file"):
            await act


@pytest.mark.parametrize("program", ["all", "group:"])
def test_a_name_that_means_several_programs_is_refused(program: str, hold: Holder) -> None:
    launch = SupervisorLaunch(supervisor=program)
    with pytest.raises(ConfigError, match=f"'{program}' means several programs"):
        SupervisorLauncher(component({"supervisor": program}), launch, hold=hold)


def test_the_configuration_file_is_part_of_the_request(tmp_path: Path, hold: Holder) -> None:
    launch = SupervisorLaunch.model_validate({"supervisor": "api", "config": "/etc/a b.conf"})
    built = SupervisorLauncher(component({"supervisor": "api"}), launch, hold=hold)
    assert built.describe(1) == "supervisorctl -c '/etc/a b.conf' start api"
