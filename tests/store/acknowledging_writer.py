"""Appends to a log for ever and says what was acknowledged: run by the tests, and killed by them.

    python -m tests.store.acknowledging_writer URL NAME

Prints a line `stream version position` for each acknowledged event, after it was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import sys

from healer.ports import EventLog
from healer.store import open_log
from tests import factory


async def append_for_ever(log: EventLog, stream: str) -> None:
    version = 0
    while True:
        facts = [
            factory.playbook_started(stream=stream, version=version + 1),
            factory.playbook_finished(stream=stream, version=version + 2),
        ]
        position = await log.append(facts)
        version += 2
        os.write(1, f"{stream} {version} {position}\n".encode())


async def main(url: str, name: str) -> None:
    log = open_log(url, new_log_id=lambda: "log-1")
    await asyncio.gather(*(append_for_ever(log, f"{name}-{n}") for n in range(8)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
