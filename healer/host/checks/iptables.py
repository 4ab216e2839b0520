"""The listing of `iptables -S` and `ip6tables -S`, read for one packet (iptables(8))."""

from __future__ import annotations

import ipaddress
import shlex
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from healer.host.checks.ruleset import BaseChain, Packet, Rule, Ruleset, Way, both

__all__ = ["read_iptables"]

_BASES: Final = {"input": "INPUT", "output": "OUTPUT"}
_VERDICTS: Final = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "reject",
    "RETURN": "return",
    "QUEUE": "accept",
    "NFQUEUE": "accept",
}
_SAYS_NOTHING: Final = frozenset({"--comment", "--reject-with", "--log-prefix", "--log-level"})
# Modules that match nothing by themselves: their options do.
_PLAIN_MODULES: Final = frozenset({"tcp", "multiport", "conntrack", "state", "comment"})


def read_iptables(listing: str, packet: Packet) -> Ruleset:
    """The rules of the filter table that `packet` can meet.

    Raises:
        ValueError: a line is not one that these programs print.
    """
    lines = [shlex.split(line) for line in listing.splitlines() if line.strip()]
    if any(len(words) < 2 + (words[0] == "-P") for words in lines):
        raise ValueError("cannot read this iptables listing: a line names no chain")
    names = {words[1] for words in lines if words[0] in {"-N", "-P"}}
    policies = {words[1]: words[2].lower() for words in lines if words[0] == "-P"}
    chains: defaultdict[str, list[Rule]] = defaultdict(list)
    for words in lines:
        if words[0] == "-A":
            rules = chains[words[1]]
            rules.append(_rule(f"{words[1]} {len(rules) + 1}", words[2:], packet, names))
    bases = tuple(
        BaseChain(_BASES[hook], policies.get(_BASES[hook], "accept"))
        for hook in sorted(packet.way.hooks & _BASES.keys())
    )
    return Ruleset({name: tuple(rules) for name, rules in chains.items()}, bases)


def _rule(name: str, words: list[str], packet: Packet, chains: set[str]) -> Rule:
    conditions: list[bool | None] = []
    verdict, target = "none", ""
    position, negated = 0, False
    while position < len(words):
        option = words[position]
        if option == "!":
            negated, position = True, position + 1
            continue
        values = _values(words, position)
        position += 1 + len(values)
        value = " ".join(values)
        if option in {"-j", "-g"}:
            leads = "jump" if option == "-j" else "goto"
            verdict, target = (
                (leads, value) if value in chains else (_VERDICTS.get(value, "none"), "")
            )
        elif option == "-m":
            conditions.append(True if value in _PLAIN_MODULES else None)
        elif option not in _SAYS_NOTHING:
            met = _MATCHES[option](value, packet) if option in _MATCHES else None
            conditions.append(met if met is None or not negated else not met)
        negated = False
    # A target that ends nothing (LOG, MARK) lets the walk go on, as a chain without rules does.
    return Rule(name, both(conditions), "jump" if verdict == "none" else verdict, target)


def _values(words: list[str], position: int) -> list[str]:
    """The words after an option, up to the next one."""
    end = position + 1
    while end < len(words) and words[end] != "!" and not words[end].startswith("-"):
        end += 1
    return words[position + 1 : end]


def _port(value: str, packet: Packet) -> bool | None:
    for part in value.split(","):
        first, colon, last = part.partition(":")
        if not first.isdigit() or (colon and not last.isdigit()):
            return None
        if int(first) <= packet.port <= int(last if colon else first):
            return True
    return False


def _state(value: str, packet: Packet) -> bool | None:
    del packet
    return "NEW" in value.split(",")


def _protocol(value: str, packet: Packet) -> bool | None:
    del packet
    return value in {"tcp", "6", "all"}


def _destination(value: str, packet: Packet) -> bool | None:
    return ipaddress.ip_address(packet.host) in ipaddress.ip_network(value, strict=False)


def _source(value: str, packet: Packet) -> bool | None:
    return _destination(value, packet) if packet.way is Way.LOOP else None


def _interface(value: str, packet: Packet) -> bool | None:
    if packet.way is Way.LOOP:
        return value in {"lo", "lo+", "l+", "+"}
    return False if value == "lo" else None


_MATCHES: Final[dict[str, Callable[[str, Packet], bool | None]]] = {
    "-p": _protocol,
    "-s": _source,
    "-d": _destination,
    "-i": _interface,
    "-o": _interface,
    "--dport": _port,
    "--dports": _port,
    "--destination-port": _port,
    "--destination-ports": _port,
    "--ports": lambda value, packet: _port(value, packet) or None,
    "--ctstate": _state,
    "--state": _state,
}
