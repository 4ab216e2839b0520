"""Hearing of other nodes' commits: LISTEN, and a look now and then in case nothing is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import sql

from healer.store.postgres.place import Place
from healer.store.postgres.schema import CHANNEL

__all__ = ["watch"]

# A notification can be missed: by a connection that is dead and does not know it yet, on a standby,
# behind a pooler. Then the log is looked at this often, in seconds.
_POLL: Final = 1.0


async def watch(place: Place, grown: Callable[[], None]) -> None:
    """Call `grown` whenever the log may have grown, for ever; through every outage.

    Followers and listeners then read what there is: a call too many costs a query, none is needed
    for correctness.
    """
    options: dict[str, Any] = dict(place.options)
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(autocommit=True, **options)
            async with connection:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                # What was appended before we could hear it.
                grown()
                while True:
                    async for _ in connection.notifies(timeout=_POLL, stop_after=1):
                        pass
                    grown()
        except psycopg.Error:
            # Whoever reads meets the same outage and says so; here there is nobody to tell.
            await asyncio.sleep(_POLL)
            grown()
