"""The daemon's lines: the form that was asked for."""

from __future__ import annotations

import io
import json

import structlog
from structlog.contextvars import bound_contextvars

from healer.cli.log_format import logging_to


def test_each_line_names_the_issue_that_it_belongs_to() -> None:
    stream = io.StringIO()
    with logging_to(stream, form="json"), bound_contextvars(issue="i1"):
        structlog.get_logger("x").info("deep_inside")
    assert json.loads(stream.getvalue())["issue"] == "i1"


def test_the_form_can_be_chosen() -> None:
    stream = io.StringIO()
    with logging_to(stream, form="console"):
        structlog.get_logger("x").info("seen", component="a\x1b[2Jb")
    assert not stream.getvalue().startswith("{")
    assert "\x1b[2J" not in stream.getvalue()
