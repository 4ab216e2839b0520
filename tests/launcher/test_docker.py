"""Containers: the words that the docker client gets, and what is made of its answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.domain.spec import DockerLaunch
from healer.errors import LaunchError
from healer.host.launcher import DockerLauncher

from .conftest import Holder, component
from .managers import FakeClient, fake_docker

SPEC = component({"docker": "chat"})


@pytest.fixture
def docker(script: Callable[[str, str], Path], tmp_path: Path) -> FakeClient:
    return fake_docker(script, tmp_path)


def launcher(fake: FakeClient, hold: Holder, grace: str = "10s") -> DockerLauncher:
    launch = DockerLaunch.model_validate({"docker": "chat", "grace": grace})
    return DockerLauncher(SPEC, launch, hold=hold, binary=fake.binary)


async def test_it_is_started_looked_at_and_given_its_grace(
    docker: FakeClient, hold: Holder
) -> None:
    built = launcher(docker, hold, grace="1500ms")
    await built.start(8220, "launch-1")
    await built.stop(8220)

    assert docker.calls == [
        "start chat",
        "inspect --type=container "
        "--format={{.Id}} {{.State.Status}} {{.State.Pid}} {{.State.ExitCode}} chat",
        "stop -t 2 chat",
    ]
    assert built.describe(8220) == "docker start chat"


async def test_a_pid_that_is_not_in_the_container_is_not_held(
    docker: FakeClient, hold: Holder
) -> None:
    built = launcher(docker, hold)
    started = await built.start(8220, "launch-1")
    assert started.process is None
    assert [one.pidfd for one in hold.held] == [-1]
    await built.stop(8220)


@pytest.fixture
def own_cgroup() -> str:
    return Path("/proc/self/cgroup").read_text().split()[-1].rpartition(":")[2]


async def test_a_pid_that_is_in_the_container_is_held(
    docker: FakeClient, hold: Holder, own_cgroup: str
) -> None:
    # The stand-in's process lives in the test's own control group; that is its "container".
    docker.report("id", own_cgroup)
    built = launcher(docker, hold)
    started = await built.start(8220, "launch-1")
    assert started.process is not None
    assert started.process.identity.pid == docker.pid
    await built.stop(8220)


async def test_a_container_that_ended_at_once_was_not_started(
    docker: FakeClient, hold: Holder
) -> None:
    docker.report("state", "exited")
    built = launcher(docker, hold)
    with pytest.raises(LaunchError, match="container chat ended at once with exit code 3"):
        await built.start(8220, "launch-1")
    await built.stop(8220)


async def test_an_answer_that_makes_no_sense_is_an_error(docker: FakeClient, hold: Holder) -> None:
    docker.answer("what?\n", 0)
    with pytest.raises(LaunchError, match="docker inspect answered 'what\\?'"):
        await launcher(docker, hold).start(8220, "launch-1")


async def test_the_real_client_takes_our_words_and_says_what_is_wrong(
    hold: Holder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-daemon.sock")
    built = DockerLauncher(SPEC, DockerLaunch(docker="chat"), hold=hold)
    with pytest.raises(LaunchError, match="cannot start 'chat_api': `docker start chat`") as caught:
        await built.start(8220, "launch-1")
    assert caught.value.exit_code == 1
    with pytest.raises(LaunchError, match=r"no-daemon\.sock") as caught:
        await built.stop(8220)
    assert caught.value.exit_code == 1
