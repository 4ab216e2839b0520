"""Real processes for the launchers' tests, all ended again afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from healer.domain.process import ExitStatus, ProcessIdentity
from healer.domain.spec import ComponentSpec
from healer.ports import HeldProcess

from .managers import supervisord

PATIENCE = 20.0
"""Seconds that a condition is waited for before the test fails."""


class Held:
    """The smallest real `HeldProcess`."""

    def __init__(self, pid: int) -> None:
        self.pidfd = os.pidfd_open(pid)
        text = Path(f"/proc/{pid}/stat").read_text()
        self.identity = ProcessIdentity(
            boot_id="test",
            pid=pid,
            start_ticks=int(text.rpartition(")")[2].split()[19]),
            pidfd_inode=os.fstat(self.pidfd).st_ino,
            name=text.partition("(")[2].rpartition(")")[0],
            cgroup=Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition(":")[2],
        )

    def gone(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    async def exited(self) -> ExitStatus:
        await eventually(self.gone, "the process to end")
        return self._reap()

    def _reap(self) -> ExitStatus:
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return ExitStatus()
        assert result is not None
        if result.si_code == os.CLD_EXITED:
            return ExitStatus(code=result.si_status)
        return ExitStatus(signal=result.si_status)

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


async def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.005)


def group_lives(leader: int) -> bool:
    """Whether a process group has a living member; zombies wait for their parent's pleasure."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(words[2]) == leader and words[0] not in "ZX":
                    return True
    return False


class Holder:
    """A `hold` that remembers what it held, and ends it."""

    def __init__(self) -> None:
        self.held: list[Held] = []

    async def __call__(self, pid: int) -> HeldProcess | None:
        try:
            process = Held(pid)
        except (ProcessLookupError, FileNotFoundError):
            return None
        self.held.append(process)
        return process

    async def end_all(self) -> None:
        for process in self.held:
            if process.pidfd < 0:
                continue
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                await process.exited()
            process.close()


@pytest.fixture
async def hold() -> AsyncIterator[Holder]:
    holder = Holder()
    yield holder
    await holder.end_all()


@pytest.fixture(scope="session")
def supervisor_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a real supervisord; each test leaves its programs stopped."""
    with supervisord(tmp_path_factory.mktemp("supervisor")) as config:
        yield config


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes an executable file."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def component(
    launch: dict[str, object], *, name: str = "chat_api", port: int = 8220
) -> ComponentSpec:
    return ComponentSpec.model_validate({"name": name, "port": port, "launch": launch})
