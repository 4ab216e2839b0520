"""Live views: all projections, kept current behind the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from healer.errors import StoreError, UnknownNameError
from healer.ports import EventLog
from healer.store.lean import Lean
from projections import ALL
from projections.beside import fold_file
from projections.feed import LINGER, batches
from projections.fingerprint import Fingerprint, Fingerprints
from projections.fold import Fold, Snapshot
from projections.history import HISTORY, pages, shown
from projections.projection import Json, Projection, ProjectionStoppedError, canonical
from projections.replacement import fold_beside
from projections.shelf import Shelved

__all__ = ["LiveViews"]


_LONG: Final = 10_000
"""Events from which on the loop would be busy for long."""
_PAGE: Final = 20
"""Issues of the history between two turns of the loop: a millisecond. A thread would keep the loop
from its turn for five (sys.getswitchinterval)."""


class LiveViews:
    """The views of `projections` over `log`; current while `run` runs.

    It reads the log from the start; one in a file of `long` events or more beside the event loop,
    and then nothing is shown before the end. What lands is taken in when somebody waits for it, or
    after `linger` seconds. While the log cannot be read, the views stand still
    and `trouble` says why; they go on where they stood.
    """

    def __init__(
        self,
        log: EventLog,
        projections: Sequence[Projection[Any]] = ALL,
        *,
        retry: float = 1.0,
        long: int = _LONG,
        linger: float = LINGER,
    ) -> None:
        self._log = log
        self._linger = linger
        self._hurry = asyncio.Event()
        self._wanted = 0
        self._long = long
        self._goal = self._read = 0
        self._known = asyncio.Event()
        self._fold = Fold(projections)
        self._beginning = asyncio.Lock()
        self._moving = asyncio.Lock()
        self._retry = retry
        self._moved = asyncio.Condition()
        self.trouble: StoreError | None = None

    @property
    def position(self) -> int:
        """The last position that the views know."""
        return self._fold.position

    @property
    def stopped(self) -> Mapping[str, ProjectionStoppedError]:
        """Projections that met a fact which they cannot apply: where, and why."""
        return MappingProxyType(self._fold.stopped)

    @property
    def names(self) -> tuple[str, ...]:
        return self._fold.names

    @property
    def projections(self) -> tuple[Projection[Any], ...]:
        return self._fold.projections

    async def run(self) -> None:
        """Catch up and follow, until cancelled."""
        await self._begin()
        async with aclosing(
            batches(
                self._log,
                after=self.position,
                retry=self._retry,
                trouble=self._in_trouble,
                linger=self._linger,
                hurry=self._hurry,
            )
        ) as feed:
            async for facts in feed:
                async with self._moving:
                    self._fold.apply(facts)
                if self.position >= self._wanted:
                    self._hurry.clear()
                async with self._moved:
                    self._moved.notify_all()

    async def _begin(self) -> None:
        """Fold what a long log holds at the beginning, beside the loop."""
        try:
            await self._begin_long()
        except StoreError as error:
            # The way through the log goes on trying.
            self.trouble = error
        finally:
            self._known.set()

    async def _begin_long(self) -> None:
        if self.position or not isinstance(self._log, Lean):
            return
        async with self._beginning:
            head = await self._log.head()
            if head < self._long:
                return
            self._goal = head
            self._known.set()
            projections = self._fold.projections
            fold = await fold_file(
                self._log.source, projections, until=head, progress=self._in_progress
            )
            if HISTORY.name in fold.names and HISTORY.name not in fold.stopped:
                await asyncio.to_thread(fold.state(HISTORY.name).shelf.prepare)
            self._fold = fold
        async with self._moved:
            self._moved.notify_all()

    def _in_progress(self, position: int) -> None:
        self._read = position

    async def begun(self) -> None:
        """Wait until the views know all that the log holds now; of a long log only until it is
        being read: who heals need not wait for what is shown."""
        await self._known.wait()
        if not self._goal:
            await self.caught_up()

    def _in_trouble(self, error: StoreError | None) -> None:
        self.trouble = error

    async def reached(self, position: int) -> None:
        """Wait until the views know `position`; for ever while `run` does not run."""
        if self.position >= position:
            return
        self._wanted = max(self._wanted, position)
        self._hurry.set()
        async with self._moved:
            await self._moved.wait_for(lambda: self.position >= position)

    async def head(self) -> int:
        """The position of the last fact of the log."""
        return await self._log.head()

    async def caught_up(self) -> None:
        """Wait until the views know all that the log holds now."""
        await self.reached(await self._log.head())

    async def replace(self, projection: Projection[Any]) -> None:
        """Show `projection` in the place of the one of its name, or beside the others.

        It is folded from nothing beside the running views, twice, and takes its place between two
        facts when it has caught up and both folds are equal byte for byte. Until then, and whenever
        it fails, the old one is shown. One that had stopped is healed so.

        Raises:
            ParityError: it is no pure fold.
            ProjectionStoppedError: it cannot apply a fact.
            StoreError: the log cannot be read.
        """
        async with self._beginning:
            made = await fold_beside(self._log, projection, reached=lambda: self.position)
            self._fold.adopt(made)

    async def rebuild(self, name: str) -> Projection[Any]:
        """Fold a view from nothing and let it take the place of the running one (see `replace`,
        which also says what it raises).

        Raises:
            UnknownNameError: there is no such view.
        """
        found = {each.name: each for each in self._fold.projections}
        if name not in found:
            raise UnknownNameError("view", name, self.names)
        await self.replace(found[name])
        return found[name]

    def view(self, name: str) -> Json:
        """What a projection shows now.

        Raises:
            UnknownNameError: there is no such projection.
            ProjectionStoppedError: it stopped at a fact that it cannot apply.
            StoreError: a long log is still being read.
        """
        self._require_read(name)
        return self._fold.view(name)

    def state(self, name: str) -> Any:
        """The state behind a view, for queries (`history.page`, `recommendations.recommend`); to be
        read at once and not kept. Raises as `view` does."""
        self._require_read(name)
        return self._fold.state(name)

    def _require_read(self, name: str) -> None:
        if self.position < self._goal:
            read = max(self.position, self._read)
            raise StoreError(
                f"cannot show {name} yet: the log is still being read ({read:,} of {self._goal:,} "
                "events)"
            )

    def snapshot(self) -> Snapshot:
        """All views at this position, as bytes to compare."""
        return self._fold.snapshot()

    async def fingerprints(self) -> Fingerprints:
        """What all views are at one position, for a rebuild up to there.

        They stand still while a thread reads them. For the history, which takes as long as it is
        long, they do not: it is read page by page as it was there.

        Raises:
            StoreError: a long log is still being read, or the history cannot be.
        """
        self._require_read("the views")
        issues: Iterator[list[Shelved]] | None = None
        async with self._moving:
            fold, position = self._fold, self.position
            names = [name for name in fold.names if name not in fold.stopped]
            if HISTORY.name in names:
                names.remove(HISTORY.name)
                issues = pages(fold.state(HISTORY.name), position, _PAGE)
            found = await asyncio.to_thread(
                lambda: {name: Fingerprint.of(fold.canonical(name)) for name in names}
            )
        if issues is not None:
            found[HISTORY.name] = await _of_list(issues)
        return Fingerprints(position, MappingProxyType(found))


async def _of_list(issues: Iterator[list[Shelved]]) -> Fingerprint:
    """As that of the whole list, with the loop's own turns between the pages."""
    digest, size = sha256(), 0
    before = b"["
    for page in issues:
        told = before + b",".join([canonical(shown(record)) for record in page])
        digest.update(told)
        size += len(told)
        before = b","
        await asyncio.sleep(0)
    end = b"]" if before == b"," else b"[]"
    digest.update(end)
    return Fingerprint(size + len(end), digest.hexdigest())
