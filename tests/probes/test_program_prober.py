"""What a program of the operator's says of a component, and what becomes of the program."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.domain.probe import Outcome, ProbeResult, Reason
from healer.domain.spec import ComponentSpec
from healer.host.program import LinuxPrograms
from healer.probes import NetworkProber, Vantage

PATIENCE = 30.0
WITH_PROGRAMS = """
import uuid
from healer.host.program import LinuxPrograms

class NetworkProber(NetworkProber):
    def __init__(self, agent):
        super().__init__(agent=agent, programs=LinuxPrograms(new_id=lambda: uuid.uuid4().hex))
"""


def new_id() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def prober() -> NetworkProber:
    return NetworkProber(agent="x", programs=LinuxPrograms(new_id=new_id))


@pytest.fixture
def exec_spec() -> Callable[..., ComponentSpec]:
    """A component that a program looks at."""

    def make(*argv: str, **fields: object) -> ComponentSpec:
        return ComponentSpec.model_validate(
            {"name": "x", "port": 8220, "probe": {"exec": argv}, "timeout": PATIENCE, **fields}
        )

    return make


def there(pid: int) -> bool:
    """Whether a process runs; a zombie is there only for the parent who does not ask."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def any_says(token: str) -> bool:
    """Whether a process has `token` in its command line; zombies have none."""
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if token.encode() in each.read_bytes():
                return True
    return False


def pids_in(file: Path, count: int) -> list[int]:
    """The pids that a program wrote, once there are so many."""
    text = file.read_text() if file.exists() else ""
    words = text.split() if text.endswith("\n") else []
    return [int(word) for word in words] if len(words) == count else []


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("script", "reason", "status"),
    [
        ("exit 0", Reason.OK, 0),
        ("exit 1", Reason.BAD_STATUS, 1),
        ("exit 255", Reason.BAD_STATUS, 255),
        ("kill -SEGV $$", Reason.BAD_RESPONSE, None),
        ("kill -PIPE $$", Reason.BAD_RESPONSE, None),
        ("kill -KILL $$", Reason.PROBER_FAILED, None),  # as when memory is short
        ("kill -TERM $$", Reason.PROBER_FAILED, None),
    ],
)
async def test_the_exit_status_decides(prober, exec_spec, script, reason, status):
    result = await prober.probe(exec_spec("sh", "-c", script), 8220)
    assert (result.reason, result.status, result.kind) == (reason, status, "exec")
    assert (result.target, result.errno) == ("sh", None)


async def test_it_is_told_the_component_and_nothing_secret(
    prober, exec_spec, tmp_path, monkeypatch
):
    monkeypatch.setenv("SECRET_OF_OURS", "hunter2")
    said = tmp_path / "said"
    script = 'echo "$1 $2 $3" >"$0"; env >>"$0"; cat >>"$0"; ls -l /proc/self/fd >>"$0"'
    spec = exec_spec("sh", "-c", script, str(said), "{name}:{port}", "{other}", "$(id)")
    assert (await prober.probe(spec, 9001)).reason is Reason.OK
    text = said.read_text()
    assert text.startswith("x:9001 {other} $(id)\n")
    assert {"HEALER_COMPONENT=x", "PORT=9001"} <= set(text.splitlines())
    assert "hunter2" not in text
    assert "socket:" not in text


async def test_output_is_not_read_and_not_kept(prober, exec_spec):
    result = await prober.probe(exec_spec("sh", "-c", "head -c 9000000 /dev/zero; echo x >&2"), 1)
    assert result.reason is Reason.OK


@pytest.mark.parametrize("kind", ["missing", "not executable", "not a program", "a directory"])
async def test_what_cannot_be_started_is_unknown_with_the_systems_number(
    prober, exec_spec, tmp_path, kind
):
    file = tmp_path / "program"
    wanted = {"missing": errno.ENOENT, "not executable": errno.EACCES}.get(kind, errno.EISDIR)
    if kind == "a directory":
        file.mkdir()
    elif kind != "missing":
        file.write_text("exit 0\n")
    if kind == "not a program":  # no shell is asked to read it
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        wanted = errno.ENOEXEC
    result = await prober.probe(exec_spec(str(file)), 1)
    assert (result.reason, result.errno) == (Reason.PROBER_FAILED, wanted)
    assert result.outcome is Outcome.UNKNOWN


HANGING = (
    "trap '' TERM; sleep 600 & a=$!; setsid sleep 600 & sleep 0.1; echo $$ $a $! >\"$0\"; wait"
)


async def test_what_is_not_done_in_time_is_ended_with_all_that_it_started(
    prober, exec_spec, tmp_path, until
):
    token = str(600 + os.getpid() / 10**7)  # what tells these sleepers from others
    script = HANGING.replace("600", token)
    result = await prober.probe(
        exec_spec("sh", "-c", script, str(tmp_path / "pids"), timeout=3.0), 1
    )
    assert (result.reason, result.status) == (Reason.TIMEOUT, None)
    assert 3.0 <= result.elapsed < PATIENCE
    await until.soon(lambda: not any_says(token), PATIENCE)


async def test_a_cancelled_look_leaves_nothing_behind(prober, exec_spec, tmp_path, until):
    file = tmp_path / "pids"
    looking = asyncio.create_task(prober.probe(exec_spec("sh", "-c", HANGING, str(file)), 1))
    leader, *others = await until.soon(lambda: pids_in(file, 3), PATIENCE)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    await until.soon(lambda: not Path(f"/proc/{leader}").exists(), PATIENCE)
    await until.soon(lambda: not any(there(pid) for pid in others), PATIENCE)


async def test_a_look_can_be_cancelled_at_any_moment(exec_spec, tmp_path, until):
    """Between asking for a thread and the end of the program, wherever it is met."""
    prober = NetworkProber(agent="x", programs=LinuxPrograms(new_id=new_id, at_once=4))
    files = [tmp_path / str(number) for number in range(40)]
    looks = [
        asyncio.create_task(
            prober.probe(exec_spec("sh", "-c", 'echo $$ >"$0"; exec sleep 600', str(file)), 1)
        )
        for file in files
    ]
    for number, look in enumerate(looks):
        for _ in range(number):
            await asyncio.sleep(0)
        look.cancel()
    ended = await asyncio.gather(*looks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    # There is room again, for all four of them at once.
    well = await asyncio.gather(*(prober.probe(exec_spec("true"), 1) for _ in range(8)))
    assert {result.reason for result in well} == {Reason.OK}
    started = [pid for file in files for pid in pids_in(file, 1)]
    await until.soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), PATIENCE)


async def test_what_a_program_leaves_running_ends_with_it(prober, exec_spec, tmp_path, until):
    file = tmp_path / "pids"
    script = 'sleep 600 & echo $! >"$0"; exit 0'
    assert (await prober.probe(exec_spec("sh", "-c", script, str(file)), 1)).reason is Reason.OK
    (pid,) = pids_in(file, 1)
    await until.soon(lambda: not there(pid), PATIENCE)


async def test_too_many_at_once_wait_and_accuse_nobody(exec_spec):
    prober = NetworkProber(agent="x", programs=LinuxPrograms(new_id=new_id, at_once=1))
    hanging = asyncio.create_task(prober.probe(exec_spec("sleep", "600"), 1))
    await asyncio.sleep(0)  # it has the room
    result = await prober.probe(exec_spec("true", timeout=0.2), 1)
    assert (result.reason, result.errno) == (Reason.PROBER_FAILED, errno.EAGAIN)
    waiting = asyncio.create_task(prober.probe(exec_spec("true"), 1))
    await asyncio.sleep(0)
    hanging.cancel()
    assert (await waiting).reason is Reason.OK


async def test_many_leave_no_descriptor_and_no_child_behind(prober, exec_spec, until):
    await prober.probe(exec_spec("true"), 1)
    before = descriptors()
    results = await asyncio.gather(*(prober.probe(exec_spec("true"), 1) for _ in range(100)))
    assert {result.reason for result in results} == {Reason.OK}
    await until.soon(lambda: descriptors() <= before, PATIENCE)


async def test_a_blocked_event_loop_accuses_no_program(prober, exec_spec):
    asyncio.get_running_loop().call_later(0.2, time.sleep, 0.8)
    result = await prober.probe(exec_spec("sleep", "600", timeout=1.0), 1)
    assert result.reason is Reason.PROBER_FAILED


class Lost(Vantage):
    """A canary that is dead."""

    async def lost(self) -> bool:
        return True


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("script", ["exit 1", "kill -SEGV $$", "sleep 600"])
async def test_without_our_own_network_a_failure_says_nothing(exec_spec, host, script):
    programs = LinuxPrograms(new_id=new_id)
    prober = NetworkProber(agent="x", programs=programs, vantage=Lost())
    timeout = 3.0 if "sleep" in script else PATIENCE
    spec = exec_spec("sh", "-c", script, host=host, timeout=timeout)
    assert (await prober.probe(spec, 1)).reason is Reason.VANTAGE_LOST
    assert (await prober.probe(exec_spec("true", host=host), 1)).reason is Reason.OK


def test_an_end_of_which_nobody_tells_is_unknown(probe_in_child):
    before = f"{WITH_PROGRAMS}\nimport signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    (result,) = probe_in_child([{"port": 1, "probe": {"exec": ["false"]}}], before=before)
    assert (result["reason"], result["status"]) == ("prober_failed", None)


async def test_a_prober_that_runs_no_programs_knows_nothing(exec_spec):
    result = await NetworkProber(agent="x").probe(exec_spec("true"), 1)
    assert (result.reason, result.errno) == (Reason.PROBER_FAILED, errno.ENOSYS)


def test_without_descriptors_no_program_accuses_anybody(probe_in_child):
    asked = [{"port": 1, "probe": {"exec": ["true"]}}] * 3
    results = probe_in_child(asked, before=WITH_PROGRAMS, descriptors=64)
    assert [(each["reason"], each["errno"]) for each in results] == [
        ("prober_failed", errno.EMFILE)
    ] * 3


def test_without_room_for_a_process_nothing_is_known(probe_in_child):
    if os.geteuid() != 0:
        pytest.skip("only root may become somebody whose processes are counted anew")
    before = f"""{WITH_PROGRAMS}
import os, threading
os.setgid(61184), os.setuid(61184)
async def crowd(first=main):
    thread = threading.Thread(target=lambda: None)  # what Python needs is loaded now
    thread.start(), thread.join()
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    await first()
main = crowd
"""
    (result,) = probe_in_child([{"port": 1, "probe": {"exec": ["/bin/true"]}}], before=before)
    assert (result["reason"], result["errno"]) == ("prober_failed", errno.EAGAIN)


async def test_a_program_may_look_over_the_network_itself(prober, exec_spec):
    script = 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])))'

    async def look(port: int) -> ProbeResult:
        return await prober.probe(exec_spec("python", "-c", script, "{port}"), port)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert (await look(port)).reason is Reason.OK
    assert (await look(port)).reason is Reason.BAD_STATUS
