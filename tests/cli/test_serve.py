"""The daemon, as a process among processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cli.conftest import PATIENCE, House, environment
from tests.conftest import Processes, Until


def test_it_starts_heals_tells_stops_and_finds_its_component_again(
    house: House, until: Until
) -> None:
    first = house.serve(until)
    process = until(house.healthy)["process"]
    os.kill(process["pid"], signal.SIGKILL)

    def healed() -> dict[str, object] | None:
        shown = house.healthy()
        return shown if shown and shown["process"]["pid"] != process["pid"] else None

    until(healed)
    records = house.get("/network-healer/history?component_name=chat_api").json()["records"]
    assert [record["issue_type"] for record in records] == ["process_crashed", "port_not_listening"]
    assert records[0]["outcome"] == "healed"
    assert records[0]["playbooks_executed"] == ["restart_component"]
    stats = house.get("/network-healer/stats").json()
    assert (stats["total_healings"], stats["success_rate"]) == (2, 100.0)

    healed_pid = house.shown()["process"]["pid"]
    assert house.stop(first) == 0
    assert (Path("/proc") / str(healed_pid)).exists()

    second = house.serve(until)
    assert until(house.healthy)["process"]["pid"] == healed_pid
    records = house.get("/network-healer/history").json()["records"]
    assert len(records) == 2
    assert house.stop(second) == 0
    lines = [json.loads(line) for line in house.log.read_text().splitlines()]
    assert lines[0]["event"] == "listening"
    assert lines[-1]["event"] == "stopped"


def test_the_token_is_made_once_and_opens_what_acts(house: House, until: Until) -> None:
    process = house.serve(until)
    file = house.directory / "healer.token"
    token = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    url = f"http://127.0.0.1:{house.listen}/network-healer/initialize"
    with httpx.Client(trust_env=False, timeout=120) as client:
        assert client.post(url).status_code == 401
        answer = client.post(url, headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["already_running"] is True
    assert "server" not in answer.headers
    assert house.stop(process) == 0
    house.stop(house.serve(until))
    assert file.read_text().strip() == token


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /network-healer/stats HTTP/1.1\r\nHost: evil.example\r\n", b"421"),
        (b"GET /network-healer/stats HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n", b"400"),
        (b"GET /network-healer/stats HTTP/1.1\r\n", b"400"),
        (b"GET http://evil.example/network-healer/stats HTTP/1.1\r\nHost: {own}\r\n", b"400"),
        (b"GET /network-healer/stats HTTP/1.1\r\nHost: {own}\r\n", b"200"),
        (b"POST /network-healer/auto-heal HTTP/1.1\r\nHost: {own}\r\n", b"401"),
        (
            b"POST /network-healer/heal HTTP/1.1\r\nHost: {own}\r\nContent-Type: text/plain\r\n"
            b"Origin: http://evil.example\r\nContent-Length: 2\r\n",
            b"403",
        ),
    ],
)
def test_the_guard_stands_in_the_real_server(serving: House, head: bytes, status: bytes) -> None:
    own = f"127.0.0.1:{serving.listen}".encode()
    with socket.create_connection(("127.0.0.1", serving.listen), 10) as connection:
        connection.sendall(head.replace(b"{own}", own) + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.split(b" ", 2)[1] == status


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> object:
    """One healer for all that only ask."""
    listen, port = request.getfixturevalue("free_ports")(2)
    house = House(tmp_path_factory.mktemp("serving"), listen, port, Processes())
    try:
        house.serve(request.getfixturevalue("until"))
        yield house
    finally:
        house.end()


def test_events_are_streamed_and_resumed(serving: House) -> None:
    url = f"http://127.0.0.1:{serving.listen}/network-healer/events"

    def first(**options: object) -> dict[str, object]:
        with (
            httpx.Client(trust_env=False, timeout=120) as client,
            client.stream("GET", url, **options) as stream,  # type: ignore[arg-type]
        ):
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    found: dict[str, object] = json.loads(line.removeprefix("data: "))
                    return found
        raise AssertionError("the stream ended")

    assert first(params={"after": 0})["position"] == 1
    assert first(params={"after": 0})["type"] == "component.registered.v1"
    assert first(params={"after": 0}, headers={"Last-Event-ID": "2"})["position"] == 3


def test_a_stream_does_not_keep_the_healer_from_stopping(house: House, until: Until) -> None:
    process = house.serve(until)
    url = f"http://127.0.0.1:{house.listen}/network-healer/events?after=0"
    with (
        httpx.Client(trust_env=False, timeout=120) as client,
        client.stream("GET", url) as stream,
    ):
        next(stream.iter_lines())
        assert house.stop(process) == 0


def test_a_reader_that_never_reads_does_not_either(house: House, until: Until) -> None:
    process = house.serve(until)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", house.listen))
        head = f"GET /network-healer/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1:{house.listen}"
        reader.sendall(f"{head}\r\n\r\n".encode())
        until(lambda: "healer_event_streams_open 1.0" in house.get("/metrics").text)
        assert house.stop(process) == 0
    assert "timeout graceful shutdown exceeded" not in house.log.read_text()


def test_an_interrupt_stops_as_well(house: House, until: Until) -> None:
    process = house.serve(until)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_the_first_signal_waits_for_what_is_in_flight_and_the_second_kills(
    house: House, until: Until
) -> None:
    """A component that ignores SIGTERM keeps a heal in flight for its whole grace."""
    text = house.config.read_text().replace('"{port}"]', '"{port}", --ignore-sigterm], grace: 10s')
    house.write(text)
    process = house.serve(until)
    until(house.healthy)
    house.json("heal", "chat_api", "--issue-type", "process_crashed", "--no-wait")
    until(lambda: house.shown()["healing"])
    process.send_signal(signal.SIGTERM)
    until(lambda: '"stopping"' in house.log.read_text())
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM


DYING = """
import sys
from functools import partial
from pathlib import Path
from healer.bootstrap import build
from healer.cli.serve import serve

class Broken:
    async def probe(self, spec, port):
        raise RuntimeError("a defect of the prober")

sys.exit(serve(Path(sys.argv[1]), assemble=partial(build, prober=Broken())))
"""


def test_a_healer_does_not_go_on_without_one_of_its_keepers(house: House) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DYING, str(house.config)],
        cwd=house.directory, env=environment(), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    events = [json.loads(line)["event"] for line in ran.stderr.splitlines()]
    assert "keeper_died" in events
    assert events[-1] == "daemon_failed"


def test_a_port_that_is_taken_touches_no_component(house: House) -> None:
    with socket.create_server(("127.0.0.1", house.listen)):
        ran = house.run("serve")
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        f"healer: cannot listen on 127.0.0.1 port {house.listen}: Address already in use; "
        "allowed: a free port in 'listen'"
    ]
    assert [each.name for each in house.directory.iterdir()] == ["healer.yaml"]


PARENT = """
import socket, subprocess, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


def test_an_ancestor_on_the_port_is_left_alone_whatever_the_configuration_says(
    house: House, processes: Processes, until: Until
) -> None:
    house.write(
        house.config.read_text() + "    evict_foreign: true\n    owner: {cmdline: create_server}\n"
    )
    serve = (sys.executable, "-m", "healer", "serve", "-c", str(house.config))
    parent = processes.start(
        sys.executable,
        "-c",
        PARENT,
        str(house.port),
        *serve,
        cwd=house.directory,
        env=environment(),
    )
    until(house.ready, PATIENCE)
    history = "/network-healer/history?component_name=chat_api"
    until(lambda: "evict: failed (forbidden_listener)" in house.get(history).text, PATIENCE)
    (healer,) = psutil.Process(parent.pid).children()
    healer.terminate()
    assert parent.wait(PATIENCE) == 0


def test_a_log_that_another_healer_holds_is_refused(
    house: House, until: Until, free_port: int
) -> None:
    process = house.serve(until)
    pid = until(house.healthy)["process"]["pid"]
    other = house.directory / "other.yaml"
    other.write_text(
        house.config.read_text().replace(
            f"listen: 127.0.0.1:{house.listen}", f"listen: 127.0.0.1:{free_port}"
        )
    )
    ran = house.run("serve", "-c", str(other))
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line == (
        f"healer: cannot open {house.directory}/healer.db: another healer (pid {process.pid}) "
        "is using it"
    )
    assert house.shown()["process"]["pid"] == pid


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("listen: 0.0.0.0:8000", "cannot listen on 0.0.0.0: "),
        ("listen: '[::]:8000'", "cannot listen on ::: "),
        ("store: sqlite:///missing/dir/healer.db", "cannot open "),
        ("store: mysql://u:secret@h/db", "the scheme 'mysql' cannot be used"),
        ("token_file: bad.token", "others may use it too (mode 0644)"),
    ],
)
def test_what_cannot_be_served_is_one_line(house: House, change: str, expected: str) -> None:
    (house.directory / "bad.token").write_text("x")
    (house.directory / "bad.token").chmod(0o644)
    key = change.partition(":")[0]
    text = house.config.read_text().splitlines()
    house.write("\n".join([change, *(line for line in text if not line.startswith(f"{key}:"))]))
    ran = house.run("serve")
    assert ran.returncode == 2
    assert ran.stdout == ""
    # The daemon's own lines are JSON here.
    (line,) = [line for line in ran.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("healer: cannot")
    assert expected in line
    assert "secret" not in line
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", house.port)) != 0
