"""One node at a time heals a component, and one that was given up for dead writes no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

from healer.errors import IssueConflictError, NodeBusyError, StoreError
from healer.store.postgres.node import NAMES
from healer.store.postgres.place import locate
from healer.testing import SharedLog, SharedMemory
from tests import factory
from tests.conftest import Until
from tests.store.test_postgres import cut_connections, node, owner, started

LONG = 60.0


class House(Protocol):
    """A log that several nodes share."""

    def node(self, *, monotonic: Callable[[], float] = ...) -> AbstractAsyncContextManager[Any]:
        """A node's own log object."""
        ...

    def run_out(self) -> None:
        """Let every lease end now."""
        ...


class OnServer:
    def __init__(self, url: str) -> None:
        self._url = url

    def node(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        return node(self._url, **options)

    def run_out(self) -> None:
        with owner(self._url) as connection:
            connection.execute("UPDATE healer.open_issue SET expires = now() - interval '1 s'")


class InMemory:
    def __init__(self) -> None:
        self._memory = SharedMemory(time.monotonic)

    @asynccontextmanager
    async def node(self, **options: Any) -> AsyncIterator[SharedLog]:
        yield SharedLog(self._memory, **options)

    def run_out(self) -> None:
        for holding in self._memory.holdings.values():
            holding.expires = time.monotonic() - 1


@pytest.fixture(params=["server", "memory"])
def house(request: pytest.FixtureRequest) -> House:
    if request.param == "memory":
        return InMemory()
    return OnServer(request.getfixturevalue("database"))


TAKE_NAME = b"SELECT pg_advisory_lock(%d, hashtext(%%s))" % NAMES


def _waits_for_a_lock(url: str) -> bool:
    with owner(url) as connection:
        row = connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone()
    return row is not None


async def test_the_fence_is_the_position_of_the_fact_that_took_the_issue(house: House) -> None:
    async with house.node(monotonic=lambda: 100.0) as a:
        await a.append([started("other", 1)])
        claim = await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        assert (claim.component, claim.node, claim.fence) == ("chat_api", "a", 2)
        assert claim.expires == 160.0
        assert await a.append([started("i1", 2)]) == 3
        assert await a.open_issues() == {"chat_api": "i1"}


async def test_an_issue_that_is_held_can_be_neither_claimed_nor_written_by_another(
    house: House,
) -> None:
    async with house.node() as a, house.node() as b:
        await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        with pytest.raises(
            IssueConflictError,
            match=r"^cannot claim component 'chat_api' for node 'b': its issue i1 is healed by "
            r"node 'a'$",
        ):
            await b.claim("chat_api", [started("i1", 2)], node="b", ttl=LONG)
        with pytest.raises(
            IssueConflictError,
            match=r"^cannot append i1/2: the issue is healed by node 'a' since event 1$",
        ):
            await b.append([started("i1", 2)])
        # Whatever is not of that issue is nobody's.
        assert await b.append([started("i2", 1)]) == 2


async def test_a_lease_that_ran_out_passes_on_and_fences_off_who_held_it(house: House) -> None:
    async with house.node() as a, house.node() as b:
        await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        house.run_out()
        claim = await b.claim("chat_api", [started("i1", 2)], node="b", ttl=LONG)
        assert claim.fence == 2
        with pytest.raises(IssueConflictError, match="is healed by node 'b' since event 2"):
            await a.append([started("i1", 3)])
        assert await a.renew(ttl=LONG) == []
        assert await b.append([factory.issue_verified(stream="i1", version=3)]) == 3
        assert await a.open_issues() == {}


async def test_a_lease_that_ran_out_says_so_and_keeps_the_name_of_its_holder(
    house: House,
) -> None:
    async with house.node() as a, house.node() as b:
        await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        house.run_out()
        holder = await b.holder("chat_api")
        assert holder is not None
        assert (holder.issue, holder.node) == ("i1", "a")
        assert holder.left < 0


async def test_a_holder_whom_nobody_replaced_goes_on(house: House) -> None:
    async with house.node() as a:
        await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        house.run_out()
        assert await a.append([started("i1", 2)]) == 2


async def test_of_two_nodes_that_want_a_lease_that_ran_out_one_gets_it(house: House) -> None:
    async with house.node() as a, house.node() as b, house.node() as c:
        await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        house.run_out()
        outcomes = await asyncio.gather(
            b.claim("chat_api", [started("i1", 2)], node="b", ttl=LONG),
            c.claim("chat_api", [started("i1", 2)], node="c", ttl=LONG),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, IssueConflictError) for outcome in outcomes) == 1


async def test_renewing_keeps_the_fence_and_leaves_nothing_in_the_log(house: House) -> None:
    now = [100.0]
    async with house.node(monotonic=lambda: now[0]) as a, house.node() as b:
        claim = await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        house.run_out()
        now[0] = 110.0
        (renewed,) = await a.renew(ttl=LONG)
        assert (renewed.component, renewed.node) == ("chat_api", "a")
        assert (renewed.fence, renewed.expires) == (claim.fence, 170.0)
        assert await a.head() == 1
        with pytest.raises(IssueConflictError, match="is healed by node 'a'"):
            await b.claim("chat_api", [started("i1", 2)], node="b", ttl=LONG)
        await a.append([factory.issue_failed(stream="i1", version=2)])
        assert await a.renew(ttl=LONG) == []


async def test_a_node_that_was_restarted_takes_its_issue_back_at_once(house: House) -> None:
    async with house.node() as hung, house.node() as restarted:
        await hung.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        with pytest.raises(IssueConflictError, match="is healed by node 'a' since event 1"):
            await restarted.append([started("i1", 2)])
        claim = await restarted.claim("chat_api", [started("i1", 2)], node="a", ttl=LONG)
        assert claim.fence == 2
        with pytest.raises(IssueConflictError, match="since event 2"):
            await hung.append([started("i1", 3)])


async def test_a_lease_outlives_a_lost_connection(database: str) -> None:
    async with node(database) as a:
        await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        await asyncio.to_thread(cut_connections, database)
        assert await a.append([started("i1", 2)]) == 2
        assert len(await a.renew(ttl=LONG)) == 1


async def test_a_refused_claim_changes_nothing(house: House) -> None:
    async with house.node() as a, house.node() as b:
        with pytest.raises(IssueConflictError, match="'chat_api': it has no open issue"):
            await a.claim("chat_api", [started("i1", 1)], node="a", ttl=LONG)
        await a.append([factory.issue_detected(stream="i1")])
        with pytest.raises(StoreError, match="no fact of its issue i1 says so"):
            await b.claim("chat_api", [started("i2", 1)], node="b", ttl=LONG)
        with pytest.raises(IssueConflictError, match="the stream is at version 1"):
            await b.claim("chat_api", [started("i1", 3)], node="b", ttl=LONG)
        assert await a.head() == 1
        assert await a.append([started("i1", 2)]) == 2


async def test_an_issue_that_nobody_claimed_is_anybodys(house: House) -> None:
    async with house.node() as a, house.node() as b:
        await a.append([factory.issue_detected(stream="i1")])
        assert await b.append([started("i1", 2)]) == 2
        assert (await b.claim("chat_api", [started("i1", 3)], node="b", ttl=LONG)).fence == 3
        with pytest.raises(IssueConflictError, match="is healed by node 'b'"):
            await a.append([started("i1", 4)])


async def test_who_heals_a_component_is_the_only_one_to_write_of_it(house: House) -> None:
    async with house.node() as a, house.node() as b:
        await b.append([factory.component_registered()])
        await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=LONG)
        moved = factory.port_rebound(version=2)
        with pytest.raises(
            IssueConflictError,
            match=r"^cannot append component:chat_api/2: the component is healed by node 'a' "
            r"since event 2$",
        ):
            await b.append([moved])
        assert await a.append([moved]) == 3
        await a.append([factory.issue_failed(stream="i1", version=2)])
        assert await b.append([factory.port_rebound(version=3)]) == 5


async def test_an_issue_that_ends_in_the_same_breath_is_held_by_nobody(house: House) -> None:
    async with house.node() as a, house.node() as b:
        both = [factory.issue_detected(stream="i1"), factory.issue_failed(stream="i1", version=2)]
        assert (await a.claim("chat_api", both, node="a", ttl=LONG)).fence == 2
        assert await a.open_issues() == {}
        assert await a.renew(ttl=LONG) == []
        await b.claim("chat_api", [factory.issue_detected(stream="i2")], node="b", ttl=LONG)
        house.run_out()
        ended = [
            factory.issue_taken_over(stream="i2", version=2),
            factory.issue_failed(stream="i2", version=3),
        ]
        assert (await a.claim("chat_api", ended, node="a", ttl=LONG)).fence == 5
        assert await a.open_issues() == {}


# --- the names of nodes --------------------------------------------------------------------------


async def test_two_healers_of_one_name_are_refused_by_name(database: str) -> None:
    async with node(database, node="edge-1"), node(database, node="edge-2"), node(database):
        with pytest.raises(NodeBusyError, match=r"as node 'edge-1': .* with node: in its") as error:
            async with node(database, node="edge-1"):
                pass
        assert (error.value.location, error.value.node) == (locate(database).name, "edge-1")
    async with node(database, node="edge-1"):
        pass


async def test_a_name_outlives_a_lost_connection(database: str) -> None:
    async with node(database, node="edge-1") as log:
        await log.append([started("i1", 1)])
        await asyncio.to_thread(cut_connections, database)
        assert await log.append([started("i1", 2)]) == 2
        with pytest.raises(NodeBusyError):
            async with node(database, node="edge-1"):
                pass


async def test_a_name_that_another_took_meanwhile_is_waited_for(database: str) -> None:
    async with node(database, node="edge-1", patience=60.0) as log:
        with owner(database) as other:
            taking = asyncio.create_task(
                asyncio.to_thread(other.execute, TAKE_NAME, ("edge-1",)), name="taking"
            )
            # It waits for the name before the session that has it is ended.
            await Until().soon(lambda: _waits_for_a_lock(database), 20)
            await asyncio.to_thread(cut_connections, database, but=other.info.backend_pid)
            await taking
            appending = asyncio.ensure_future(log.append([started("i1", 1)]))
            held = (
                "the database does not answer: the name of node 'edge-1' is held by another "
                "session, ours that was lost or a healer of the same name"
            )
            await Until().soon(lambda: log.unavailable == held, 40)
            assert not appending.done()
        assert await asyncio.wait_for(appending, 30) == 1


@pytest.mark.parametrize("ttl", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_lease_that_is_no_time_is_refused(database: str, ttl: float) -> None:
    async with node(database) as a:
        with pytest.raises(StoreError, match=r"^cannot claim .*: allowed: 0.1 to 86400 s"):
            await a.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=ttl)
        with pytest.raises(StoreError, match=r"^cannot renew .*: allowed: 0.1 to 86400 s"):
            await a.renew(ttl=ttl)
        assert await a.head() == 0
