"""The listing of `nft -j list ruleset`, read for one packet (libnftables-json(5))."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from healer.host.checks.ruleset import BaseChain, Packet, Rule, Ruleset, Way, both

__all__ = ["read_nftables"]

_FAMILIES: Final = {4: {"ip", "inet"}, 6: {"ip6", "inet"}}
_VERDICTS: Final = frozenset({"accept", "drop", "reject", "jump", "goto", "return"})
# These end the walk as well, and let the packet live: elsewhere, or in a program's hands.
_LIKE_ACCEPT: Final = frozenset({"queue", "dnat", "snat", "redirect", "masquerade", "tproxy"})
_UNSURE: Final = frozenset({"limit", "quota", "ct count", "xt"})
_PORT_PROTOCOLS: Final = frozenset({"tcp", "th"})
_OTHER_PROTOCOLS: Final = frozenset(
    {"udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "esp", "ah", "igmp", "arp"}
)

_Sets = Mapping[tuple[str, str, str], Sequence[Any]]


def read_nftables(listing: Mapping[str, Any], packet: Packet) -> Ruleset:
    """The rules and base chains of `listing` that `packet` can meet.

    Raises:
        ValueError: it is not a listing of this format.
    """
    try:
        return _read([_only(entry) for entry in listing["nftables"]], packet)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"cannot read this nftables listing: {error!r}") from error


def _read(objects: Sequence[tuple[str, Any]], packet: Packet) -> Ruleset:
    dormant = {
        (each["family"], each["name"])
        for kind, each in objects
        if kind == "table" and "dormant" in each.get("flags", ())
    }
    sets = {
        (each["family"], each["table"], each["name"]): each.get("elem", ())
        for kind, each in objects
        if kind in {"set", "map"}
    }
    chains: defaultdict[str, list[Rule]] = defaultdict(list)
    bases = []
    opaque = 0
    for kind, each in objects:
        family = each.get("family")
        if family not in _FAMILIES[packet.family] or (family, each.get("table")) in dormant:
            continue
        if kind == "chain" and each.get("hook") in packet.way.hooks:
            bases.append(BaseChain(_path(each, each["name"]), each.get("policy", "accept")))
        elif kind == "rule":
            opaque += any("xt" in statement for statement in each["expr"])
            chains[_path(each, each["chain"])] += _RuleReader(each, packet, sets).rules()
    return Ruleset({name: tuple(rules) for name, rules in chains.items()}, tuple(bases), opaque)


def _only(entry: Any) -> tuple[str, Any]:
    """The one key and value of an object of this format."""
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"cannot read {entry!r} as an object with one key")
    return next(iter(entry.items()))


def _path(each: Mapping[str, Any], chain: str) -> str:
    return f"{each['family']} {each['table']} {chain}"


class _RuleReader:
    def __init__(self, rule: Mapping[str, Any], packet: Packet, sets: _Sets) -> None:
        self._rule = rule
        self._packet = packet
        self._sets = sets
        self._name = f"{_path(rule, rule['chain'])} {rule.get('handle', '?')}"

    def rules(self) -> Iterator[Rule]:
        """One rule for its verdict, or one for each entry of its verdict map; none without."""
        conditions: list[bool | None] = []
        for statement in self._rule["expr"]:
            kind, body = _only(statement)
            if kind == "match":
                conditions.append(self._match(body["op"], body["left"], body["right"]))
            elif kind in _UNSURE:
                conditions.append(None)
            elif kind == "vmap":
                for value, verdict in self._elements(body["data"]):
                    met = self._match("==", body["key"], value)
                    yield from self._verdict(verdict, both([*conditions, met]))
            else:
                yield from self._verdict(statement, both(conditions))

    def _verdict(self, statement: Mapping[str, Any], condition: bool | None) -> Iterator[Rule]:
        kind, body = _only(statement)
        if kind in _LIKE_ACCEPT:
            yield Rule(self._name, condition, "accept")
        elif kind in _VERDICTS:
            leads = kind in {"jump", "goto"}
            target = _path(self._rule, body["target"]) if leads else ""
            yield Rule(self._name, condition, kind, target)

    def _elements(self, right: Any) -> Sequence[Any]:
        if isinstance(right, str) and right.startswith("@"):
            key = (self._rule["family"], self._rule["table"], right[1:])
            return self._sets.get(key, ())
        if isinstance(right, dict) and "set" in right:
            right = right["set"]
        return right if isinstance(right, list) else [right]

    def _match(self, op: str, left: Any, right: Any) -> bool | None:
        if self._impossible(left):
            return False
        value = self._value(left)
        if value is None:
            return self._interface(op, left, right)
        if op in {"<", ">", "<=", ">="}:
            return _compare(op, value, right)
        inside = [_contains(value, element) for element in self._elements(right)]
        found = True if True in inside else None if None in inside else False
        if op == "!=":
            return None if found is None else not found
        return found if op in {"==", "in"} else None

    def _impossible(self, left: Any) -> bool:
        """Whether the match needs another protocol than the packet has, whatever it compares."""
        payload = left.get("payload") if isinstance(left, dict) else None
        if not isinstance(payload, dict):
            return False
        protocol = payload.get("protocol")
        other_family = "ip6" if self._packet.family == 4 else "ip"
        return protocol in _OTHER_PROTOCOLS or protocol == other_family

    def _value(self, left: Any) -> str | int | None:
        """What the packet has there; None where that is not known."""
        packet = self._packet
        match left:
            case {"payload": {"protocol": protocol, "field": "dport"}}:
                return packet.port if protocol in _PORT_PROTOCOLS else None
            case {"payload": {"protocol": "ip" | "ip6", "field": "daddr"}}:
                return packet.host
            case {"payload": {"protocol": "ip" | "ip6", "field": "saddr"}}:
                return packet.host if packet.way is Way.LOOP else None
            case {"payload": {"protocol": "ip", "field": "protocol"}}:
                return "tcp"
            case {"payload": {"protocol": "ip6", "field": "nexthdr"}} | {
                "meta": {"key": "l4proto"}
            }:
                return "tcp"
            case {"meta": {"key": "nfproto"}}:
                return f"ipv{packet.family}"
            case {"meta": {"key": "protocol"}}:
                return "ip" if packet.family == 4 else "ip6"
            case {"ct": {"key": "state"}}:
                return "new"
            case _:
                return None

    def _interface(self, op: str, left: Any, right: Any) -> bool | None:
        """A match on an interface: `lo` or not is all that is known of it."""
        match left:
            case {"meta": {"key": "iif" | "iifname" | "oif" | "oifname"}}:
                pass
            case _:
                return None
        names = self._elements(right)
        if self._packet.way is Way.LOOP:
            found = any(_contains("lo", name) is True for name in names)
        elif all(name == "lo" for name in names):
            found = False
        else:
            return None
        return found if op in {"==", "in"} else not found if op == "!=" else None


def _contains(value: str | int, element: Any) -> bool | None:
    match element:
        case {"elem": {"val": inner}}:
            return _contains(value, inner)
        case {"range": [first, last]}:
            if isinstance(value, int) and isinstance(first, int):
                return bool(first <= value <= last)
            return _in_range(value, first, last)
        case {"prefix": {"addr": address, "len": length}}:
            return _in_network(value, f"{address}/{length}")
        case int() | str():
            if value == "tcp":
                return element in {"tcp", "6", 6}
            if isinstance(value, str) and isinstance(element, str) and element.endswith("*"):
                return value.startswith(element[:-1])
            return value == element
        case _:
            return None


def _in_network(value: str | int, network: str) -> bool | None:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return None


def _in_range(value: str | int, first: Any, last: Any) -> bool | None:
    try:
        ends = [ipaddress.ip_address(end) for end in (first, last)]
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    if {end.version for end in ends} != {address.version}:
        return None
    return int(ends[0]) <= int(address) <= int(ends[1])


def _compare(op: str, value: str | int, right: Any) -> bool | None:
    if not isinstance(value, int) or not isinstance(right, int):
        return None
    return {"<": value < right, ">": value > right, "<=": value <= right, ">=": value >= right}[op]
