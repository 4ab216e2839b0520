"""The daemon's own lines: one each, whole, and harmless."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import threading
import time

import httpx
import pytest
import structlog

from healer.cli.log_format import logging_to
from healer.cli.plain import plain
from tests.conftest import Until

HOSTILE = "chat\n\x1b[2Japi\x9b\u202e\u2028{}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_is_an_object_however_hostile_its_fields_are() -> None:
    out = io.StringIO()
    with logging_to(out):
        structlog.get_logger("healer.test").info("probe_failed", component=HOSTILE)
        logging.getLogger("uvicorn.error").error("cannot %s", HOSTILE)
        structlog.get_logger().error("failed", exc_info=ValueError(HOSTILE))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.isascii() and line.isprintable() for line in lines)
    first, second, third = (json.loads(line) for line in lines)
    assert first["event"] == "probe_failed"
    assert first["component"] == HOSTILE
    assert first["logger"] == "healer.test"
    assert second["level"] == "error"
    assert "ValueError" in third["exception"]


def test_a_person_is_shown_no_escapes_of_others() -> None:
    out = Terminal()
    with logging_to(out):
        structlog.get_logger().info("probe_failed", component=HOSTILE)
    shown = out.getvalue()
    assert "probe_failed" in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_less_can_be_asked_for(level: int) -> None:
    out = io.StringIO()
    with logging_to(out, level=level):
        structlog.get_logger().info("fine")
        structlog.get_logger().warning("not fine")
    assert len(out.getvalue().splitlines()) == (2 if level == logging.INFO else 1)


def test_an_address_that_is_asked_is_not_written() -> None:
    out = io.StringIO()
    transport = httpx.MockTransport(lambda request: httpx.Response(204))
    with logging_to(out), httpx.Client(transport=transport) as client:
        client.post("https://hooks.example/services/5ecret")
    assert out.getvalue() == ""


def test_who_does_not_read_our_lines_does_not_stop_us() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    logger = logging.getLogger("healer.test")
    logger.propagate = False  # pytest keeps what reaches the root
    try:
        begun = time.monotonic()
        with logging_to(stream):
            logger.addHandler(logging.getLogger().handlers[-1])
            for number in range(11_000):
                logger.info("%d %s", number, "x" * 100)
            logger.removeHandler(logging.getLogger().handlers[-1])
        assert time.monotonic() - begun < 20
    finally:
        logger.propagate = True
        os.close(reading)
        Until()(lambda: not _writing(), 5)
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def _writing() -> bool:
    return any(thread.name == "healer-log-lines" for thread in threading.enumerate())


def test_afterwards_all_is_as_it_was() -> None:
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    with logging_to(io.StringIO()):
        assert logging.getLogger().handlers != handlers
    assert logging.getLogger().handlers == handlers
    assert logging.getLogger().level == level


def test_plain_text_commands_no_terminal() -> None:
    assert plain("chat_api → 1") == "chat_api → 1"
    shown = plain(HOSTILE)
    assert shown.isprintable()
    assert "\\u001b" in shown
    assert plain(7) == "7"
