"""Real servers that misbehave, and network namespaces of the tests' own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from healer.domain.spec import ComponentSpec

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_ROOT = Path(__file__).resolve().parents[2]

_CHILD = """
import asyncio, json, resource, socket, sys
from healer.domain.spec import ComponentSpec
from healer.probes import NetworkProber

async def main():
    prober = NetworkProber(agent="x")
    for asked in json.loads(sys.argv[1]):
        spec = ComponentSpec(name="x", **asked)
        print((await prober.probe(spec, spec.port)).model_dump_json(), flush=True)

{before}
asyncio.run(main())
"""


class Served:
    """A server's port, and how many connections and requests reached it."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[bytes] = []


@pytest.fixture
def spec() -> Callable[..., ComponentSpec]:
    """A component with fast timing."""

    def make(**fields: object) -> ComponentSpec:
        return ComponentSpec.model_validate(
            {"name": "x", "port": 1, "probe": "http", "timeout": 5.0, **fields}
        )

    return make


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Start a server with a behaviour, which begins when the request has been read."""
    async with AsyncExitStack() as stack:

        async def start(behaviour: Behaviour, *, host: str = "127.0.0.1") -> Served:
            return await stack.enter_async_context(_server(behaviour, host))

        yield start


@asynccontextmanager
async def _server(behaviour: Behaviour, host: str) -> AsyncIterator[Served]:
    served = Served()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            served.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, host, 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*list(tasks), return_exceptions=True)


@pytest.fixture
def answer() -> Callable[[bytes], Behaviour]:
    """A behaviour that sends these bytes and closes."""

    def make(response: bytes) -> Behaviour:
        async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(response)
            await writer.drain()

        return behaviour

    return make


@pytest.fixture
def abort() -> Callable[[asyncio.StreamWriter], None]:
    """Reset a server's connection."""

    def do(writer: asyncio.StreamWriter) -> None:
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return do


def _run(argv: list[str]) -> list[dict[str, object]]:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)])},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


_STARVE = """
async def starve(first=main):
    kept = []
    try:
        while True:
            kept.append(socket.socket())
    except OSError:
        await first()
    for plug in kept:
        plug.close()
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
main = starve
"""
"""asyncio's own descriptors come first; what is left is taken."""


@pytest.fixture
def probe_in_child() -> Callable[..., list[dict[str, object]]]:
    """Probe from a process of its own, after the Python lines `before`; with none left of a number
    of `descriptors`."""

    def run(
        asked: list[dict[str, object]], *, before: str = "", descriptors: int | None = None
    ) -> list[dict[str, object]]:
        if descriptors is not None:
            before += _STARVE.replace("{limit}", str(descriptors))
        script = _CHILD.replace("{before}", before)
        return _run([sys.executable, "-c", script, json.dumps(asked)])

    return run


@pytest.fixture
def probe_in_namespace() -> Callable[..., list[dict[str, object]]]:
    """Probe from a new network (and mount) namespace that the shell lines `setup` prepared."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("unshare and ip are needed to make a network namespace")
    unshare = ["unshare", "-nm"] if os.geteuid() == 0 else ["unshare", "-rnm"]
    made = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("network namespaces are not permitted here")

    def run(
        asked: list[dict[str, object]], *, setup: str, before: str = ""
    ) -> list[dict[str, object]]:
        script = _CHILD.replace("{before}", before)
        shell = f'set -e\n{setup}\nexec "$0" -c "$1" "$2"'
        argv = [*unshare, "sh", "-c", shell, sys.executable, script, json.dumps(asked)]
        return _run(argv)

    return run
