"""The daemon's own log: to people on a terminal, as JSON lines otherwise, always on stderr.

A line is a fact with a stable word (`event`) and fields. It is written by a thread of its own:
somebody who does not read our stderr must not stop the healing.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

import structlog
from structlog.typing import Processor

from healer.cli.plain import plain

__all__ = ["logging_to"]

_KEPT: Final = 10_000
"""Lines that wait for a slow reader; more are dropped, and counted."""
_FLUSH_WITHIN: Final = 1.0


class _Output(logging.Handler):
    """Hands lines to a thread that writes them."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_KEPT)
        self._dropped = 0
        self._ending = False
        self._thread = threading.Thread(target=self._write, name="healer-log-lines", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._dropped:
                line = f"{self._dropped} lines were dropped here\n{line}"
            self._lines.put_nowait(line)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        self._ending = True
        with suppress(queue.Full):
            self._lines.put(None, timeout=_FLUSH_WITHIN)
        self._thread.join(_FLUSH_WITHIN)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            # When the reader has gone there is nobody left to tell.
            with suppress(OSError, ValueError):
                self._stream.write(f"{line}\n")
                self._stream.flush()
            if self._ending and self._lines.empty():
                return


@contextmanager
def logging_to(
    stream: TextIO, *, level: int = logging.INFO, form: str | None = None
) -> Iterator[None]:
    """While it lasts, what is logged through structlog or logging goes to `stream`. `form` is
    "json" or "console"; without it a terminal gets the latter."""
    people = stream.isatty() if form is None else form == "console"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if people:
        plain = structlog.dev.plain_traceback  # others would show local variables: secrets
        rendering += [_clean, structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    else:
        rendering += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    output = _Output(stream)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering)
    )
    root = logging.getLogger()
    before = root.level
    root.addHandler(output)
    root.setLevel(level)
    # The web server's own progress is said by the daemon, in its words.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # It writes each address that is asked, and that of a webhook may be all that protects it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.removeHandler(output)
        root.setLevel(before)
        output.close()


def _clean(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A name in a field must not command the terminal."""
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = plain(value)
    return fields
