"""Managers that the launchers can drive in a test: real ones, and recording stand-ins for the
clients whose servers cannot run here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

_STOPPING = 20.0
"""Seconds for supervisord to end with its programs."""

Script = Callable[[str, str], Path]

_PRELUDE = """\
#!/bin/sh
# Every call is recorded, one line each; the service is a real process.
home={home}
for word in "$@"; do printf '%s ' "$word" >> $home/calls; done
echo >> $home/calls
running() {{ test -s $home/pid && kill -0 $(cat $home/pid) 2>/dev/null; }}
up() {{ running || {{ setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $! > $home/pid; }}; }}
down() {{ running && kill $(cat $home/pid); rm -f $home/pid; }}
if test -e $home/say; then cat $home/say; exit $(cat $home/code); fi
"""

_SYSTEMCTL = """\
test "$1" = --user && shift
test "$1" = --no-ask-password && shift
case $1 in
  start) up ;;
  stop) down ;;
  show) printf 'MainPID=%s\\nActiveState=%s\\nSubState=s\\nResult=exit-code\\nNRestarts=3\\n' \\
    $(cat $home/pid) $(cat $home/state 2>/dev/null || echo active) ;;
esac
exit 0
"""

_DOCKER = """\
case $1 in
  start) up; echo $2 ;;
  stop) down; echo $4 ;;
  inspect) echo $(cat $home/id 2>/dev/null || echo 0123abcd) \\
    $(cat $home/state 2>/dev/null || echo running) $(cat $home/pid) 3 ;;
esac
"""


class FakeClient:
    """A client that records how it was called and keeps a real process for its server."""

    def __init__(self, binary: Path) -> None:
        self.binary = str(binary)
        self._home = binary.parent

    @property
    def calls(self) -> list[str]:
        path = self._home / "calls"
        return [line.strip() for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def pid(self) -> int | None:
        path = self._home / "pid"
        return int(path.read_text()) if path.exists() else None

    def answer(self, text: str, code: int) -> None:
        """From now on every call says `text` and ends with `code`."""
        (self._home / "say").write_text(text)
        (self._home / "code").write_text(str(code))

    def report(self, name: str, value: str) -> None:
        """What the server says of the service: `state`, `id`."""
        (self._home / name).write_text(value)


def fake_systemctl(script: Script, home: Path) -> FakeClient:
    return FakeClient(script("systemctl", _PRELUDE.format(home=home) + _SYSTEMCTL))


def fake_docker(script: Script, home: Path) -> FakeClient:
    return FakeClient(script("docker", _PRELUDE.format(home=home) + _DOCKER))


def supervisor_program(name: str) -> str:
    """The path of a program of supervisor; skips the test where it is not installed."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install supervisor)")
    return found


@contextmanager
def supervisord(home: Path) -> Iterator[Path]:
    """A real supervisord on a unix socket; gives its configuration file.

    Programs: `api` runs, `dies` ends at once, `group:inner` runs in a group.
    """
    program = supervisor_program("supervisord")
    config = home / "supervisord.conf"
    config.write_text(
        dedent(
            f"""\
            [supervisord]
            logfile={home}/supervisord.log
            pidfile={home}/supervisord.pid
            childlogdir={home}
            nodaemon=true
            [unix_http_server]
            file={home}/supervisor.sock
            [rpcinterface:supervisor]
            supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
            [supervisorctl]
            serverurl=unix://{home}/supervisor.sock
            [program:api]
            command=sleep 60
            autostart=false
            autorestart=false
            startsecs=0
            [program:dies]
            command=false
            autostart=false
            startretries=0
            [program:inner]
            command=sleep 60
            autostart=false
            autorestart=false
            startsecs=0
            [group:group]
            programs=inner
            """
        )
    )
    log = home / "output"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [program, "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
        ) as server,
    ):
        assert server.stdout is not None
        try:
            for line in server.stdout:  # it says so when it is up, and ends when it cannot
                if b"supervisord started with pid" in line:
                    break
            assert server.poll() is None, log.read_text()
            yield config
        finally:
            server.terminate()
            server.wait(_STOPPING)
