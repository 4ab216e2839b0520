"""The decision table from evidence to issue type, line by line."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.classification import classify, is_conclusive, is_gone, reaches
from healer.domain.playbook import Evidence
from healer.domain.probe import ProbeResult, Reason
from healer.domain.process import ExitStatus, Listener, ProcessIdentity
from healer.domain.spec import IssueType

PORT = 8220
PROCESS = ProcessIdentity(boot_id="boot", pid=42, start_ticks=1)
SERVING = (Listener(address="127.0.0.1", port=PORT),)
ELSEWHERE = (Listener(address="192.0.2.7", port=PORT),)


def probe(reason: Reason, number: int | None = None) -> ProbeResult:
    return ProbeResult(kind="tcp", target="127.0.0.1:8220", reason=reason, errno=number)


def by_program(reason: Reason, number: int | None = None) -> ProbeResult:
    return ProbeResult(kind="exec", target="check", reason=reason, errno=number)


def seen(**fields: object) -> Evidence:
    return Evidence.model_validate(fields)


LOCAL = {
    "exit seen": (
        seen(exit=ExitStatus(signal=9), process=PROCESS, alive=False),
        IssueType.PROCESS_CRASHED,
    ),
    "known process gone, nobody told us how": (
        seen(process=PROCESS, alive=False, probe=probe(Reason.REFUSED)),
        IssueType.PROCESS_CRASHED,
    ),
    "the process probe says exited": (
        seen(probe=probe(Reason.EXITED)),
        IssueType.PROCESS_CRASHED,
    ),
    "exit seen while a worker of ours still listens": (
        seen(exit=ExitStatus(code=1), listeners=SERVING, owned=True),
        IssueType.PROCESS_CRASHED,
    ),
    "exit seen while a stranger listens where the host is not": (
        seen(exit=ExitStatus(code=1), listeners=ELSEWHERE, owned=False),
        IssueType.PROCESS_CRASHED,
    ),
    "exit seen and a stranger took the port": (
        seen(exit=ExitStatus(code=1), listeners=SERVING, owned=False),
        IssueType.PORT_CONFLICT,
    ),
    "no name": (
        seen(probe=probe(Reason.UNRESOLVABLE)),
        IssueType.NETWORK_UNREACHABLE,
    ),
    "no route": (
        seen(probe=probe(Reason.UNREACHABLE, errno.ENETUNREACH), process=PROCESS, alive=True),
        IssueType.NETWORK_UNREACHABLE,
    ),
    "a blackhole route": (
        seen(probe=probe(Reason.TIMEOUT, errno.EINVAL), listeners=SERVING, owned=True),
        IssueType.NETWORK_UNREACHABLE,
    ),
    "a stranger serves and looks healthy": (
        seen(probe=probe(Reason.OK), listeners=SERVING, owned=False),
        IssueType.PORT_CONFLICT,
    ),
    "a stranger serves and answers badly": (
        seen(probe=probe(Reason.BAD_STATUS), listeners=SERVING, owned=False, alive=True),
        IssueType.PORT_CONFLICT,
    ),
    "nothing listens, process alive": (
        seen(probe=probe(Reason.REFUSED), process=PROCESS, alive=True, owned=False),
        IssueType.PORT_NOT_LISTENING,
    ),
    "nothing listens, process never known": (
        seen(probe=probe(Reason.REFUSED)),
        IssueType.PORT_NOT_LISTENING,
    ),
    "nothing listens, and packets are dropped": (
        seen(probe=probe(Reason.TIMEOUT), owned=False),
        IssueType.PORT_NOT_LISTENING,
    ),
    "no listener to be seen, yet something answered": (
        seen(probe=probe(Reason.BAD_STATUS)),
        IssueType.CONNECTION_REFUSED,
    ),
    "nothing listens, and a program says so": (
        seen(probe=by_program(Reason.BAD_STATUS), owned=False),
        IssueType.PORT_NOT_LISTENING,
    ),
    "nothing listens, whatever a program says": (
        seen(probe=by_program(Reason.OK)),
        IssueType.PORT_NOT_LISTENING,
    ),
    "ours listens, and a program is not content": (
        seen(probe=by_program(Reason.BAD_STATUS), listeners=SERVING, owned=True, alive=True),
        IssueType.CONNECTION_REFUSED,
    ),
    "ours listens, and a program is not done in time": (
        seen(probe=by_program(Reason.TIMEOUT), listeners=SERVING, owned=True, alive=True),
        IssueType.CONNECTION_TIMEOUT,
    ),
    "ours listens, and the program may not be executed": (
        seen(
            probe=by_program(Reason.PROBER_FAILED, errno.EACCES),
            listeners=SERVING,
            owned=True,
            alive=True,
        ),
        IssueType.CONNECTION_REFUSED,
    ),
    "a stranger listens, and a program is content": (
        seen(probe=by_program(Reason.OK), listeners=SERVING, owned=False),
        IssueType.PORT_CONFLICT,
    ),
    "only a stranger listens, on another address": (
        seen(probe=probe(Reason.REFUSED), listeners=ELSEWHERE, owned=False),
        IssueType.PORT_NOT_LISTENING,
    ),
    "ours listens on the wrong interface": (
        seen(probe=probe(Reason.REFUSED), listeners=ELSEWHERE, owned=True, alive=True),
        IssueType.CONNECTION_REFUSED,
    ),
    "ours hangs": (
        seen(probe=probe(Reason.TIMEOUT), listeners=SERVING, owned=True, alive=True),
        IssueType.CONNECTION_TIMEOUT,
    ),
    **{
        f"ours answers with {reason}": (
            seen(probe=probe(reason), listeners=SERVING, owned=True, alive=True),
            IssueType.CONNECTION_REFUSED,
        )
        for reason in (
            Reason.REFUSED,
            Reason.RESET,
            Reason.CLOSED,
            Reason.BAD_STATUS,
            Reason.BAD_RESPONSE,
        )
    },
}

REMOTE = {
    Reason.REFUSED: IssueType.CONNECTION_REFUSED,
    Reason.BAD_STATUS: IssueType.CONNECTION_REFUSED,
    Reason.TIMEOUT: IssueType.CONNECTION_TIMEOUT,
    Reason.UNREACHABLE: IssueType.NETWORK_UNREACHABLE,
    Reason.UNRESOLVABLE: IssueType.NETWORK_UNREACHABLE,
}


@pytest.mark.parametrize(("evidence", "expected"), LOCAL.values(), ids=LOCAL.keys())
def test_a_local_component_is_classified_by_the_table(
    evidence: Evidence, expected: IssueType
) -> None:
    assert classify(evidence, True, PORT, "127.0.0.1") is expected


@pytest.mark.parametrize(("reason", "expected"), REMOTE.items())
def test_only_the_probe_counts_for_a_component_elsewhere(
    reason: Reason, expected: IssueType
) -> None:
    evidence = seen(probe=probe(reason), listeners=SERVING, owned=False)
    assert classify(evidence, False, PORT, "192.0.2.7") is expected


def test_a_listener_on_another_port_says_nothing() -> None:
    evidence = seen(probe=probe(Reason.REFUSED), listeners=SERVING, owned=False)
    assert classify(evidence, True, PORT + 1, "127.0.0.1") is IssueType.PORT_NOT_LISTENING


LISTENERS = st.builds(
    Listener,
    address=st.sampled_from(["127.0.0.1", "0.0.0.0", "::", "::1", "192.0.2.7"]),
    port=st.sampled_from([PORT, PORT + 1]),
    dual_stack=st.booleans(),
    hidden=st.booleans(),
)
EVIDENCE = st.builds(
    Evidence,
    probe=st.none()
    | st.builds(
        probe,
        st.sampled_from(Reason),
        st.none() | st.sampled_from([errno.EINVAL, errno.ECONNREFUSED, errno.EACCES]),
    ),
    exit=st.none() | st.builds(ExitStatus, code=st.none() | st.integers(0, 255)),
    process=st.none() | st.just(PROCESS),
    alive=st.none() | st.booleans(),
    listeners=st.lists(LISTENERS, max_size=3).map(tuple),
    owned=st.none() | st.booleans(),
)
HOSTS = st.sampled_from(["127.0.0.1", "::1", "localhost", "0.0.0.0", "192.0.2.7", "some.name"])


@given(EVIDENCE, st.booleans(), HOSTS)
def test_any_evidence_has_exactly_one_type_and_an_end_is_never_overlooked(
    evidence: Evidence, local: bool, host: str
) -> None:
    issue_type = classify(evidence, local, PORT, host)

    assert issue_type in IssueType
    if is_gone(evidence):
        assert issue_type in {IssueType.PROCESS_CRASHED, IssueType.PORT_CONFLICT}
        assert is_conclusive(evidence, issue_type)
    else:
        assert issue_type is not IssueType.PROCESS_CRASHED
    if issue_type is IssueType.PORT_CONFLICT:
        assert local
        assert evidence.owned is False
        assert evidence.listeners


@pytest.mark.parametrize("issue_type", IssueType)
def test_who_is_gone_and_who_holds_the_port_is_settled_without_the_slow_checks(
    issue_type: IssueType,
) -> None:
    gone, alive = seen(exit=ExitStatus(code=1)), seen(probe=probe(Reason.REFUSED), alive=True)
    assert is_conclusive(gone, issue_type)
    assert is_conclusive(alive, issue_type) is (
        issue_type
        in {IssueType.PROCESS_CRASHED, IssueType.PORT_NOT_LISTENING, IssueType.PORT_CONFLICT}
    )


def test_a_timeout_or_a_refusal_waits_for_the_slow_checks() -> None:
    evidence = seen(probe=probe(Reason.TIMEOUT), listeners=SERVING, owned=True)
    assert not is_conclusive(evidence, IssueType.CONNECTION_TIMEOUT)
    assert not is_conclusive(evidence, IssueType.CONNECTION_REFUSED)
    assert not is_conclusive(evidence, IssueType.NETWORK_UNREACHABLE)


@pytest.mark.parametrize(
    ("address", "dual_stack", "host", "expected"),
    [
        ("127.0.0.1", False, "127.0.0.1", True),
        ("127.0.0.1", False, "localhost", True),
        ("::1", False, "localhost", True),
        ("192.0.2.7", False, "localhost", False),
        ("127.0.0.1", False, "0.0.0.0", True),
        ("192.0.2.7", False, "0.0.0.0", False),
        ("0.0.0.0", False, "192.0.2.7", True),
        ("::1", False, "::", True),
        ("127.0.0.1", False, "::", False),
        ("::", False, "2001:db8::1", True),
        ("::1", False, "0:0:0:0:0:0:0:1", True),
        ("127.0.0.1", False, "::ffff:127.0.0.1", True),
        ("::", False, "127.0.0.1", False),
        ("::", True, "127.0.0.1", True),
        ("0.0.0.0", False, "::1", False),
        ("192.0.2.7", False, "some.name", True),
    ],
)
def test_a_listener_reaches_what_the_kernel_would_deliver_to_it(
    address: str, dual_stack: bool, host: str, expected: bool
) -> None:
    listener = Listener(address=address, port=PORT, dual_stack=dual_stack)
    assert reaches(listener, host) is expected
