"""The command launcher, on real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from healer.domain.process import ExitStatus
from healer.errors import HostError, LaunchError
from healer.host.launcher import CommandLauncher, build_launcher
from healer.host.launcher.spawn import inherited_descriptors
from healer.ports import HeldProcess, Launcher

from .conftest import Held, Holder, component, eventually


def launcher(
    tmp_path: Path, hold: Holder, *command: str, name: str = "chat_api", **more: object
) -> Launcher:
    spec = component({"command": command, **more}, name=name)
    built = build_launcher(spec, logs=tmp_path / "logs", hold=hold)
    assert isinstance(built, CommandLauncher)
    return built


async def output_of(
    tmp_path: Path, hold: Holder, *command: str, port: int = 8220, **more: Any
) -> str:
    """What a command that ends by itself writes to its log."""
    started = await launcher(tmp_path, hold, *command, **more).start(port, "launch-1")
    assert started.process is not None
    assert await started.process.exited() == ExitStatus(code=0)
    return (tmp_path / "logs/components/chat_api.log").read_text()


async def test_it_leads_a_session_and_a_group_of_its_own(tmp_path: Path, hold: Holder) -> None:
    started = await launcher(tmp_path, hold, "sleep", "60").start(8220, "launch-1")

    assert started.manager == "command"
    assert started.process is not None
    pid = started.process.identity.pid
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert not started.process.gone()


async def test_its_end_is_learned_by_whoever_holds_it(tmp_path: Path, hold: Holder) -> None:
    dying = await launcher(tmp_path, hold, "sh", "-c", "exit 7").start(8220, "launch-1")
    killed = await launcher(tmp_path, hold, "sleep", "60").start(8220, "launch-2")
    assert dying.process is not None
    assert isinstance(killed.process, Held)

    signal.pidfd_send_signal(killed.process.pidfd, signal.SIGKILL)

    assert await dying.process.exited() == ExitStatus(code=7)
    assert await killed.process.exited() == ExitStatus(signal=signal.SIGKILL)


async def test_its_output_is_appended_to_its_own_log(tmp_path: Path, hold: Holder) -> None:
    await output_of(tmp_path, hold, "sh", "-c", "echo one; echo two >&2")
    text = await output_of(tmp_path, hold, "echo", "three")

    assert text == "one\ntwo\nthree\n"
    log = tmp_path / "logs/components/chat_api.log"
    assert log.stat().st_mode & 0o007 == 0


async def test_its_log_can_be_truncated_under_it(tmp_path: Path, hold: Holder) -> None:
    go = tmp_path / "go"
    waiting = f"echo {'x' * 100}; while ! test -e {go}; do sleep 0.01; done; echo after"
    started = await launcher(tmp_path, hold, "sh", "-c", waiting).start(8220, "launch-1")
    log = tmp_path / "logs/components/chat_api.log"
    await eventually(lambda: log.stat().st_size > 100, "the first line")

    os.truncate(log, 0)
    go.touch()

    assert started.process is not None
    await started.process.exited()
    assert log.read_bytes() == b"after\n"


async def test_a_log_of_its_own_choice_is_used(tmp_path: Path, hold: Holder) -> None:
    log = tmp_path / "elsewhere" / "my.log"
    started = await launcher(tmp_path, hold, "echo", "here", log=str(log)).start(8220, "l")
    assert started.process is not None
    await started.process.exited()
    assert log.read_text() == "here\n"


async def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path, hold: Holder) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for log, reason in ((tmp_path, errno.EISDIR), (pipe, errno.ENXIO)):
        with pytest.raises(
            LaunchError, match=f"cannot start 'chat_api': its log '{log}'"
        ) as caught:
            await launcher(tmp_path, hold, "true", log=str(log)).start(8220, "launch-1")
        assert caught.value.errno == reason


async def test_its_environment_is_small_and_says_who_it_is(
    tmp_path: Path, hold: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALER_TOKEN", "canary")
    monkeypatch.setenv("LD_PRELOAD_NOT", "canary")
    monkeypatch.setenv("TZ", "UTC")
    text = await output_of(
        tmp_path, hold, "env", env={"COLOUR": "blue", "PORT": "1", "HEALER_LAUNCH_ID": "forged"}
    )
    found = dict(line.split("=", 1) for line in text.splitlines())

    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LOGNAME", "TZ", "USER"}
    assert set(found) - allowed == {"COLOUR", "HEALER_COMPONENT", "HEALER_LAUNCH_ID", "PORT"}
    assert found["TZ"] == "UTC"
    assert found["COLOUR"] == "blue"
    assert found["HEALER_COMPONENT"] == "chat_api"
    assert found["HEALER_LAUNCH_ID"] == "launch-1"
    assert found["PORT"] == "8220"


async def test_it_inherits_no_descriptor(tmp_path: Path, hold: Holder) -> None:
    with (tmp_path / "secret").open("w") as leaking:
        os.set_inheritable(leaking.fileno(), True)
        assert leaking.fileno() in inherited_descriptors()
        text = await output_of(tmp_path, hold, "ls", "-l", "/proc/self/fd")

    links = dict(line.split()[-3::2] for line in text.splitlines() if "->" in line)
    own = links.pop("3")
    assert own.startswith("/proc/")
    log = str(tmp_path / "logs/components/chat_api.log")
    assert links == {"0": "/dev/null", "1": log, "2": log}


@pytest.fixture
def rude_parent() -> Iterator[None]:
    """A healer that was itself started with signals blocked and ignored, as nohup and `&` do."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    ignored = {number: signal.signal(number, signal.SIG_IGN) for number in _IGNORED}
    yield
    for number, handler in ignored.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


_IGNORED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


@pytest.mark.usefixtures("rude_parent")
async def test_no_signal_is_blocked_or_ignored(tmp_path: Path, hold: Holder) -> None:
    text = await output_of(tmp_path, hold, "cat", "/proc/self/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0
    # glibc keeps 32 and 33 to itself, and ignores them in whatever it spawns.
    assert not {n for n in signal.valid_signals() if int(status["SigIgn"], 16) >> (n - 1) & 1}


async def test_it_runs_in_its_directory(tmp_path: Path, hold: Holder) -> None:
    directory = tmp_path / "its own"
    directory.mkdir()
    assert await output_of(tmp_path, hold, "pwd", cwd=str(directory)) == f"{directory}\n"


async def test_a_relative_program_is_taken_from_its_directory(
    tmp_path: Path, hold: Holder, script: Callable[[str, str], Path]
) -> None:
    script("here", "#!/bin/sh\necho found\n")
    assert await output_of(tmp_path, hold, "./here", cwd=str(tmp_path)) == "found\n"


async def test_a_missing_directory_is_named(tmp_path: Path, hold: Holder) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(LaunchError, match=f"cannot start 'chat_api': .*'{missing}'") as caught:
        await launcher(tmp_path, hold, "true", cwd=str(missing)).start(8220, "launch-1")
    assert caught.value.errno == errno.ENOENT


async def test_port_and_name_are_filled_in_and_nothing_else(tmp_path: Path, hold: Holder) -> None:
    words = (
        "--port={port}",
        "{name}:{port}",
        "{name.__class__}",
        "{0}",
        "{}",
        "{{port}}",
        "{Port}",
    )
    text = await output_of(tmp_path, hold, "printf", "%s\\n", *words, port=9001)
    assert text.splitlines() == [
        "--port=9001",
        "chat_api:9001",
        "{name.__class__}",
        "{0}",
        "{}",
        "{9001}",
        "{Port}",
    ]


async def test_no_shell_reads_the_arguments(tmp_path: Path, hold: Holder) -> None:
    canary = tmp_path / "canary"
    words = (f"; touch {canary}", f"$(touch {canary})", f"`touch {canary}`", "a b", "", "*", "\n|")
    text = await output_of(tmp_path, hold, "printf", "[%s]", *words)
    assert text == "".join(f"[{word}]" for word in words)
    assert not canary.exists()


async def test_a_file_that_is_no_program_is_not_given_to_a_shell(
    tmp_path: Path, hold: Holder, script: Callable[[str, str], Path]
) -> None:
    canary = tmp_path / "canary"
    text = script("text", f"touch {canary}\n")
    with pytest.raises(LaunchError, match=str(text)) as caught:
        await launcher(tmp_path, hold, str(text)).start(8220, "launch-1")
    assert caught.value.errno == errno.ENOEXEC
    assert not canary.exists()


async def test_a_missing_program_is_named(tmp_path: Path, hold: Holder) -> None:
    path = {"PATH": str(tmp_path)}
    with pytest.raises(LaunchError, match="there is no program 'no-such' in") as caught:
        await launcher(tmp_path, hold, "no-such", env=path).start(8220, "launch-1")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(LaunchError, match="'/no/such': No such file") as caught:
        await launcher(tmp_path, hold, "/no/such").start(8220, "launch-1")
    assert caught.value.errno == errno.ENOENT
    assert hold.held == []


async def test_what_may_not_be_executed_is_named(tmp_path: Path, hold: Holder) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for command, env in ((str(plain), {}), ("plain", {"PATH": str(tmp_path)})):
        with pytest.raises(LaunchError, match=f"'{plain}': Permission denied") as caught:
            await launcher(tmp_path, hold, command, env=env).start(8220, "launch-1")
        assert caught.value.errno == errno.EACCES
    with pytest.raises(LaunchError, match="Is a directory"):
        await launcher(tmp_path, hold, str(tmp_path)).start(8220, "launch-1")


async def test_a_missing_interpreter_is_an_error_of_the_start(
    tmp_path: Path, hold: Holder, script: Callable[[str, str], Path]
) -> None:
    orphan = script("orphan", "#!/no/such/interpreter\n")
    with pytest.raises(LaunchError, match=str(orphan)) as caught:
        await launcher(tmp_path, hold, str(orphan)).start(8220, "launch-1")
    assert caught.value.errno == errno.ENOENT


async def test_a_relative_entry_of_the_path_is_never_searched(
    tmp_path: Path,
    hold: Holder,
    script: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script("planted", "#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    for path in (".", "", ":"):
        with pytest.raises(LaunchError, match="there is no program 'planted'"):
            await launcher(tmp_path, hold, "planted", env={"PATH": path}).start(8220, "l")


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (("echo", "a\0b"), {}),
        (("ec\0ho",), {}),
        (("/bin/ec\0ho",), {}),
        (("echo",), {"A": "x\0y"}),
        (("echo",), {"A=B": "c"}),
        (("echo",), {"": "c"}),
    ],
)
async def test_what_no_program_can_be_given_is_refused(
    tmp_path: Path, hold: Holder, command: tuple[str, ...], env: dict[str, str]
) -> None:
    with pytest.raises(LaunchError, match="cannot start 'chat_api'"):
        await launcher(tmp_path, hold, *command, env=env).start(8220, "launch-1")
    assert hold.held == []


async def test_python_is_the_healers_own_where_there_is_no_other(
    tmp_path: Path, hold: Holder
) -> None:
    program = "import sys; print(sys.executable)"
    text = await output_of(tmp_path, hold, "python", "-c", program, env={"PATH": str(tmp_path)})
    assert text.strip() == sys.executable


async def test_python_on_the_path_goes_first(
    tmp_path: Path, hold: Holder, script: Callable[[str, str], Path]
) -> None:
    script("python", "#!/bin/sh\necho mine\n")
    assert await output_of(tmp_path, hold, "python", env={"PATH": str(tmp_path)}) == "mine\n"


async def test_what_cannot_be_held_is_not_left_running(tmp_path: Path) -> None:
    started: list[Held] = []

    async def refuse(pid: int) -> HeldProcess | None:
        started.append(Held(pid))
        raise HostError("cannot open a pidfd", errno=errno.EMFILE)

    spec = component({"command": ["sleep", "60"]})
    built = build_launcher(spec, logs=tmp_path, hold=refuse)
    assert built is not None
    with pytest.raises(LaunchError, match="cannot be held") as caught:
        await built.start(8220, "launch-1")

    assert caught.value.errno == errno.EMFILE
    assert started[0].gone()
    started[0].close()


async def test_it_cannot_be_stopped_by_its_launcher(tmp_path: Path, hold: Holder) -> None:
    built = launcher(tmp_path, hold, "sleep", "60")
    assert not built.stops
    with pytest.raises(LaunchError, match="cannot stop 'chat_api'"):
        await built.stop(8220)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_many_starts_at_once_leave_no_descriptor_behind(tmp_path: Path, hold: Holder) -> None:
    built = launcher(tmp_path, hold, "true")
    before = open_descriptors()
    started = await asyncio.gather(*(built.start(8220, f"launch-{n}") for n in range(20)))
    for one in started:
        assert one.process is not None
        assert await one.process.exited() == ExitStatus(code=0)
        one.process.close()
    assert open_descriptors() == before
