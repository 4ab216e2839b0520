"""`GET at`: the whole world as it was at a past moment, for the dashboard's time slider."""

from __future__ import annotations

import asyncio
import gc
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import Field

from healer.api import view
from healer.api.json import Json
from healer.api.page import made
from healer.api.wish import HistoryWish
from healer.bootstrap import Healer
from healer.domain.events import Fact
from projections.history import Page
from projections.projection import Json as JsonValue
from projections.record import instant
from replay.past import Past, Then
from replay.point import Point, PointError, read_point, shown

__all__ = ["PastWish", "add_past"]

_READ_WITHIN: Final = 2.0
"""Seconds that an answer waits for the log to be read; a long one is read on meanwhile."""
_KEPT: Final = 32
"""Answers that are kept: who drags a slider comes by the same moments again."""
_GONE: Final = 499
_FORMS: Final = ("time=2026-03-01T12:00:00Z", "time=-10m", "position=17")


class PastWish(HistoryWish):
    """A moment, by `time` (ISO 8601, or a while ago like -10m) or by `position` in the log; which
    issues of the history of then; and perhaps one `issue` whose story is wanted as well."""

    time: Annotated[str, Field(max_length=40)] | None = None
    position: Annotated[int, Field(ge=0, le=2**62)] | None = None
    issue: Annotated[str, Field(max_length=64)] | None = None

    def point(self, now: datetime) -> Point:
        """The moment.

        Raises:
            PointError: none is named, or two are, or it cannot be read.
        """
        if (self.time is None) == (self.position is None):
            allowed = ", ".join(_FORMS)
            why = f"cannot tell which moment is meant; allowed: one of {allowed}"
            raise PointError("time", str(self.time), _FORMS, why)
        return read_point(self.time, now) if self.time is not None else int(self.position or 0)


class _Desk:
    """Answers one question at a time. Reads on in the background where the log is long."""

    def __init__(self, healer: Healer) -> None:
        self._healer = healer
        self._past = Past(healer.log, lambda: healer.views.state("history"), settled=self._settle)
        self._cold = True
        self._turn = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._kept: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()

    async def answer(self, request: Request, wish: PastWish) -> Response:
        point = wish.point(datetime.now(UTC))
        if not await self._caught_up():
            span = await self._past.span()
            problem = {
                "type": "urn:network-healer:problem:reading-the-log",
                "title": "Reading the log",
                "status": 503,
                "detail": f"cannot answer yet: read {span.read} of {span.head} facts; ask again",
                "instance": request.url.path,
                "read": span.read,
                "head": span.head,
            }
            return Json(problem, status_code=503, headers={"Retry-After": "1"})
        async with self._turn:
            # Who drags on has given up the question before: the last one is answered first.
            if await request.is_disconnected():
                return Response(status_code=_GONE)
            # A position in the past never changes what was there; a time may, by a late label.
            key = (point, self._past.position, wish)
            body = self._kept.get(key)
            if body is None:
                body = orjson.dumps(await self._shown(point, wish))
                self._kept[key] = body
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return Response(body, media_type="application/json")

    async def _caught_up(self) -> bool:
        """Whether all that the log holds was read, and is known to the live views."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="past")
        with suppress(TimeoutError):
            async with asyncio.timeout(_READ_WITHIN):
                await asyncio.shield(self._reading)
                await self._healer.views.reached(self._past.position)
                return True
        return False

    async def _read(self) -> None:
        async with self._turn:
            await self._past.catch_up()
            self._settle()
            self._cold = False

    def _settle(self) -> None:
        # Of 100,000 issues there are millions of objects that live on: looking through them all for
        # garbage, again and again while more are made, would hold up the loop for half a second.
        if self._cold:
            gc.freeze()

    async def _shown(self, point: Point, wish: PastWish) -> dict[str, JsonValue]:
        then = await self._past.at(point)
        page = view.history(then, wish.query(), known=self._healer.engine.names)
        span = await self._past.span()
        found: dict[str, JsonValue] = {
            "point": shown(point),
            "position": then.position,
            "label": instant(then.label),
            "passed_over": then.passed_over,
            "first": instant(span.first),
            "last": instant(span.last),
            "head": span.read,
            "paused": then.view("pause"),
            "components": then.view("components"),
            "active": then.view("active"),
            "stats": then.view("stats"),
            "playbook_stats": then.view("playbook_stats"),
            "history": await made(page, Page.view),
        }
        if wish.issue is not None:
            found["issue"] = await self._issue(then, point, wish.issue)
        return found

    async def _issue(self, then: Then, point: Point, name: str) -> dict[str, JsonValue] | None:
        """One issue as it was then; None where it did not exist yet."""
        if then.history.find(name) is None:
            return None
        known = then.version(name)
        facts = await self._healer.log.stream(name)
        return view.issue(then, name, [each for each in facts if _had_happened(each, point, known)])


def _had_happened(fact: Fact, point: Point, known: int | None) -> bool:
    if isinstance(point, datetime):
        return fact.timestamp <= point
    return known is None or fact.originator_version <= known


def add_past(app: FastAPI, prefix: str, healer: Healer) -> None:
    """Add the route."""
    desk = _Desk(healer)

    @app.get(f"{prefix}/span")
    async def span() -> Response:
        """How far one can go back: the times of the first and the last fact, and its position."""
        head = await healer.log.head()
        first = await healer.log.read(limit=1)
        last = await healer.log.read(after=head - 1, limit=1) if first else []
        times = [instant(each[0].event.timestamp) if each else None for each in (first, last)]
        return Json({"first": times[0], "last": times[1], "head": head})

    @app.get(f"{prefix}/at")
    async def at(request: Request, wish: Annotated[PastWish, Query()]) -> Response:
        """The world as it was: components, open issues, figures, and a page of the history."""
        return await desk.answer(request, wish)
