"""A healer whose log is in memory, and a client that talks to its application in this process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from healer.api.access import Access
from healer.api.app import create_app
from healer.bootstrap import Healer, build
from healer.config import parse
from healer.store import MemoryLog
from tests.api.ending import end_components
from tests.conftest import COMPONENT

TOKEN = "ab" * 32
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ORIGIN = "http://127.0.0.1:8000"

CONFIG = """
node: n1
budget: {{backoff: {{initial: 10ms}}}}
defaults: {{interval: 50ms, timeout: 500ms, failure_threshold: 2, fast_interval: 20ms}}
components:
  chat_api:
    port: {port}
    probe: {{http: /health}}
    launch: {{command: ["{python}", -S, -E, "{component}", --port, "{{port}}"]}}
  librarian_kernel:
    port: {other}
    mode: observe
    start_period: 200ms
    launch: {{hook: [/bin/false]}}
"""


@pytest.fixture
async def healer(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> AsyncIterator[Healer]:
    """Not watching yet. Its component can be started; it ends with the test."""
    port, other = free_ports(2)
    text = CONFIG.format(port=port, other=other, python=sys.executable, component=COMPONENT)
    config = parse(text, source="test", environ={}, hostname="h", directory=tmp_path)
    healer = build(config, log=MemoryLog())
    async with healer:
        yield healer
        await healer.engine.stop()
        await end_components(healer.log)


@pytest.fixture
async def client(healer: Healer) -> AsyncIterator[httpx.AsyncClient]:
    """Has the token."""
    app = create_app(healer, access=Access(TOKEN, acting_per_minute=10_000))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=BEARER) as client:
        yield client
