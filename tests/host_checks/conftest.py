"""Real listeners, and network namespaces of the tests' own."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from healer.domain.playbook import Check
from healer.domain.process import Listener
from healer.host.checks import Checks

Listen = Callable[..., int]
InNamespace = Callable[..., Check]

_ROOT = Path(__file__).parents[2]

# Runs in a namespace of its own: first the commands that break it, then one check. The fact
# `connected` is the kernel's own answer, for the check to be compared with.
_PROGRAM = """
import asyncio, json, socket, subprocess, sys
from healer.domain.spec import ComponentSpec
from healer.host.checks import Checks

async def nobody(port):
    return ()

async def main():
    order = json.loads(sys.argv[1])
    for command, text in order["setup"]:
        subprocess.run(
            command, input=text, text=True, check=True, stdout=subprocess.DEVNULL
        )
    server = socket.create_server(("127.0.0.1", 99))
    clients = [socket.create_connection(("127.0.0.1", 99)) for _ in range(order["clients"])]
    spec = ComponentSpec(name="shop", host=order["host"], port=order["port"])
    check = await Checks(nobody).run(order["check"], spec, spec.port)
    connected = reached(order["host"], order["port"])
    facts = {**check.facts, "connected": connected}
    print(check.model_copy(update={"facts": facts}).model_dump_json())

def reached(host, port):
    try:
        with socket.create_server((host, port)), socket.socket() as client:
            client.settimeout(0.3)
            client.connect((host, port))
    except OSError:
        return False
    return True

asyncio.run(main())
"""


class Sockets:
    """Listening sockets of this test, told as the host would tell them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._known: list[Listener] = []

    def listen(self, address: str, port: int = 0, *, uid: int = 0) -> int:
        """Listen on `address`; the port."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = self._stack.enter_context(socket.socket(family))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((address, port))
        server.listen()
        port = int(server.getsockname()[1])
        self._known.append(Listener(address=address, port=port, uid=uid))
        return port

    async def listeners(self, port: int) -> tuple[Listener, ...]:
        return tuple(each for each in self._known if each.port == port)


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with ExitStack() as stack:
        yield Sockets(stack)


@pytest.fixture
def checks(sockets: Sockets) -> Checks:
    return Checks(sockets.listeners)


def need(*tools: str) -> None:
    """Skip the test where one of `tools` is not installed."""
    for tool in tools:
        if shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="session")
def in_namespace() -> InNamespace:
    """Makes one check in a fresh network namespace after the given commands."""
    need("unshare", "ip")
    enter = ["unshare", "--map-root-user", "--net", "--"]
    allowed = subprocess.run(
        [*enter, "ip", "link", "set", "lo", "up"], capture_output=True, check=False
    )
    if allowed.returncode:
        pytest.skip("making a network namespace is not permitted")

    def make(
        check: str,
        *setup: str | tuple[str, str],
        host: str = "127.0.0.1",
        port: int = 8220,
        lo: bool = True,
        clients: int = 0,
    ) -> Check:
        commands: list[tuple[Sequence[str], str]] = []
        if lo:
            commands.append((["ip", "link", "set", "lo", "up"], ""))
        for each in setup:
            command, text = (each, "") if isinstance(each, str) else each
            commands.append((command.split(), text))
        order = json.dumps(
            {"setup": commands, "host": host, "port": port, "check": check, "clients": clients}
        )
        done = subprocess.run(
            [*enter, sys.executable, "-c", _PROGRAM, order],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Check.model_validate_json(done.stdout)

    return make


@pytest.fixture
def gate() -> Iterator[asyncio.Event]:
    """Something to wait for; opened at the end so that nothing waits for ever."""
    event = asyncio.Event()
    yield event
    event.set()
