"""Two real healers over one log: each component is healed by one of them at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from replay.archive import open_database
from replay.verify import verify
from tests.api.ending import end_components
from tests.cli.conftest import CONFIG, House
from tests.conftest import COMPONENT, Processes, Until

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

PATIENT = 60.0
SHORT = "2s"
"""A lease for tests in which its holder stops."""

TERMINATING = (
    "SELECT 1 FROM healer.event WHERE topic = 'issue.step_started.v1' "
    "AND convert_from(body, 'UTF8')::json ->> 'action' = 'terminate'"
)


class Node(House):
    """A healer of its own name, with the component and the log that all share."""

    def __init__(
        self, directory: Path, listen: int, port: int, processes: Processes, url: str
    ) -> None:
        self.url = url
        self.name = directory.name
        directory.mkdir()
        super().__init__(directory, listen, port, processes)

    def configure(
        self,
        *,
        name: str | None = None,
        term: str = "60s",
        mode: str = "act",
        grace: str = "1s",
        stubborn: bool = False,
    ) -> Node:
        text = CONFIG.format(
            listen=self.listen, port=self.port, python=sys.executable, component=COMPONENT
        )
        # The end of a process is seen at once; a machine that is slow is no fault.
        patient = "timeout: 10s, failure_threshold: 5, start_period: 60s"
        launched = '"{port}"'
        for old, new in (
            ("node: n1", f"node: {name or self.name}"),
            ("timeout: 500ms, failure_threshold: 2", patient),
            (f"{launched}]", f"{launched}{', --ignore-sigterm' if stubborn else ''}]"),
            ("]}", f"], grace: {grace}}}\n    mode: {mode}"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        self.write(
            f'{text}\nstore: "{self.url}"\nlease: {{term: {term}}}\ntoken_file: healer.token\n'
        )
        return self

    def serve_patiently(self, until: Until) -> subprocess.Popen[bytes]:
        process = self.start()
        until(lambda: process.poll() is not None or self.ready(), PATIENT)
        assert process.poll() is None, self.log.read_text()
        return process

    def post(self, path: str, **body: Any) -> httpx.Response:
        token = (self.directory / "healer.token").read_text().strip()
        with httpx.Client(trust_env=False, timeout=280) as client:
            return client.post(
                f"http://127.0.0.1:{self.listen}/network-healer{path}",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
            )

    def pid(self) -> int | None:
        """The component's process, when it is healthy and seen from here."""
        shown = self.healthy()
        return int(shown["process"]["pid"]) if shown else None

    def another_pid(self, before: int) -> int | None:
        pid = self.pid()
        return pid if pid != before else None


async def _end(url: str) -> None:
    from healer.store.postgres import PostgresLog

    async with await asyncio.to_thread(PostgresLog.open_readonly, url) as log:
        await end_components(log)


@pytest.fixture
def nodes(
    tmp_path: Path, free_ports: Callable[[int], list[int]], processes: Processes, database: str
) -> Iterator[tuple[Node, Node]]:
    first, second, port = free_ports(3)
    a = Node(tmp_path / "a", first, port, processes, database)
    b = Node(tmp_path / "b", second, port, processes, database)
    try:
        yield a, b
    finally:
        processes.end()
        asyncio.run(_end(database))


def _asked(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return list(connection.execute(query.encode(), values).fetchall())


def _starts(url: str) -> list[int]:
    """The processes that the log says were started, in order."""
    query = (
        "SELECT (convert_from(body, 'UTF8')::json -> 'result' -> 'started' ->> 'pid')::int AS pid "
        "FROM healer.event WHERE topic = 'issue.step_succeeded.v1' ORDER BY position"
    )
    return [pid for (pid,) in _asked(url, query) if pid is not None]


def _count(url: str, topic: str) -> int:
    ((count,),) = _asked(url, "SELECT count(*) FROM healer.event WHERE topic = %s", topic)
    return int(count)


def _holder(url: str) -> str | None:
    rows = _asked(url, "SELECT node FROM healer.open_issue")
    return rows[0][0] if rows else None


def _require_whole(url: str) -> None:
    with open_database(url) as archive:
        report = verify(archive)
    assert report.ok, report.problems


@pytest.mark.timeout(300)
def test_of_two_healers_one_heals_a_crash_and_both_see_the_cure(
    nodes: tuple[Node, Node], database: str, until: Until
) -> None:
    a, b = nodes
    serving = [node.configure().serve_patiently(until) for node in nodes]
    before = until(a.pid, PATIENT) or 0
    assert until(b.pid, PATIENT) == before
    os.kill(before, signal.SIGKILL)
    after = until(lambda: a.another_pid(before), PATIENT)
    assert until(lambda: b.another_pid(before), PATIENT) == after
    assert _starts(database) == [before, after]
    assert _count(database, "issue.taken_over.v1") == 0
    assert [node.stop(each) for node, each in zip(nodes, serving, strict=True)] == [0, 0]
    _require_whole(database)


def _healing_and_looking_on(nodes: tuple[Node, Node]) -> tuple[Node, Node] | None:
    for node, other in (nodes, nodes[::-1]):
        if node.shown()["healed_by_node"] == other.name:
            return other, node
    return None


@pytest.mark.timeout(300)
def test_the_issue_of_a_killed_healer_is_taken_over_and_ended(
    nodes: tuple[Node, Node], database: str, until: Until
) -> None:
    serving = {
        node.name: node.configure(term=SHORT, mode="suggest").serve_patiently(until)
        for node in nodes
    }
    dead, heir = until(lambda: _healing_and_looking_on(nodes), PATIENT)
    # Where it is so busy here that the lease passes on right now, another one dies: as well.
    serving[dead.name].kill()
    until(lambda: _holder(database) == heir.name, PATIENT)
    shown = until(lambda: (it := heir.shown()) and it["awaits_approval"] and it, PATIENT)
    assert _count(database, "issue.detected.v1") == 1
    assert heir.post(f"/issues/{shown['open_issue']}/approve").status_code == 200
    pid = until(heir.pid, PATIENT)
    assert _starts(database) == [pid]
    assert _count(database, "issue.taken_over.v1") >= 1
    assert heir.stop(serving[heir.name]) == 0
    _require_whole(database)


@pytest.mark.timeout(300)
def test_a_healer_that_was_frozen_beyond_its_lease_does_nothing_afterwards(
    nodes: tuple[Node, Node], database: str, until: Until
) -> None:
    a, b = nodes
    frozen = a.configure(term=SHORT, grace="10m", stubborn=True).serve_patiently(until)
    before = until(a.pid, PATIENT) or 0
    answers: list[httpx.Response] = []
    # The heal waits for the end of a process that minds no SIGTERM.
    wish = {"component_name": "chat_api", "playbooks": ["restart_component"]}
    asking = threading.Thread(target=lambda: answers.append(a.post("/heal", **wish)))
    asking.start()
    try:
        until(lambda: _asked(database, TERMINATING), PATIENT)
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            heir = b.configure(term=SHORT, stubborn=True).serve_patiently(until)
            after = until(lambda: b.another_pid(before), PATIENT)
            until(lambda: _holder(database) is None, PATIENT)
            assert _count(database, "issue.taken_over.v1") == 1
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
    finally:
        asking.join(280)
    (answer,) = answers
    assert answer.status_code == 200
    assert answer.json()["state"] == "verified"
    until(lambda: a.pid() == after, PATIENT)
    assert '"event":"overtaken"' in a.log.read_text().replace('": ', '":')
    assert b.pid() == after
    assert _starts(database) == [before, after]
    ends = (
        "SELECT convert_from(body, 'UTF8')::json ->> 'node' FROM healer.event "
        "WHERE topic = 'issue.verified.v1' ORDER BY position"
    )
    assert _asked(database, ends) == [("a",), ("b",)]
    assert a.stop(frozen) == 0
    assert b.stop(heir) == 0
    _require_whole(database)


@pytest.mark.timeout(300)
def test_a_second_healer_of_the_same_name_is_refused_by_name(
    nodes: tuple[Node, Node], until: Until
) -> None:
    a, b = nodes
    serving = a.configure().serve_patiently(until)
    refused = b.configure(name="a").run("serve", "-c", str(b.config), timeout=120)
    assert refused.returncode == 2
    assert "as node 'a': a healer of that name is using it" in refused.stderr
    assert "node:" in refused.stderr
    assert a.stop(serving) == 0
