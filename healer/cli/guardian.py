"""`healer guardian`: the reference Guardian."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from healer.api.listener import listen_on
from healer.api.server import Server
from healer.cli.choice import UsageError
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_line
from healer.config.configuration import split_listen
from healer.config.guardian import check_secret
from healer.guardian.receiver import Receiver

__all__ = ["guardian"]


def guardian(listen: str, output: Output | None) -> int:
    """Receive and print until a signal; the exit status.

    Raises:
        UsageError: the address or the secret cannot be used.
        ListenError: it cannot listen there.
    """
    try:
        host, port = split_listen(listen)
    except ValueError as error:
        raise UsageError(f"cannot listen: {error}") from None
    try:
        secret = check_secret(os.environ.get("GUARDIAN_SECRET", ""))
    except ValueError as error:
        raise UsageError(f"cannot use GUARDIAN_SECRET: {error}") from None
    receiver = Receiver(secret, _show_line if as_table(output) else _show_json)
    with listen_on(host, port) as listener:
        sys.stderr.write(f"healer: guardian listens on http://{listen}\n")
        asyncio.run(_serve(receiver, listener))
    return FINE


async def _serve(receiver: Receiver, listener: socket.socket) -> None:
    server = Server(receiver)

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await server.serve(sockets=[listener])


def _show_json(event: CloudEvent) -> None:
    sys.stdout.buffer.write(JSONFormat().write(event) + b"\n")
    sys.stdout.buffer.flush()


def _show_line(event: CloudEvent) -> None:
    topic = event.get_type().removeprefix("io.networkhealer.")
    style = "good" if "verified" in topic else ""
    style = "bad" if topic.startswith(("issue.failed", "issue.escalated")) else style
    moment = event.get_time()
    at = moment.strftime("%H:%M:%S") if moment else "-"
    print_line(f"{at}  {event.get_subject() or '-':20}  {topic:32}  {event.get_id()}", style)
