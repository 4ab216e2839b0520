"""The composition root: the only place that knows concrete classes.

`build` is real by default and replaceable by name; importing this module opens nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import structlog

from healer.config import Config
from healer.domain.spec import ComponentSpec
from healer.engine import Engine
from healer.errors import ConfigError, HealerError, StoreError
from healer.guardian import Callback, Outbox, make_outboxes
from healer.host.launcher import build_launcher
from healer.host.linux import LinuxHost
from healer.host.program import LinuxPrograms
from healer.ports import Clock, EventLog, Host, Ids, Launcher, Prober
from healer.probes import NetworkProber
from healer.store import open_log
from healer.store.compiled import StoredEvents
from healer.telemetry import make_tracing
from projections.files import HealingFiles
from projections.runner import LiveViews

__all__ = ["Healer", "SystemClock", "SystemIds", "build", "key_of"]

_log = structlog.get_logger("healer")


_FIXED: Final = (
    "node", "lease", "store", "listen", "hosts", "tls", "auth", "logs", "token_file", "witness",
    "signing", "guardian", "telemetry",
)  # fmt: skip


class SystemClock:
    """The machine's clocks; see `healer.ports.Clock`."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemIds:
    """The machine's chance; see `healer.ports.Ids`."""

    def new(self) -> str:
        return uuid.uuid4().hex

    def chance(self) -> float:
        return random.random()  # noqa: S311 - jitter, not a secret


class Healer:
    """A whole healer of one node: log, live views, files, engine. An async context manager.

    Entering catches up with the log (of a long one in a file, it begins to) and follows it;
    components are watched from `engine.start` on.
    Leaving stops watching, finishes or records what is in flight, and closes the log. Components
    live on.
    """

    def __init__(
        self,
        config: Config,
        log: EventLog,
        engine: Engine,
        views: LiveViews,
        files: HealingFiles,
        *,
        outboxes: Sequence[Outbox] = (),
    ) -> None:
        self.config = config
        self.log = log
        self.engine = engine
        self.views = views
        self.files = files
        self.outboxes = tuple(outboxes)
        self._followers: list[asyncio.Task[None]] = []

    async def reload(self, config: Config) -> dict[str, list[str]]:
        """Take `config` into force: its components, defaults and budget; what has changed.

        Raises:
            ConfigError: it differs in what cannot change while the healer runs, or a launcher
                cannot be made of it. The old one stays in force.
        """
        fixed = [
            f"{key}: it cannot change while the healer runs; restart it for that"
            for key in _FIXED
            if getattr(config, key) != getattr(self.config, key)
        ]
        if fixed:
            raise ConfigError("the new configuration", fixed)
        changed = await self.engine.reload(config.components, config.budget)
        self.config = config
        return changed

    async def _require_past(self) -> None:
        # An archive that is not there would be waited for like a database that is away.
        if isinstance(self.log, StoredEvents):
            try:
                await self.log.require_past()
            except StoreError:
                await self.log.close()
                raise

    async def __aenter__(self) -> Self:
        await self._require_past()
        # Before anything is done of which a new sink would not hear.
        for each in self.outboxes:
            await each.begin()
        self._followers = [
            asyncio.create_task(self.views.run(), name="views"),
            asyncio.create_task(self.files.run(self.log), name="files"),
            *(
                asyncio.create_task(each.run(), name=f"guardian:{each.name}")
                for each in self.outboxes
            ),
        ]
        for task in self._followers:
            task.add_done_callback(_follower_ended)
        await self.views.begun()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.stop()
        with suppress(TimeoutError):
            # The files and views may be behind; they are rebuilt from the log, so this may fail.
            async with asyncio.timeout(2):
                await self.views.caught_up()
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await self.log.close()


def build(
    config: Config,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    host: Host | None = None,
    prober: Prober | None = None,
    log: EventLog | None = None,
    guardian: Sequence[Callback] = (),
) -> Healer:
    """A healer for `config`; each part can be replaced by name. Opens the log, nothing else.
    Each function of `guardian` is handed all events, as CloudEvents.

    Raises:
        StoreError: the log cannot be opened, or another healer has it.
        ConfigError: a launcher cannot be made of what the configuration says.
    """
    clock = clock or SystemClock()
    ids = ids or SystemIds()
    host = host or LinuxHost()
    machine = host
    logs = Path(config.logs)

    def launcher(spec: ComponentSpec) -> Launcher | None:
        return build_launcher(spec, logs=logs, hold=machine.hold)

    log = log or open_log(
        config.store,
        new_log_id=ids.new,
        node=config.node,
        witness=config.witness,
        rotate_every=config.signing.rotate_every,
        key=key_of(config),
    )
    engine = Engine(
        config.components,
        config.budget,
        log=log,
        host=host,
        prober=prober or NetworkProber(programs=LinuxPrograms(new_id=ids.new)),
        clock=clock,
        ids=ids,
        node=config.node,
        launchers=launcher,
        lease=config.lease.term,
    )
    beside = _beside(config)
    outboxes = [
        *make_outboxes(config.guardian, guardian, log=log, beside=beside, chance=ids.chance),
        *make_tracing(
            config.telemetry, log=log, node=config.node, beside=beside, chance=ids.chance
        ),
    ]
    return Healer(config, log, engine, LiveViews(log), HealingFiles(logs), outboxes=outboxes)


def _beside(config: Config) -> Path:
    """Where small files that belong to the log go; that of a database is on another machine."""
    scheme, _, path = config.store.partition(":///")
    return Path(path) if scheme == "sqlite" else Path(config.logs) / config.node


def key_of(config: Config) -> Path:
    """The file of the key that signs the log, as `healer.store` names it for a log in a file."""
    beside = _beside(config)
    return beside.with_name(f"{beside.name}.key")


def _follower_ended(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, HealerError):
        _log.critical("follower_stopped", task=task.get_name(), error=str(error))
    elif error is not None:
        _log.critical("follower_died", task=task.get_name(), exc_info=error)
