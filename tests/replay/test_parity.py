"""The same log folded another way."""

from __future__ import annotations

from random import Random

from projections import ALL
from projections.fold import Fold
from projections.history import HISTORY
from projections.projection import Cases, Projection
from replay.parity import fold_alone
from replay.rebuild import differences, rebuild
from tests.projections.build import MemoryLog, random_log


async def test_both_ways_show_the_same_bytes_at_every_end():
    facts = random_log(Random(5), issues=60)
    log = MemoryLog(facts)
    for until in (0, 1, 331, 332, 500, len(facts)):
        fold = await rebuild(log, until=until)
        alone = await fold_alone(log, until=until)
        assert differences(fold.fingerprints(), alone.fingerprints()) == []
        assert alone.position == until


async def test_a_projection_that_reads_more_than_its_facts_is_found_out():
    seen = []
    cases: Cases[list[int]] = Cases()
    for kind in HISTORY.cases.table():

        def count(state: list[int], position: int, event: object) -> None:
            seen.append(position)  # what a pure fold does not have
            state.append(len(seen))

        cases.on(kind)(count)
    impure = Projection("impure", 1, list, cases, list)
    log = MemoryLog(random_log(Random(6), issues=3))
    head = await log.head()
    fold = await rebuild(log, [*ALL, impure])
    alone = await fold_alone(log, [*ALL, impure], until=head)
    assert [each.name for each in differences(fold.fingerprints(), alone.fingerprints())] == [
        "impure"
    ]


async def test_one_that_stops_has_no_view_in_either():
    cases: Cases[list[int]] = Cases()
    for kind in HISTORY.cases.table():

        def refuse(state: list[int], position: int, event: object) -> None:
            raise ArithmeticError("too good")

        cases.on(kind)(refuse)
    stopping = Projection("stopping", 1, list, cases, list)
    log = MemoryLog(random_log(Random(6), issues=3))
    fold = await rebuild(log, [*ALL, stopping])
    alone = await fold_alone(log, [*ALL, stopping], until=fold.position)
    assert "stopping" not in alone.views
    assert fold.snapshot() == alone
    assert isinstance(fold, Fold)
