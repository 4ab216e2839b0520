"""A PostgreSQL of our own: made, started, stopped and broken by the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import psutil

__all__ = ["PASSWORD", "SHARED", "Cluster", "find_programs"]

PASSWORD: Final = "s3cr3t%&/x"  # noqa: S105 - of a server that lives as long as its test
"""Wanted over TCP only."""

SHARED: Final = "HEALER_TEST_SERVER"
"""Names a server, as PORT:DIRECTORY, that several runs of tests use one after the other: to plant a
mistake takes less than to start one. No test may stop it or change what belongs to all of it."""

_OWNERS: Final = ("postgres", "nobody")
_SETTINGS: Final = """
shared_buffers = 16MB
max_connections = 60
wal_level = minimal
max_wal_senders = 0
autovacuum = off
log_line_prefix = '%m [%p] '
"""


def find_programs() -> Path | None:
    """The directory of initdb, pg_ctl and postgres of the newest version, or None."""

    def version(directory: Path) -> list[int]:
        return [int(part) for part in directory.parent.name.split(".") if part.isdigit()]

    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    wanted = ("initdb", "pg_ctl", "postgres")
    return next(
        (each for each in candidates if all((each / name).exists() for name in wanted)), None
    )


class Cluster:
    """A server on a unix socket and, with a password, on 127.0.0.1:`port`.

    PostgreSQL refuses to run as root; then it runs as a user who owns nothing else here. With
    `running`, the directory of one that somebody else started and will remove.
    """

    def __init__(
        self, programs: Path, port: int, *, tcp: bool = True, running: Path | None = None
    ) -> None:
        self.port = port
        self._programs = programs
        if running is not None:
            self.directory = running
            return
        # Not below pytest's directory, which only we may enter; and a socket's path must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="healer-pg-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = _owner()
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._data = self.directory / "data"
        password = self.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb",
            *("--pgdata", str(self._data), "--username", "healer", "--pwfile", str(password)),
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-locale", "--no-sync"),
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
            settings.write(f"unix_socket_directories = '{self.directory}'\n")
            address = "127.0.0.1" if tcp else ""
            settings.write(f"listen_addresses = '{address}'\nport = {port}\n")

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._control("start", "--log", str(self.directory / "server.log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop, and wait for the end; `immediate` is what a crash is like."""
        self._control("stop", "--mode", mode)

    def crash(self) -> None:
        """SIGKILL to the server, and wait until the last of its processes has seen that."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid)
        others = server.children(recursive=True)
        server.kill()
        _, alive = psutil.wait_procs([server, *others], timeout=120)
        assert not alive

    def remove(self) -> None:
        """Stop it if it runs, and leave nothing behind."""
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.directory)

    def url(self, database: str, user: str = "healer") -> str:
        """How to reach `database` through the socket."""
        return f"postgresql:///{database}?host={self.directory}&port={self.port}&user={user}"

    def _control(self, action: str, *options: str) -> None:
        self._run("pg_ctl", action, "--pgdata", str(self._data), "--wait", *options)

    def _run(self, program: str, *arguments: str) -> None:
        # Not a pipe: the server keeps what it inherits, open for as long as it lives.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._programs / program), *arguments],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
                **self._as,
            )
            output.seek(0)
            assert done.returncode == 0, f"{program}: {output.read().decode()}"


def _owner() -> pwd.struct_passwd:
    for name in _OWNERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError(f"cannot run PostgreSQL: none of the users {_OWNERS} exists")
