"""Which process is which, and whose it is."""

from __future__ import annotations

import pytest

from healer.domain.process import Launch, OwnerProof, OwnerSpec, ProcessView, prove_owner
from tests import factory


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"name": "renamed", "exe": None, "uid": 0, "cgroup": None}, True),
        ({"boot_id": "another"}, False),
        ({"pid": 1}, False),
        ({"start_ticks": 1}, False),
        ({"pidfd_inode": 1}, False),
        ({"pidfd_inode": None}, None),
        ({"pidfd_inode": None, "pid": 1}, False),
    ],
)
def test_two_looks_at_a_process_are_compared(change: dict[str, object], same: bool | None) -> None:
    one = factory.process()
    other = factory.process(**change)
    assert one.same_as(other) is same
    assert other.same_as(one) is same


def view(**fields: object) -> ProcessView:
    defaults = {
        "identity": factory.process(),
        "cmdline": ("python3", "-m", "chat_api"),
        "user": "chat",
        "unit": "chat_api.service",
    }
    return ProcessView(**{**defaults, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("owner", "proof"),
    [
        ({}, None),
        ({"user": "chat"}, None),
        ({"user": 1000}, None),
        ({"cmdline": "-m chat_api"}, OwnerProof.CMDLINE),
        ({"cmdline": "other"}, None),
        ({"exe": "/usr/bin/python3"}, OwnerProof.EXECUTABLE),
        ({"exe": "/usr/bin/python"}, None),
        ({"unit": "chat_api.service"}, OwnerProof.UNIT),
        ({"cgroup": "/system.slice"}, OwnerProof.CGROUP),
        ({"cgroup": "/system.slice/"}, OwnerProof.CGROUP),
        ({"cgroup": "/system.slice/chat_api"}, None),
        ({"cmdline": "chat_api", "user": "chat"}, OwnerProof.CMDLINE),
        ({"cmdline": "chat_api", "user": 1000}, OwnerProof.CMDLINE),
        ({"cmdline": "chat_api", "user": "root"}, None),
        ({"cmdline": "chat_api", "exe": "/usr/bin/python3"}, OwnerProof.EXECUTABLE),
    ],
)
def test_an_owner_is_proved_by_the_strongest_of_what_is_said(
    owner: dict[str, object], proof: OwnerProof | None
) -> None:
    assert prove_owner(view(), OwnerSpec(**owner)) is proof  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [OwnerSpec(), OwnerSpec(user="chat"), OwnerSpec(cmdline="other")])
def test_what_a_process_lacks_is_no_proof(spec: OwnerSpec) -> None:
    bare = view(unit=None, cmdline=(), identity=factory.process(exe=None, cgroup=None))
    assert prove_owner(bare, spec) is None


def test_a_process_in_no_cgroup_is_in_none_that_could_be_named() -> None:
    bare = view(identity=factory.process(cgroup=None))
    assert prove_owner(bare, OwnerSpec(cgroup="XXXX")) is None
    within = view(identity=factory.process(cgroup="/X/healer"))
    assert prove_owner(within, OwnerSpec(cgroup="/X/")) is OwnerProof.CGROUP
    assert prove_owner(within, OwnerSpec(cgroup="/XX")) is None


def test_what_we_launched_is_ours_whatever_else_is_said() -> None:
    elsewhere = OwnerSpec(user="nobody")
    launch = Launch(launch_id="l1", leader=factory.process())
    assert prove_owner(view(), elsewhere, (launch,)) is OwnerProof.LAUNCHED
    marked = view(identity=factory.process(7), launch_id="l1")
    assert prove_owner(marked, elsewhere, (launch,)) is OwnerProof.LAUNCHED


def test_a_leader_s_pid_in_other_hands_proves_nothing() -> None:
    launch = Launch(launch_id="l1", leader=factory.process())
    for change in ({"pidfd_inode": 1}, {"start_ticks": 1}, {"pidfd_inode": None}):
        reused = view(identity=factory.process(**change))
        assert prove_owner(reused, OwnerSpec(), (launch,)) is None


def test_another_launch_s_mark_proves_nothing() -> None:
    launch = Launch(launch_id="l1")
    assert prove_owner(view(launch_id="l2"), OwnerSpec(), (launch,)) is None
    assert prove_owner(view(launch_id=None), OwnerSpec(), (launch,)) is None
