"""Which of the six issue types a piece of evidence is: one decision table, pure.

The first line that matches decides. "Gone" means that the component's process is known and has
ended; "serves" that a listener takes connections to the component's host; "foreign" that somebody
who is not provably the component serves it. A probe's program (exec) is not the component: what it
says is no answer of the port, and its exit status alone is a refusal.

| host  | evidence                                                    | issue type          |
|-------|-------------------------------------------------------------|---------------------|
| any   | gone, and (on a local host) a foreign listener serves        | port_conflict       |
| any   | gone                                                         | process_crashed     |
| any   | the probe met no name, no route, or a forbidding route       | network_unreachable |
| other | the probe timed out                                          | connection_timeout  |
| other | anything else: only the probe counts where we cannot look    | connection_refused  |
| local | a foreign listener serves, whatever the probe met            | port_conflict       |
| local | nothing listens on the port, and nothing answered the probe  | port_not_listening  |
| local | listeners, all foreign and none of them serves               | port_not_listening  |
| local | listeners that may be ours, none serves (wrong interface)    | connection_refused  |
| local | the probe timed out                                          | connection_timeout  |
| local | anything else: refused, reset, closed, bad status or answer  | connection_refused  |
"""

from __future__ import annotations

import errno
import ipaddress
from typing import Final

from healer.domain.playbook import Evidence
from healer.domain.probe import Outcome, ProbeResult, Reason
from healer.domain.process import Listener
from healer.domain.spec import IssueType

__all__ = ["classify", "is_conclusive", "is_gone", "reaches"]

UNREACHABLE_ERRNOS: Final = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.EHOSTDOWN,
        errno.EACCES,  # a prohibit route
        errno.EINVAL,  # a blackhole route
    }
)
_SETTLED: Final = frozenset(
    {IssueType.PROCESS_CRASHED, IssueType.PORT_NOT_LISTENING, IssueType.PORT_CONFLICT}
)


def classify(evidence: Evidence, host_is_local: bool, port: int, host: str) -> IssueType:
    """The issue type that `evidence` about `host`:`port` shows, after the table above.

    Listeners on other ports are not looked at. `host` is best an address: what a name other than
    localhost stands for cannot be known here, so every listener is then taken to serve it.
    """
    listeners = tuple(each for each in evidence.listeners if each.port == port)
    serves = any(reaches(each, host) for each in listeners)
    foreign = host_is_local and serves and evidence.owned is False
    probe = evidence.probe
    timed_out = probe is not None and probe.reason is Reason.TIMEOUT

    if is_gone(evidence):
        return IssueType.PORT_CONFLICT if foreign else IssueType.PROCESS_CRASHED
    if _no_way(probe):
        return IssueType.NETWORK_UNREACHABLE
    if not host_is_local:
        return IssueType.CONNECTION_TIMEOUT if timed_out else IssueType.CONNECTION_REFUSED
    if foreign:
        return IssueType.PORT_CONFLICT
    if not listeners and (probe is None or not probe.answered):
        return IssueType.PORT_NOT_LISTENING
    if listeners and not serves:
        theirs = evidence.owned is False
        return IssueType.PORT_NOT_LISTENING if theirs else IssueType.CONNECTION_REFUSED
    return IssueType.CONNECTION_TIMEOUT if timed_out else IssueType.CONNECTION_REFUSED


def is_conclusive(evidence: Evidence, issue_type: IssueType) -> bool:
    """Whether no slow check could change the type, and with it the route.

    A look at processes and sockets settles who is gone, who holds the port and that nobody does. A
    timeout or a refusal may still turn out to be a firewall's or a dead interface's.
    `network_unreachable` has no playbook that could be delayed, so that all checks are waited for.
    """
    return is_gone(evidence) or issue_type in _SETTLED


def is_gone(evidence: Evidence) -> bool:
    """Whether the component's process is known and has ended."""
    told = evidence.probe is not None and evidence.probe.reason is Reason.EXITED
    seen = evidence.process is not None and evidence.alive is False
    return evidence.exit is not None or told or seen


def reaches(listener: Listener, host: str) -> bool:
    """Whether a connection to `host` can reach `listener`, however the address is written.

    Linux takes a connection to a wildcard address for one to loopback. `localhost` is either
    loopback address; another name may be any address, so that the answer is yes.
    """
    if host.lower() == "localhost":
        return listener.serves("127.0.0.1") or listener.serves("::1")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return listener.serves("127.0.0.1" if address.version == 4 else "::1")
    return listener.serves(str(address))


def _no_way(probe: ProbeResult | None) -> bool:
    if probe is None or probe.outcome is Outcome.HEALTHY:
        return False
    unreachable = probe.reason in {Reason.UNREACHABLE, Reason.UNRESOLVABLE}
    # Where a program could not be run, the number says why that was, and nothing of the way.
    return unreachable or (probe.kind != "exec" and probe.errno in UNREACHABLE_ERRNOS)
