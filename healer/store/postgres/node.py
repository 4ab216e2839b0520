"""A node's name belongs to one healer at a time: a lock of the session that appends.

It goes with the session, however that ends, and needs nobody to clean it up. Behind a pooler it
needs one session for each client (not one for each transaction), as LISTEN does.
"""

from __future__ import annotations

from typing import Final

import psycopg

from healer.errors import NodeBusyError
from healer.store.postgres.connection import Connection
from healer.store.postgres.place import Place

__all__ = ["NAMES", "keep_name", "take_name"]

# Any number will do, as long as every version of the healer takes the same. Only within it do the
# hashes of two names meet by chance, once in four thousand million pairs.
NAMES: Final = 0x4EA1E
_TAKE: Final = "SELECT pg_advisory_lock(%s, hashtext(%s))"
_TRY: Final = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"

# A healer that is started again in the moment of its death: the server lets go of the dead one's
# session as soon as it hears of its end.
_PATIENCE: Final = "3s"


def take_name(connection: Connection, place: Place, node: str) -> None:
    """Make `node` the name of this session.

    Raises:
        NodeBusyError: it is another's.
        psycopg.Error: the database does not answer.
    """
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (_PATIENCE,))
            connection.execute(_TAKE, (NAMES, node))
    except psycopg.errors.LockNotAvailable:
        raise NodeBusyError(str(place), node) from None


def keep_name(connection: Connection, node: str) -> None:
    """Take the name back after the session that had it was lost.

    Raises:
        psycopg.OperationalError: the server has not noticed yet that it was, or another healer has
            the name now; later it may be free.
        psycopg.Error: the database does not answer.
    """
    row = connection.execute(_TRY, (NAMES, node)).fetchone()
    if row is None or not row[0]:
        raise psycopg.OperationalError(
            f"the name of node {node!r} is held by another session, ours that was lost or a healer "
            "of the same name"
        )
