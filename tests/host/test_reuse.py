"""A pid that comes to mean another process: forced, in a PID namespace of the test's own.

That who looks at less would be taken in is shown by the controls of `tests/soak/pid_reuse.py`.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest

ROUNDS = 50
OPTIONS = ("--pid", "--fork", "--mount-proc", "--kill-child")

SCRIPT = """
import asyncio, json, os, signal, sys
import concurrent.futures.thread
from pathlib import Path
from healer.domain.process import Launch
from healer.host.linux import LinuxHost

LAST = Path("/proc/sys/kernel/ns_last_pid")

def child(pid=None):
    if pid is not None:
        LAST.write_text(str(pid - 1))
    born = os.fork()
    if born == 0:
        os.setsid()
        signal.pause()
        os._exit(0)
    return born

async def main():
    host = LinuxHost()
    seen = {"rounds": 0, "reacquired": 0, "signalled": 0, "adopted": 0}
    for _ in range(int(sys.argv[1])):
        victim = await host.hold(child())
        victim.signal(signal.SIGKILL)
        await victim.exited()
        innocent = await host.hold(child(victim.identity.pid))
        if innocent.identity.pid != victim.identity.pid:
            sys.exit("the pid was not reused")
        seen["rounds"] += 1
        seen["reacquired"] += await host.reacquire(victim.identity) is not None
        seen["signalled"] += victim.signal(signal.SIGKILL)
        stopped = await host.stop([victim], grace=0)
        seen["signalled"] += innocent.gone() or stopped.stopped != (victim.identity,)
        launch = Launch(launch_id="of the victim", leader=victim.identity)
        seen["adopted"] += len(await host.members(launch))
        innocent.signal(signal.SIGKILL)
        await innocent.exited()
        for one in (victim, innocent):
            one.close()
    print(json.dumps(seen))

try:
    LAST.write_text(LAST.read_text())
except OSError as error:
    print(json.dumps({"refused": error.strerror}))
else:
    asyncio.run(main())
"""


def test_a_reused_pid_is_never_taken_for_the_process_that_had_it():
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare")
    done = subprocess.run(
        [unshare, *OPTIONS, sys.executable, "-c", SCRIPT, str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip(f"a PID namespace is not to be had: {done.stderr.strip()}")
    assert done.returncode not in {-signal.SIGKILL, 1}, done.stderr
    seen = json.loads(done.stdout)
    if "refused" in seen:
        pytest.skip(f"the next pid cannot be chosen here: {seen['refused']}")
    assert seen["rounds"] == ROUNDS
    assert (seen["reacquired"], seen["signalled"], seen["adopted"]) == (0, 0, 0)
