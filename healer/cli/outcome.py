"""The one table from error to exit status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from healer.api.listener import ListenError
from healer.cli.choice import UsageError
from healer.cli.client import NoHealerError, RefusedError
from healer.errors import ConfigError, HealerError, StoreError, UnknownNameError
from projections.history import HistoryQueryError

__all__ = ["BAD_INPUT", "FAILED", "FINE", "exit_status"]

FINE: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2

_TABLE: Final[Mapping[type[HealerError], int]] = {
    ConfigError: BAD_INPUT,
    HistoryQueryError: BAD_INPUT,
    ListenError: BAD_INPUT,
    NoHealerError: FAILED,
    StoreError: BAD_INPUT,
    UnknownNameError: BAD_INPUT,
    UsageError: BAD_INPUT,
    HealerError: FAILED,
}
"""Of an error class that is missing, its nearest base's."""

_STATES_OF_THE_WORLD: Final = frozenset({409, 500, 503})
"""HTTP statuses that another input would not have changed."""


def exit_status(error: HealerError) -> int:
    """What `healer` exits with after `error`."""
    if isinstance(error, RefusedError):
        return FAILED if error.status in _STATES_OF_THE_WORLD else BAD_INPUT
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
