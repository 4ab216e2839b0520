"""What every test may ask for: free ports, processes that surely end, and waits with a bound.

Nothing that a test run starts may outlive it: at the end of the session whatever still carries the
healer's launch mark is ended, named, and fails the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import pytest
from hypothesis import settings

ROOT: Final = Path(__file__).parent.parent
"""The checkout."""

COMPONENT: Final = str(ROOT / "healer" / "demo" / "component.py")
"""A small HTTP service to start and to break; see its own usage."""

# In the background of a shell SIGINT is ignored, and so it would be in all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("dev", deadline=None)
# A gate judges a change by the same cases each time; new ones are looked at by every other run.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# --- soak ---------------------------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the soak out, unless marks were chosen: `pytest tests/engine -m soak`."""
    if config.option.markexpr:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=soak)
    items[:] = [item for item in items if item not in soak]


# --- coverage -----------------------------------------------------------------------------------


def unmeasured() -> dict[str, str]:
    """The environment for what is given a small disk: the coverage of a process is a file too."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


# --- waiting -------------------------------------------------------------------------------------

T = TypeVar("T")
_PAUSE: Final = 0.005


class Until:
    """Waits for a condition, and fails the test at the bound (seconds), naming the condition.

    `until(condition, timeout)` returns the first true answer; `await until.soon(condition,
    timeout)` does the same without blocking the loop, and takes a coroutine function as well.
    """

    def __call__(
        self, condition: Callable[[], T], timeout: float = 60.0, *, name: str | None = None
    ) -> T:
        deadline = time.monotonic() + timeout
        while not (answer := condition()):
            _check(deadline, timeout, name or _source(condition), answer)
            time.sleep(_PAUSE)
        return answer

    @overload
    async def soon(
        self, condition: Callable[[], Awaitable[T]], timeout: float = ..., *, name: str | None = ...
    ) -> T: ...

    @overload
    async def soon(
        self, condition: Callable[[], T], timeout: float = ..., *, name: str | None = ...
    ) -> T: ...

    async def soon(
        self, condition: Callable[[], Any], timeout: float = 60.0, *, name: str | None = None
    ) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            answer = condition()
            if inspect.isawaitable(answer):
                answer = await asyncio.wait_for(answer, max(deadline - time.monotonic(), _PAUSE))
            if answer:
                return answer
            _check(deadline, timeout, name or _source(condition), answer)
            await asyncio.sleep(_PAUSE)


def _check(deadline: float, timeout: float, condition: str, answer: object) -> None:
    if time.monotonic() > deadline:
        pytest.fail(f"not within {timeout:g} s: {condition}; the last answer: {answer!r}")


def _source(condition: Callable[..., object]) -> str:
    try:
        return " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        return repr(condition)


@pytest.fixture(scope="session")
def until() -> Until:
    """Wait for a condition, with a bound: `until(lambda: answers(port), 5)`."""
    return Until()


# --- ports ---------------------------------------------------------------------------------------

# Below those that Linux takes for outgoing connections (32768 and up): nobody gets one of these by
# chance between the look and the use. Each worker of a run has its own, so that none is taken by
# another one in that time; runs side by side begin at different places.
_RANGE: Final = range(20_000, 30_000)


def ports_of(worker: int, workers: int) -> range:
    """The ports of one of so many workers."""
    each = len(_RANGE) // workers
    return _RANGE[worker * each : (worker + 1) * each]


_MINE: Final = ports_of(
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
_FIRST: Final = os.getpid() * 61 % len(_MINE)
_ports: Final = itertools.cycle([*_MINE[_FIRST:], *_MINE[:_FIRST]])


def _is_free(port: int) -> bool:
    hosts = [(socket.AF_INET, "0.0.0.0")]
    if Path("/proc/net/if_inet6").exists():
        hosts.append((socket.AF_INET6, "::"))
    for family, host in hosts:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """`free_ports(n)`: n consecutive ports, free on every address, for this test alone."""

    def take(count: int) -> list[int]:
        run: list[int] = []
        for port in itertools.islice(_ports, len(_MINE)):
            follows = not run or port == run[-1] + 1
            run = ([*run, port] if follows else [port]) if _is_free(port) else []
            if len(run) == count:
                return run
        raise AssertionError(f"cannot find {count} free ports in {_MINE}")

    return take


@pytest.fixture
def free_port(free_ports: Callable[[int], list[int]]) -> int:
    """A port that is free on every address, for this test alone."""
    return free_ports(1)[0]


# --- disks ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    options = ["-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    if subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


# --- processes -----------------------------------------------------------------------------------

_RUN_MARK: Final = f"/nonexistent/healer-test-run-{secrets.token_hex(8)}"
"""Marks what descends from this run, on a machine where others test as well. It travels as the last
directory of PATH: a launcher gives its component a clean environment, but with a PATH."""

_TEST_MARK: Final = "HEALER_TEST"


def _marked(*marks: str) -> Iterator[tuple[int, int]]:
    """Living processes whose environment holds all marks, as (pid, pidfd); to be closed."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # The handle first, then the look: what was looked at is then what the handle holds.
        with contextlib.suppress(ProcessLookupError, PermissionError, FileNotFoundError):
            pidfd = os.pidfd_open(int(entry.name))
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                os.close(pidfd)
                raise
            if all(mark.encode() in environment for mark in marks):
                yield int(entry.name), pidfd
            else:
                os.close(pidfd)


def _end(pid: int, pidfd: int) -> None:
    try:
        # SIGKILL needs no SIGCONT: it ends a stopped process as well.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not select.select([pidfd], [], [], 10)[0]:
            pytest.fail(f"process {pid} is still there 10 s after SIGKILL")
    finally:
        os.close(pidfd)


class Processes:
    """Starts processes; at the end of the test they and all their descendants end, however deep
    and in whatever session, because they carry the test's mark in their environment."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, *argv: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start `argv` in its own session; `options` are those of subprocess.Popen."""
        environment = {**(os.environ if env is None else env), _TEST_MARK: self._mark}
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        process = subprocess.Popen(argv, env=environment, **options)
        self._started.append(process)
        return process

    def component(
        self, port: int, *options: str, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a component to break on `port`. It listens a little later: wait for it."""
        argv = [sys.executable, "-S", "-E", COMPONENT, "--port", str(port), *options]
        return self.start(*argv, env=env)

    def descendants(self) -> list[int]:
        """The pids of what is alive of all that was started here."""
        pids = []
        for pid, pidfd in _marked(f"{_TEST_MARK}={self._mark}"):
            if not select.select([pidfd], [], [], 0)[0]:
                pids.append(pid)
            os.close(pidfd)
        return pids

    def end(self) -> None:
        """End everything. A process that forks while it is looked for is found the next time."""
        for _ in range(10):
            found = list(_marked(f"{_TEST_MARK}={self._mark}"))
            for pid, pidfd in found:
                _end(pid, pidfd)
            if not found:
                break
        else:
            pytest.fail("processes of this test fork faster than they are ended")
        for process in self._started:
            # Ended by now, unless it had changed its own environment or identity.
            if process.poll() is None:
                process.kill()
            process.wait(timeout=60)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts processes that end with the test."""
    started = Processes()
    try:
        yield started
    finally:
        started.end()


def pytest_configure(config: pytest.Config) -> None:
    """Mark what this run starts."""
    path = os.environ.get("PATH", os.defpath)
    # A user's PATH on Debian is without the directories of nft, iptables and ip.
    os.environ["PATH"] = f"{path}:/usr/sbin:/sbin:{_RUN_MARK}"


def leftovers() -> list[str]:
    """Command lines of what this run's healers launched and nobody ended; it is ended here."""
    found = []
    for pid, pidfd in _marked(_RUN_MARK, "HEALER_LAUNCH_ID="):
        with contextlib.suppress(OSError):
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ")
            found.append(f"{pid}: {command.decode(errors='replace').strip()}")
        _end(pid, pidfd)
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves processes behind has failed, whatever its tests say."""
    found = leftovers()
    if found:
        session.config.stash[_LEFT] = found
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_LEFT: Final = pytest.StashKey[Sequence[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name what was left behind."""
    for line in config.stash.get(_LEFT, ()):
        terminalreporter.line(f"LEFT BEHIND by this run, now ended: {line}", red=True)
