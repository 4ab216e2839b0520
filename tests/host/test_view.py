"""A look at a process: what an owner proof needs, and "cannot see" is not "has ended"."""

from __future__ import annotations

import errno
import os
import pwd
import signal

import pytest

from healer.errors import HostError
from healer.host import procfs
from healer.host.view import view

from .conftest import until

WAIT = "print('ready', flush=True); input()"


async def test_a_look_shows_each_number_and_each_name(host, program, held):
    child = program(
        "import os\n"
        "if not (pid := os.fork()):\n"
        "    os.setpgid(0, 0)\n"
        "    os.read(0, 1)\n"
        "    os._exit(0)\n"
        "print(pid, flush=True); os.waitpid(pid, 0)"
    )
    grandchild = await held(int(child.line()))
    seen = view(grandchild)
    assert seen is not None
    assert seen.identity is grandchild.identity
    assert (seen.ppid, seen.sid) == (child.pid, child.pid)
    assert seen.pgid == procfs.stat_of(grandchild.identity.pid).pgid
    assert seen.cmdline == procfs.cmdline_of(child.pid)
    assert seen.unit == procfs.unit_in(procfs.cgroup_of(child.pid))
    assert seen.user == pwd.getpwuid(os.geteuid()).pw_name
    assert seen.forbidden is None


async def test_what_may_not_be_signalled_is_shown_with_the_reason(held):
    seen = view(await held(os.getppid()))
    assert seen is not None
    assert seen.forbidden in {"ancestor", "init"}
    ours = view(await held(os.getpid()))
    assert ours is not None
    assert ours.forbidden == "healer"


class Seen:
    """A held process of which the test says who it is, and when it ends."""

    def __init__(self, identity: object, *answers: bool) -> None:
        self.identity = identity
        self._answers = [*answers]

    def gone(self) -> bool:
        return self._answers.pop(0)


async def test_who_is_stopped_is_shown_as_stopped(program, held):
    child = program(WAIT)
    child.line()
    process = await held(child.pid)
    process.signal(signal.SIGSTOP)
    await until(lambda: procfs.stat_of(child.pid).state == "T")
    seen = view(process)
    assert seen is not None
    assert seen.state == "T"


@pytest.mark.parametrize(
    ("uid", "name"),
    [(None, None), (0, "root"), (2**31 - 7, None)],
    ids=["unknown", "root", "without a name"],
)
async def test_a_user_is_shown_by_name_where_there_is_one(program, held, uid, name):
    child = program(WAIT)
    child.line()
    identity = (await held(child.pid)).identity.model_copy(update={"uid": uid})
    seen = view(Seen(identity, False))
    assert seen is not None
    assert seen.user == name


async def test_what_is_in_a_unit_is_shown_with_it(program, held):
    child = program(WAIT)
    child.line()
    cgroup = "/system.slice/nginx.service"
    identity = (await held(child.pid)).identity.model_copy(update={"cgroup": cgroup})
    seen = view(Seen(identity, False))
    assert seen is not None
    assert seen.unit == "nginx.service"


async def test_who_has_ended_is_not_shown(program, held):
    child = program("raise SystemExit(3)")
    process = await held(child.pid)
    await process.exited()
    assert view(process) is None


async def test_who_ends_during_the_look_is_not_shown(program, held):
    child = program(WAIT)
    child.line()
    identity = (await held(child.pid)).identity
    assert view(Seen(identity, True)) is None
    assert view(Seen(identity, False)) is not None


async def test_who_lives_and_is_not_shown_by_proc_is_not_taken_for_ended(
    program, held, monkeypatch
):
    child = program(WAIT)
    child.line()
    process = await held(child.pid)

    def hide(_: int) -> procfs.Stat:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(procfs, "stat_of", hide)
    with pytest.raises(HostError) as refused:
        view(process)
    assert str(refused.value) == f"cannot see {process.identity} in /proc"
    assert refused.value.errno == errno.EACCES
