"""Stopping: believed only when the pidfds say so, and refused for what must never be signalled."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from healer.errors import HostError
from healer.host import procfs
from healer.host.linux import LinuxHost
from healer.host.process import PidfdProcess
from healer.host.termination import wait_gone

from .conftest import unprivileged, until, zombie

READY = "print('ready', flush=True); "
OBEDIENT = READY + "import time; time.sleep(600)"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    + READY
    + "time.sleep(600)"
)


async def test_an_obedient_process_ends_on_sigterm(host, program, held):
    child = program(OBEDIENT)
    child.line()
    process = await held(child.pid)
    stopped = await host.stop([process], grace=5)
    assert stopped.stopped == (process.identity,)
    assert stopped.killed == stopped.unkillable == ()
    assert process.gone()
    assert (await process.exited()).signal == signal.SIGTERM


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(host, program, held):
    deaf, obedient = program(DEAF), program(OBEDIENT)
    deaf.line(), obedient.line()
    processes = [await held(deaf.pid), await held(obedient.pid)]
    begun = time.monotonic()
    stopped = await host.stop(processes, grace=0.2)
    assert time.monotonic() - begun >= 0.2
    assert stopped.stopped == tuple(process.identity for process in processes)
    assert stopped.killed == (processes[0].identity,)
    assert all(process.gone() for process in processes)


async def test_a_stopped_process_is_killed_without_waiting_for_its_grace(host, program, held):
    child = program(OBEDIENT)
    child.line()
    process = await held(child.pid)
    process.signal(signal.SIGSTOP)
    await until(lambda: procfs.stat_of(child.pid).state == "T")
    begun = time.monotonic()
    stopped = await host.stop([process], grace=30)
    assert time.monotonic() - begun < 10
    assert stopped.killed == (process.identity,)


async def test_a_zombie_is_gone_already(host, program, held):
    child = program("pass")
    await until(lambda: zombie(child.pid))
    process = await held(child.pid)
    stopped = await host.stop([process], grace=5)
    assert stopped.stopped == (process.identity,)
    assert stopped.killed == ()


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A cgroup of the old freezer, whose frozen processes not even SIGKILL ends."""
    cgroup = Path(f"/sys/fs/cgroup/freezer/healer-test-{os.getpid()}")
    try:
        cgroup.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup v1 freezer to be had: {error.strerror}")
    yield cgroup
    cgroup.rmdir()


async def test_what_sigkill_does_not_end_is_unkillable(freezer, program, held):
    child = program(OBEDIENT)
    child.line()
    process = await held(child.pid)
    (freezer / "cgroup.procs").write_text(str(child.pid))
    (freezer / "freezer.state").write_text("FROZEN")
    try:
        stopped = await LinuxHost(kill_wait=0.2).stop([process], grace=0.05)
        assert stopped.unkillable == (process.identity,)
        assert stopped.stopped == stopped.killed == ()
        assert not process.gone()
    finally:
        (freezer / "freezer.state").write_text("THAWED")
    await asyncio.wait_for(process.exited(), 60)


async def test_what_is_traced_is_killed_without_waiting_for_its_grace(host, program, held):
    """A debugger has stopped it, and only the debugger lets it act on SIGTERM."""
    tracer = program(
        "import ctypes, os, signal, time\n"
        "libc = ctypes.CDLL(None)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    libc.ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(600)\n"
        "os.waitpid(pid, os.WUNTRACED)\n"
        "print(pid, flush=True); time.sleep(600)\n"
    )
    pid = int(tracer.line())
    if procfs.stat_of(pid).state != "t":
        pytest.skip("tracing is not permitted here")
    process = await held(pid)
    stopped = await host.stop([process], grace=600)
    assert stopped.killed == (process.identity,)


class Fleeting(PidfdProcess):
    """A process that ended right after it was looked at for the first time."""

    looked = False

    def gone(self) -> bool:
        if not self.looked:
            self.looked = True
            return False
        return super().gone()


@pytest.mark.parametrize("reaped", [False, True])
async def test_what_ends_before_the_signal_is_stopped_and_not_killed(host, program, held, reaped):
    child = program("pass")
    await until(lambda: zombie(child.pid))
    process = await held(child.pid)
    fleeting = Fleeting(os.pidfd_open(child.pid), process.identity)
    if reaped:
        await process.exited()
    stopped = await host.stop([fleeting], grace=5)
    fleeting.close()
    assert stopped.stopped == (process.identity,)
    assert stopped.killed == stopped.unkillable == ()


async def test_what_lives_and_cannot_be_seen_is_not_signalled(host, program, held):
    gone, child = program("pass"), program(OBEDIENT)
    process = await held(gone.pid)
    await process.exited()
    unseen = PidfdProcess(os.pidfd_open(child.pid), process.identity)
    with pytest.raises(HostError) as refused:
        await host.stop([unseen], grace=0)
    assert str(refused.value) == f"cannot signal {process.identity}: it cannot be seen"
    assert refused.value.errno in {errno.ENOENT, errno.ESRCH}
    assert not unseen.gone()
    unseen.close()


async def test_no_wait_is_left_behind_for_what_does_not_end(program, held):
    child = program(DEAF)
    child.line()
    process = await held(child.pid)
    process.signal(signal.SIGTERM)
    assert await wait_gone([process], timeout=0) == (process,)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nothing_to_stop_is_nothing_stopped(host):
    stopped = await host.stop([], grace=5)
    assert stopped.stopped == stopped.killed == stopped.unkillable == ()


async def test_a_stop_that_is_cancelled_leaves_no_wait_behind(host, program, held):
    child = program(DEAF)
    child.line()
    process = await held(child.pid)
    stop = asyncio.ensure_future(host.stop([process], grace=30))
    await asyncio.sleep(0.02)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert not process.gone()
    assert (await host.stop([process], grace=0)).killed == (process.identity,)


def test_neither_the_healer_nor_its_parent_is_signalled(program):
    """They are a program's of their own: were they signalled, it would be them and not this run."""
    parent = program(
        "import asyncio, os, subprocess\n"
        "from healer.errors import HostError\n"
        "from healer.host.linux import LinuxHost\n"
        "async def main():\n"
        "    host = LinuxHost()\n"
        "    for pid in (os.getppid(), os.getpid()):\n"
        "        innocent = subprocess.Popen(['sleep', '600'])\n"
        "        held = [await host.hold(innocent.pid), await host.hold(pid)]\n"
        "        view = await host.inspect(held[1])\n"
        "        try:\n"
        "            await host.stop(held, grace=0)\n"
        "        except HostError as error:\n"
        "            print(f'{view.forbidden}|{error}|{held[0].gone()}', flush=True)\n"
        "        innocent.kill(); innocent.wait()\n"
        "if os.fork(): os.wait(); input()\n"
        "else: asyncio.run(main()); os._exit(0)\n"
    )
    for reason in ("ancestor", "healer"):
        forbidden, error, gone = parent.line().split("|")
        assert forbidden == reason
        assert error.startswith("cannot signal ")
        assert error.endswith(f": forbidden ({reason})")
        assert gone == "False", "none was signalled"


@pytest.mark.parametrize(
    ("flag", "reason"), [(0x40000000, "network_namespace"), (0x20000000, "pid_namespace")]
)
async def test_a_process_of_another_namespace_is_refused(  # noqa: PLR0917 - fixtures go by name
    host, program, held, strays, flag, reason
):
    parent = program(
        "import ctypes, os, sys, time\n"
        "if ctypes.CDLL(None).unshare(int(sys.argv[1])) != 0: raise SystemExit\n"
        "pid = os.fork()\n"
        "if pid == 0: time.sleep(600)\n"
        "print(pid, flush=True); time.sleep(600)",
        str(flag),
    )
    line = parent.line()
    if not line:
        pytest.skip("making a namespace is not permitted here")
    process = await held(strays.add(int(line)))
    view = await host.inspect(process)
    assert view is not None
    assert view.forbidden == reason
    with pytest.raises(HostError, match=reason):
        await host.stop([process], grace=0)
    assert not process.gone()


async def test_without_the_right_to_signal_one_none_is_signalled(program, held, host):
    nobody = program("import os; os.setuid(65534); os.execv('/bin/sleep', ['sleep', '600'])")
    await until(lambda: procfs.stat_of(nobody.pid).name == "sleep")
    processes = [await held(nobody.pid), await held(program(OBEDIENT).pid)]
    with unprivileged(), pytest.raises(HostError, match=r"forbidden \(unreadable\)$"):
        await host.stop(processes, grace=0)
    assert not any(process.gone() for process in processes)
