"""The log as CloudEvents, for who would rather ask than be told."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import Response

from healer.api.wish import LAST_POSITION
from healer.guardian.event import BATCH_TYPE, Subjects, as_batch, cloud_event
from healer.ports import EventLog

__all__ = ["add_cloudevents"]


def add_cloudevents(app: FastAPI, prefix: str, log: EventLog) -> None:
    """Add the route."""
    subjects = Subjects(log)

    @app.get(f"{prefix}/cloudevents")
    async def cloudevents(
        after: Annotated[int, Query(ge=0, le=LAST_POSITION)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """Events behind the position `after`, oldest first; the `sequence` of the last one is the
        next `after`."""
        facts = await log.read(after=after, limit=limit)
        events = [cloud_event(each, await subjects.of(each.event)) for each in facts]
        return Response(as_batch(events), media_type=BATCH_TYPE)
