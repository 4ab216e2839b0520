"""Takes a changed configuration into force while the healer runs, or keeps the old one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from healer.bootstrap import Healer
from healer.config import Config
from healer.errors import HealerError
from projections.projection import Json

__all__ = ["Reload"]

_log = structlog.get_logger("healer.reload")


class Reload:
    """Reads the configuration again with `load`, which may block.

    `notify` is told "reloading" and then "ready": a service manager wants to know. `successful`
    says how the last one went, None before the first; `error` why it did not.
    """

    def __init__(
        self,
        healer: Healer,
        load: Callable[[], Config],
        *,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._healer = healer
        self._load = load
        self._notify = notify
        self._one_at_a_time = asyncio.Lock()
        self.successful: bool | None = None
        self.error: HealerError | None = None

    async def __call__(self, actor: str) -> dict[str, Json]:
        """Reload; what has changed.

        Raises:
            ConfigError: the new configuration cannot be used; the old one is in force.
        """
        async with self._one_at_a_time:
            self._notify("reloading")
            try:
                config = await asyncio.to_thread(self._load)
                changed = await self._healer.reload(config)
            except HealerError as error:
                self.successful, self.error = False, error
                _log.error("reload_refused", actor=actor, error=str(error), kept="the old one")
                raise
            finally:
                self._notify("ready")
            self.successful, self.error = True, None
            _log.info("reloaded", actor=actor, **changed)
            return {"reloaded": True, **changed}

    async def by_signal(self) -> None:
        """As a call, for a signal: what is refused is in the log."""
        try:
            await self("signal")
        except HealerError:
            return
