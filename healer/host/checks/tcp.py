"""The kernel's table of TCP sockets, read no further than it is needed.

`/proc/net/tcp` lists LISTEN sockets first, so that reading them costs the same on an idle machine
and on one with a hundred thousand connections.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["TABLE_LIMIT", "listening_ports", "socket_counts", "states"]

TABLE_LIMIT: Final = 70_000
"""Sockets up to which the whole table is read (3 µs each); beyond, the kernel's counters have to
do. Enough for every ephemeral port to be in use."""

# A long table is read in breaths of well under a millisecond, and the event loop goes first: only a
# real pause lets go of the interpreter lock at once.
_BREATH: Final = 256  # rows
_PAUSE: Final = 0.0001  # seconds

_LISTEN: Final = b"0A"
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_STATES: Final = {
    b"01": "established",
    b"02": "syn_sent",
    b"03": "syn_recv",
    b"04": "fin_wait1",
    b"05": "fin_wait2",
    b"06": "time_wait",
    b"07": "close",
    b"08": "close_wait",
    b"09": "last_ack",
    _LISTEN: "listen",
    b"0B": "closing",
    b"0C": "syn_recv",
}


def listening_ports() -> frozenset[int]:
    """Ports with a LISTEN socket, on any address of this network namespace."""
    ports = set()
    for table in _TABLES:
        for state, port in _rows(table):
            if state != _LISTEN:
                break
            ports.add(port)
    return frozenset(ports)


def states() -> tuple[Counter[str], frozenset[int]]:
    """Sockets by state, and the local ports of those that are not in LISTEN."""
    counts: Counter[str] = Counter()
    ports = set()
    for table in _TABLES:
        for number, (state, port) in enumerate(_rows(table)):
            if number % _BREATH == 0:
                time.sleep(_PAUSE)
            counts[_STATES.get(state, "other")] += 1
            if state != _LISTEN:
                ports.add(port)
    return counts, frozenset(ports)


def socket_counts() -> dict[str, int]:
    """The kernel's own counters of TCP sockets: in use, orphaned, in TIME_WAIT."""
    counts = {"inuse": 0, "orphan": 0, "tw": 0}
    for path in (Path("/proc/net/sockstat"), Path("/proc/net/sockstat6")):
        if not path.exists():
            continue
        for line in path.read_text().splitlines():
            label, _, rest = line.partition(":")
            if label in {"TCP", "TCP6"}:
                words = rest.split()
                for key, value in zip(words[::2], words[1::2], strict=False):
                    if key in counts:
                        counts[key] += int(value)
    return counts


def _rows(table: Path) -> Iterator[tuple[bytes, int]]:
    """State and local port of each row."""
    try:
        with table.open("rb") as rows:
            next(rows, None)
            for row in rows:
                fields = row.split(None, 4)
                yield fields[3], int(fields[1][-4:], 16)
    except FileNotFoundError:  # a kernel without IPv6
        return
