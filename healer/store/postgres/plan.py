"""What a group of appends would write, worked out while nobody else can append.

All refusals are decided here, from what was read under the lock: an entry that conflicts fails
alone, without a savepoint. The constraints of the tables stand behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from healer.domain.component import component_of
from healer.domain.events import IssueDetected, IssueFailed, IssueTakenOver, IssueVerified
from healer.errors import IssueConflictError, StoreError
from healer.store import chain
from healer.store.claim import conflict
from healer.store.codec import Encoded
from healer.store.postgres.lease import Holding, Lease
from healer.store.unshared import moved

__all__ = ["Entry", "Outcome", "Plan", "Row"]

Outcome = int | StoreError
"""The position of an entry's last event, or why it alone was refused."""


class Entry(NamedTuple):
    """Events that are appended together, and the lease that is taken with them."""

    events: Sequence[Encoded]
    lease: Lease | None = None


class Row(NamedTuple):
    """A row of the table `event`, in the order of its columns."""

    position: int
    stream: str
    version: int
    topic: str
    time: int
    body: bytes
    hash: bytes


class _Stage:
    """What one entry would change; thrown away when it is refused."""

    def __init__(self, plan: Plan) -> None:
        self.position = plan.position
        self.hash = plan.hash
        self.rows: list[Row] = []
        self.versions: dict[str, int] = {}
        self.holdings = dict(plan.holdings)
        self.fences = dict(plan.fences)


class Plan:
    """Collects entries behind `position`, whose event has `hash_`: they become `start` and `root`.

    `versions` are those of the streams concerned, `holdings` the open issues of the components and
    streams concerned, by component; `fences` what this node holds, by issue.
    """

    def __init__(
        self,
        position: int,
        hash_: bytes,
        versions: Mapping[str, int],
        holdings: Iterable[Holding],
        fences: Mapping[str, int],
    ) -> None:
        self.start = position
        self.root = hash_
        self.position = position
        self.hash = hash_
        self.rows: list[Row] = []
        self.outcomes: list[Outcome] = []
        self.before = {holding.component: holding for holding in holdings}
        self.holdings = dict(self.before)
        self.fences = dict(fences)
        self._versions = dict(versions)

    def add(self, entry: Entry) -> None:
        """Take `entry` wholly or not at all, and note its outcome."""
        stage = _Stage(self)
        try:
            if entry.lease is not None:
                _check_free(stage, entry.lease)
                self._check_seen(entry.lease)
            for encoded in entry.events:
                self._place(stage, encoded, entry.lease)
            if entry.lease is not None:
                _take(stage, entry.lease, entry.events)
        except StoreError as error:
            self.outcomes.append(error)
            return
        self.position, self.hash = stage.position, stage.hash
        self.rows += stage.rows
        self._versions |= stage.versions
        self.holdings, self.fences = stage.holdings, stage.fences
        self.outcomes.append(self.position)

    def _place(self, stage: _Stage, encoded: Encoded, lease: Lease | None) -> None:
        event, stream, version, topic, time, body = encoded
        current = stage.versions.get(stream, self._versions.get(stream, 0))
        if version != current + 1:
            raise IssueConflictError(
                f"cannot append {stream}/{version}: the stream is at version {current}"
            )
        if "\0" in stream:
            raise StoreError(f"cannot store {stream!r}: PostgreSQL has no NUL in a text")
        _check_fence(stage, encoded, lease)
        stage.versions[stream] = version
        stage.position += 1
        stage.hash = chain.link(stage.hash, stage.position, stream, version, topic=topic, body=body)
        stage.rows.append(Row(stage.position, stream, version, topic, time, body, stage.hash))
        match event:
            case IssueDetected(component=component):
                if "\0" in component:
                    raise StoreError(
                        f"cannot store component {component!r}: PostgreSQL has no NUL in a text"
                    )
                holder = stage.holdings.get(component)
                if holder is not None:
                    raise conflict(component, stream, holder.issue)
                stage.holdings[component] = Holding(component, stream)
            case IssueVerified() | IssueFailed():
                stage.holdings = {
                    name: held for name, held in stage.holdings.items() if held.issue != stream
                }
                stage.fences.pop(stream, None)
            case _:
                pass

    def _check_seen(self, lease: Lease) -> None:
        for stream, expected in lease.seen.items():
            version = self._versions.get(stream, 0)
            if version != expected:
                raise moved(stream, expected, version)

    @property
    def changed(self) -> list[str]:
        """The components whose open issue, or its holder, is another one than before."""
        return [
            component
            for component in self.before | self.holdings
            if self.before.get(component) != self.holdings.get(component)
        ]


def _holding(stage: _Stage, stream: str) -> Holding | None:
    """The open issue that a stream tells of, or stands behind: whoever heals a component is the
    only one to write of the component, too."""
    component = component_of(stream)
    if component is not None:
        return stage.holdings.get(component)
    return next((each for each in stage.holdings.values() if each.issue == stream), None)


def _check_fence(stage: _Stage, encoded: Encoded, lease: Lease | None) -> None:
    holding = _holding(stage, encoded.stream)
    if holding is None or holding.fence is None:
        return
    if lease is not None and lease.component == holding.component:
        return
    if stage.fences.get(holding.issue) != holding.fence:
        what = "issue" if encoded.stream == holding.issue else "component"
        raise IssueConflictError(
            f"cannot append {encoded.stream}/{encoded.version}: the {what} is healed by node "
            f"{holding.node!r} since event {holding.fence}"
        )


def _check_free(stage: _Stage, lease: Lease) -> None:
    holding = stage.holdings.get(lease.component)
    if holding is not None and holding.alive and holding.node != lease.node:
        raise IssueConflictError(
            f"cannot claim component {lease.component!r} for node {lease.node!r}: its issue "
            f"{holding.issue} is healed by node {holding.node!r}"
        )


def _take(stage: _Stage, lease: Lease, events: Sequence[Encoded]) -> None:
    holding = stage.holdings.get(lease.component)
    taken = IssueDetected | IssueTakenOver
    if holding is None and any(isinstance(each.event, taken) for each in events):
        return  # it ends in the same breath, and nobody needs to hold it
    if holding is None:
        raise IssueConflictError(
            f"cannot claim component {lease.component!r}: it has no open issue"
        )
    if all(encoded.stream != holding.issue for encoded in events):
        raise StoreError(
            f"cannot claim component {lease.component!r}: no fact of its issue {holding.issue} "
            "says so"
        )
    stage.fences[holding.issue] = stage.position
    stage.holdings[lease.component] = Holding(
        lease.component, holding.issue, lease.node, stage.position, alive=True, ttl=lease.ttl
    )
