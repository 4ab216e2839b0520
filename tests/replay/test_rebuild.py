"""Rebuilding from nothing, and what replay can never reach."""

from __future__ import annotations

from random import Random

import grimp
import pytest

from projections import ALL
from projections.fold import Fold
from projections.shelf import Wanted
from replay.rebuild import differences, rebuild
from tests.projections.build import MemoryLog, random_log


async def test_a_rebuilt_world_equals_the_live_one_and_tells_its_progress():
    facts = random_log(Random(1), issues=120)
    live = Fold(ALL)
    live.apply(facts)
    steps: list[tuple[int, int]] = []
    fold = await rebuild(MemoryLog(facts), progress=lambda *step: steps.append(step))
    assert differences(fold.fingerprints(), live.fingerprints()) == []
    assert steps[0] == (0, len(facts))
    assert steps[-1] == (len(facts), len(facts))


async def test_the_world_at_a_position_is_that_of_the_log_cut_there():
    facts = random_log(Random(2), issues=60)
    live = Fold(ALL)
    live.apply(facts[:333])
    fold = await rebuild(MemoryLog(facts), until=333)
    assert fold.snapshot() == live.snapshot()


async def test_an_empty_log_is_rebuilt_too():
    fold = await rebuild(MemoryLog(), until=7)
    assert fold.position == 0
    assert fold.view("history") == []


def test_a_view_that_differs_is_named():
    facts = random_log(Random(3), issues=10)
    ours, theirs = Fold(ALL), Fold(ALL)
    ours.apply(facts)
    theirs.apply(facts)
    shelf = theirs.state("history").shelf
    shelf.add(next(shelf.newest(Wanted()))._replace(position=1))
    [difference] = differences(ours.fingerprints(), theirs.fingerprints())
    assert difference.name == "history"
    assert difference.live != difference.rebuilt


def test_views_of_different_positions_are_not_compared():
    facts = random_log(Random(4), issues=10)
    ours, theirs = Fold(ALL), Fold(ALL)
    ours.apply(facts)
    theirs.apply(facts[:-1])
    with pytest.raises(ValueError, match="cannot compare views of position"):
        differences(ours.fingerprints(), theirs.fingerprints())


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("healer", "projections", "replay", cache_dir=None)


@pytest.mark.parametrize("package", ["replay", "projections"])
@pytest.mark.parametrize(
    "forbidden",
    ["healer.host", "healer.probes", "healer.playbooks", "healer.watchdog", "healer.guardian",
     "healer.engine", "healer.bootstrap", "healer.api", "healer.cli"],
)  # fmt: skip
def test_the_read_side_holds_nothing_that_could_act(graph, package, forbidden):
    if forbidden not in graph.modules:
        pytest.skip(f"there is no {forbidden} yet")
    assert not graph.chain_exists(importer=package, imported=forbidden, as_packages=True)
