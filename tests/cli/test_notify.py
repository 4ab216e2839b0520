"""What systemd hears, on a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from healer.cli.notify import Notifier, pulse
from tests.cli.conftest import House
from tests.conftest import Until


class Manager:
    """Hears what a service manager would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.heard: list[dict[str, str]] = []

    def listen(self) -> list[dict[str, str]]:
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.split("\n")))

    def fields(self, name: str) -> list[str]:
        return [each[name] for each in self.listen() if name in each]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_each_message_is_one_datagram(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(manager.path)})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    notifier.ready("two\nlines")
    notifier.extend(1.5)
    notifier.stopping()
    reloading, ready, extend, stopping = manager.listen()
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) < before + 60_000_000
    assert ready == {"READY": "1", "STATUS": "two lines"}
    assert extend == {"EXTEND_TIMEOUT_USEC": "1500000"}
    assert stopping["STOPPING"] == "1"


def test_without_a_manager_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        Notifier(environ).ready("fine")


def test_the_abstract_namespace_is_reached() -> None:
    name = f"healer-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert channel.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_or_none(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog == seconds


async def test_a_log_that_does_not_work_starves_the_watchdog(
    manager: Manager, until: Until
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "20000"})
    lags: list[float] = []
    works = True
    beating = asyncio.create_task(pulse(notifier, works=lambda: works, lagged=lags.append))
    await until.soon(lambda: len(manager.fields("WATCHDOG")) >= 2)
    works = False
    heard, beats = len(manager.fields("WATCHDOG")), len(lags)
    await until.soon(lambda: len(lags) >= beats + 3)
    assert len(manager.fields("WATCHDOG")) == heard
    works = True
    time.sleep(0.3)  # noqa: ASYNC251 - the loop is held up on purpose
    await until.soon(lambda: max(lags) > 0.2)
    beating.cancel()


def test_the_daemon_says_when_it_is_ready_alive_and_ending(
    house: House, until: Until, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    process = house.serve(until)
    until(lambda: manager.fields("READY"))
    until(lambda: len(manager.fields("WATCHDOG")) >= 2)
    component = until(house.healthy)["process"]["pid"]
    environment = Path(f"/proc/{component}/environ").read_bytes()
    assert b"NOTIFY_SOCKET" not in environment
    assert house.stop(process) == 0
    assert manager.fields("STOPPING") == ["1"]
    assert manager.fields("STATUS")[0] == "watching 1 component"
