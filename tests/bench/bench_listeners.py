"""Who listens on a port: what each way to find out costs.

    python tests/bench/bench_listeners.py [--sockets 2000] [--processes 200] [--rounds 15]

Makes that many listening sockets and sleeping processes (loopback only), and ends them afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from healer.domain.process import Launch
from healer.host.linux import LinuxHost
from healer.host.listener import holders, holds
from healer.host.sockdiag import by_netlink, by_proc

DESCRIPTORS = 20
"""How many each sleeping process has open."""


@contextmanager
def sleepers(count: int) -> Iterator[list[int]]:
    pids: list[int] = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                os.closerange(3, 1 << 16)
                for _ in range(DESCRIPTORS - 3):
                    os.open("/dev/null", os.O_RDONLY)
                signal.pause()
                os._exit(0)
            pids.append(pid)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextmanager
def servers(count: int) -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(socket.create_server(("127.0.0.1", 0)))  # noqa: PERF401 - closed even so
        yield opened
    finally:
        for one in opened:
            one.close()


def figures(function: Callable[[], object], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        function()
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.new_event_loop()
    host = LinuxHost()
    with sleepers(options.processes) as pids, servers(options.sockets) as opened:
        port = opened[-1].getsockname()[1]
        inode = os.fstat(opened[-1].fileno()).st_ino
        with socket.create_server(("127.0.0.1", 0)) as former:
            nobodys = former.getsockname()[1]
        leader = loop.run_until_complete(host.hold(pids[0]))
        assert leader is not None
        nothing = Launch(
            launch_id="nobody's", leader=leader.identity.model_copy(update={"pid": 2**22 - 1})
        )
        something = Launch(launch_id="nobody's", leader=leader.identity)

        def by_psutil() -> object:
            found = psutil.net_connections("tcp")
            return [one for one in found if one.status == "LISTEN" and one.laddr.port == port]

        async def members(launch: Launch) -> None:
            for one in await host.members(launch):
                one.close()

        ways: dict[str, Callable[[], object]] = {
            "psutil.net_connections (one holder)": by_psutil,
            "sockets of a port: sock_diag": lambda: by_netlink(port),
            "sockets of a port: /proc/net/tcp": lambda: by_proc(port),
            "does this process hold it": lambda: holds(pids[0], (inode,)),
            "all holders of a socket": lambda: holders((inode,)),
            "Host.listeners, somebody listens": lambda: loop.run_until_complete(
                host.listeners(port)
            ),
            "Host.listeners, nobody does": lambda: loop.run_until_complete(host.listeners(nobodys)),
            "Host.members, group empty": lambda: loop.run_until_complete(members(nothing)),
            "Host.members, group inhabited": lambda: loop.run_until_complete(members(something)),
            "Host.hold": lambda: loop.run_until_complete(host.hold(pids[0])),
        }
        for way in ways.values():
            way()
        results = {name: figures(way, options.rounds) for name, way in ways.items()}
        leader.close()
    base = statistics.median(next(iter(results.values())))
    visible = options.processes
    print(f"{options.sockets} listening sockets, {visible} processes, {options.rounds} rounds")
    print(f"{'':38}{'median ms':>10}{'min..max':>18}{'x faster':>10}")
    for name, taken in results.items():
        middle = statistics.median(taken)
        spread = f"{min(taken):.3f}..{max(taken):.3f}"
        print(f"{name:38}{middle:10.3f}{spread:>18}{base / middle:10.1f}")


if __name__ == "__main__":
    main()
