"""A real healer whose database goes away: it does nothing that it cannot record, says so, and goes
on by itself."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest

from replay.archive import open_database
from replay.verify import verify
from tests.api.ending import end_components
from tests.cli.conftest import CONFIG, House
from tests.conftest import COMPONENT, Processes, Until
from tests.store.cluster import PASSWORD, Cluster

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

PATIENT = 40.0


class Wire:
    """A wire to the server that can be cut: connections stay, and nothing comes through."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._whole = threading.Event()
        self._whole.set()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(self._listener)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._whole.set()
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def url(self, database: str) -> str:
        """The same database, through here."""
        name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
        return (
            f"postgresql://healer:{quote(PASSWORD, '')}@127.0.0.1:{self.port}/{name}"
            "?sslmode=disable&gssencmode=disable"
        )

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += [near, far]
            self._start(lambda near=near, far=far: self._carry(near, far))  # type: ignore[misc]
            self._start(lambda near=near, far=far: self._carry(far, near))  # type: ignore[misc]

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                self._whole.wait()
                sink.sendall(data)
        finally:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _start(work: Callable[[], None]) -> None:
        def quietly() -> None:
            # A connection that ended, on either side, is what a wire is for.
            with suppress(OSError):
                work()

        threading.Thread(target=quietly, daemon=True).start()


class Outage(House):
    """A healer with one component, whose log is on a server."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.url = ""

    def keep_log_in(self, url: str) -> None:
        self.url = url
        text = CONFIG.format(
            listen=self.listen, port=self.port, python=sys.executable, component=COMPONENT
        )
        # The end of a process is seen at once; a machine that is slow is no fault.
        patient = "timeout: 10s, failure_threshold: 5"
        text = text.replace("timeout: 500ms, failure_threshold: 2", patient)
        assert patient in text
        self.write(f'{text}\nstore: "{url}"\nwitness: witness\n')

    def writable(self) -> float:
        found = re.search(r"^healer_log_writable (\S+)$", self.get("/metrics").text, re.MULTILINE)
        assert found
        return float(found[1])

    def listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


async def _end(url: str) -> None:
    from healer.store.postgres import PostgresLog

    async with await asyncio.to_thread(PostgresLog.open_readonly, url) as log:
        await end_components(log)


@pytest.fixture
def outage(
    tmp_path: Path,
    free_ports: Callable[[int], list[int]],
    processes: Processes,
    cluster: Cluster,
    database: str,
) -> Iterator[Outage]:
    listen, port = free_ports(2)
    house = Outage(tmp_path, listen, port, processes)
    try:
        yield house
    finally:
        house.end()
        asyncio.run(_end(database))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["restart", "crash", "cut"])
def test_a_healer_waits_for_its_database_and_goes_on_by_itself(
    outage: Outage, cluster: Cluster, database: str, until: Until, kind: str
) -> None:
    with Wire(cluster.port) as wire:
        away, back = {
            "restart": (cluster.stop, cluster.start),
            "crash": (cluster.crash, cluster.start),
            "cut": (wire.cut, wire.mend),
        }[kind]
        outage.keep_log_in(wire.url(database) if kind == "cut" else database)
        healer = outage.start()
        until(outage.ready, PATIENT)
        before = until(outage.healthy, PATIENT)["process"]["pid"]
        assert outage.writable() == 1
        away()
        try:
            os.kill(before, signal.SIGKILL)
            until(lambda: "cannot be written" in outage.get("/readyz").text, PATIENT)
            assert outage.get("/readyz").status_code == 503
            assert outage.writable() == 0
            # What cannot be recorded is not done.
            assert not outage.listening()
        finally:
            back()
        after = until(lambda: _another(outage.healthy(), before), PATIENT)
        until(outage.ready, PATIENT)
        assert outage.writable() == 1
        assert outage.stop(healer) == 0
    with open_database(database) as archive:
        report = verify(archive, witness=outage.directory / "witness")
    assert report.ok, report.problems
    assert report.witnessed == report.events
    starts = _started(database)
    assert {before, after} <= set(starts)
    assert len(starts) == len(set(starts))


def _another(shown: dict[str, Any] | None, pid: int) -> int | None:
    found = shown["process"]["pid"] if shown else pid
    return None if found == pid else int(found)


def _started(url: str) -> list[int]:
    """The processes that the log says were started."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT (convert_from(body, 'UTF8')::json -> 'result' -> 'started' ->> 'pid')::int "
            "FROM healer.event WHERE topic = 'issue.step_succeeded.v1' ORDER BY position"
        ).fetchall()
    return [pid for (pid,) in rows if pid is not None]
