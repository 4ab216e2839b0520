"""Ends the components that a healer started, as its log names them: they outlive it on purpose."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from healer.domain.events import ProcessAdopted, StepSettled, StepSucceeded
from healer.domain.process import ProcessIdentity
from healer.ports import EventLog


async def end_components(log: EventLog) -> None:
    """End every process that `log` says was launched and that still is that process."""
    launched: dict[str, ProcessIdentity] = {}
    after = 0
    while batch := await log.read(after=after):
        for recorded in batch:
            match recorded.event:
                case ProcessAdopted(process=process, launch_id=str(launch)):
                    launched[launch] = process
                case StepSucceeded(result=result) | StepSettled(result=result):
                    if result.started is not None and result.launch_id is not None:
                        launched[result.launch_id] = result.started
                case _:
                    pass
        after = batch[-1].position
    for launch, process in launched.items():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            held = os.pidfd_open(process.pid)
            try:
                environment = (Path("/proc") / str(process.pid) / "environ").read_bytes()
                if launch.encode() in environment:
                    signal.pidfd_send_signal(held, signal.SIGKILL)
                    assert select.select([held], [], [], 10)[0]
            finally:
                os.close(held)
