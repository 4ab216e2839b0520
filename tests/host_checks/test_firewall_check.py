"""Packet filters: real rulesets in namespaces, and listings as the real tools print them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.playbook import CheckStatus
from healer.domain.spec import ComponentSpec
from healer.host.checks import Checks
from healer.host.checks.iptables import read_iptables
from healer.host.checks.nftables import read_nftables
from healer.host.checks.ruleset import BaseChain, Effect, Packet, Rule, Ruleset, Way, judge
from healer.host.checks.tool import Output, find_tool, run_tool

from .conftest import InNamespace, Sockets, need

SAMPLES = Path(__file__).parent / "samples"
NATIVE = json.loads((SAMPLES / "nft_native.json").read_text())
OF_IPTABLES = json.loads((SAMPLES / "nft_of_iptables.json").read_text())
IPTABLES = (SAMPLES / "iptables.txt").read_text()
SPEC = ComponentSpec(name="shop", port=8220)


def table(body: str, policy: str = "accept") -> tuple[str, str]:
    chain = f"chain input {{ type filter hook input priority 0; policy {policy}; {body}\n}}"
    return ("nft -f -", f"table inet shop {{ {chain}\n}}")


@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport 8220 drop",
        "tcp dport 8220 reject",
        "tcp dport 8220 reject with tcp reset",
        "tcp dport { 80, 8220 } drop",
        "tcp dport 8200-8300 drop",
        "tcp dport { 80, 8200-8300 } counter drop",
        "tcp dport >= 8000 drop",
        "tcp dport != 22 drop",
        "iif lo tcp dport vmap { 8220 : drop, 80 : accept }",
        "ip saddr 127.0.0.0/8 tcp dport 8220 drop",
        "meta l4proto tcp drop",
    ],
)
def test_a_rule_that_drops_our_connections_fails(in_namespace: InNamespace, rule: str) -> None:
    need("nft")
    check = in_namespace("firewall_rules", table(rule))

    assert check.facts["connected"] is False
    assert check.status is CheckStatus.FAIL
    assert check.facts["here"] == "blocked"
    assert check.facts["rules"]


@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport 8221 drop",
        "udp dport 8220 drop",
        "ip6 saddr ::/0 tcp dport 8220 drop",
        "tcp dport 8220 accept; tcp dport 8220 drop",
        "ct state established accept; iif lo accept; tcp dport 8220 drop",
        "ct state invalid drop",
        'iifname != "lo" tcp dport 8220 drop',
    ],
)
def test_a_rule_for_others_lets_our_connections_through(
    in_namespace: InNamespace, rule: str
) -> None:
    need("nft")
    check = in_namespace("firewall_rules", table(rule))

    assert check.facts["connected"] is True
    assert check.status is CheckStatus.OK
    assert check.facts["here"] == "open"


def test_a_policy_of_drop_blocks_what_no_rule_accepts(in_namespace: InNamespace) -> None:
    need("nft")
    shut = in_namespace("firewall_rules", table("tcp dport 22 accept", "drop"))
    only_lo = in_namespace("firewall_rules", table("iif lo accept", "drop"))

    assert shut.facts["rules"] == ["inet shop input:policy drop"]
    assert shut.status is CheckStatus.FAIL
    assert only_lo.status is CheckStatus.OK
    assert only_lo.facts["outside"] == "blocked"


def test_a_rule_by_chance_is_a_warning(in_namespace: InNamespace) -> None:
    need("nft")
    check = in_namespace("firewall_rules", table("tcp dport 8220 numgen random mod 100 < 30 drop"))
    assert check.status is CheckStatus.WARN
    assert check.facts["here"] == "partly"


def test_an_address_that_is_shut_to_others_only_is_a_warning(in_namespace: InNamespace) -> None:
    need("nft")
    check = in_namespace(
        "firewall_rules",
        "ip address add 192.0.2.7/24 dev lo",
        table('iifname != "lo" tcp dport 8220 drop', "drop; iif lo accept"),
        host="192.0.2.7",
    )
    assert check.status is CheckStatus.WARN
    assert check.facts["outside"] == "blocked"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("iptables -A INPUT -p tcp --dport 8220 -j DROP", CheckStatus.FAIL),
        ("iptables -A INPUT -p tcp -m multiport --dports 80,8220 -j REJECT", CheckStatus.FAIL),
        ("iptables -A OUTPUT -p tcp --dport 8220 -j REJECT", CheckStatus.FAIL),
        ("iptables -A INPUT -p udp --dport 8220 -j DROP", CheckStatus.OK),
        ("iptables -P INPUT DROP", CheckStatus.FAIL),
    ],
)
def test_rules_of_iptables_are_read_as_well(
    in_namespace: InNamespace, command: str, status: CheckStatus
) -> None:
    need("iptables", "nft")
    check = in_namespace("firewall_rules", command)

    assert check.status is status
    assert check.facts["connected"] is (status is CheckStatus.OK)


PORTS_OF_NATIVE = {
    "local": {8080: "open", 8700: "blocked", 9001: "open"},
    "outside": {
        8080: "blocked",
        8081: "blocked",
        8093: "blocked",
        8110: "blocked",
        9002: "blocked",
        9105: "blocked",
        9200: "blocked",
        22: "blocked",
    },
}


@pytest.mark.parametrize(
    ("way", "port", "effect"),
    [
        *((Way.LOOP, port, effect) for port, effect in PORTS_OF_NATIVE["local"].items()),
        *((Way.IN, port, effect) for port, effect in PORTS_OF_NATIVE["outside"].items()),
    ],
)
def test_a_listing_of_nft_is_read_for_one_packet(way: Way, port: int, effect: str) -> None:
    assert judge(read_nftables(NATIVE, Packet("127.0.0.1", port, way))).effect == effect


@pytest.mark.parametrize(
    ("port", "way", "effect"),
    [
        (8080, Way.LOOP, Effect.BLOCKED),
        (80, Way.LOOP, Effect.BLOCKED),
        (8093, Way.LOOP, Effect.BLOCKED),
        (8096, Way.LOOP, Effect.OPEN),
        (8200, Way.LOOP, Effect.PARTLY),
        (8300, Way.LOOP, Effect.OPEN),
        (8096, Way.IN, Effect.PARTLY),
        (22, Way.IN, Effect.OPEN),
    ],
)
def test_a_listing_of_iptables_is_read_for_one_packet(port: int, way: Way, effect: Effect) -> None:
    assert judge(read_iptables(IPTABLES, Packet("127.0.0.1", port, way))).effect is effect


def test_what_nft_cannot_show_of_iptables_is_counted() -> None:
    assert read_nftables(OF_IPTABLES, Packet("127.0.0.1", 80)).opaque == 1
    assert read_nftables(NATIVE, Packet("127.0.0.1", 80)).opaque == 0


def test_a_policy_of_one_family_does_not_touch_the_other() -> None:
    six = judge(read_nftables(OF_IPTABLES, Packet("::1", 9999)))
    four = judge(read_nftables(OF_IPTABLES, Packet("127.0.0.1", 9999)))
    assert (six.effect, four.effect) == (Effect.BLOCKED, Effect.OPEN)


@pytest.mark.parametrize(
    "listing", [{}, {"nftables": [{}]}, {"nftables": [{"rule": {"family": "inet"}}]}, []]
)
def test_a_listing_of_another_format_is_refused(listing: object) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        read_nftables(listing, Packet("127.0.0.1", 80))  # type: ignore[arg-type]


def test_a_chain_that_is_jumped_to_returns_to_its_caller() -> None:
    chains = {
        "input": (Rule("1", True, "jump", "sub"), Rule("2", True, "drop")),
        "sub": (Rule("3", True, "return"), Rule("4", True, "accept")),
    }
    bases = (BaseChain("input", "accept"),)
    assert judge(Ruleset(chains, bases)).rules == ("2:drop",)
    gone_to = {**chains, "input": (Rule("1", True, "goto", "sub"), Rule("2", True, "drop"))}
    assert judge(Ruleset(gone_to, bases)).effect is Effect.OPEN


RULES = st.builds(
    Rule,
    name=st.just("r"),
    condition=st.sampled_from([True, False, None]),
    verdict=st.sampled_from(["accept", "drop", "reject", "jump", "goto", "return"]),
    target=st.sampled_from(["a", "b", ""]),
)


@given(
    st.fixed_dictionaries({name: st.lists(RULES, max_size=4).map(tuple) for name in "iab"}),
    st.sampled_from(["accept", "drop"]),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_a_sure_verdict_holds_however_the_unknown_turns_out(
    chains: dict[str, tuple[Rule, ...]], policy: str, chances: list[bool]
) -> None:
    bases = (BaseChain("i", policy),)
    # Only forward jumps: the kernel refuses loops.
    order = {"i": "ab", "a": "b", "b": ""}
    straight = {
        name: tuple(
            rule
            for rule in rules
            if rule.verdict not in {"jump", "goto"} or (rule.target and rule.target in order[name])
        )
        for name, rules in chains.items()
    }
    drawn = iter(chances)
    decided = {
        name: tuple(
            Rule(
                rule.name,
                next(drawn) if rule.condition is None else rule.condition,
                rule.verdict,
                rule.target,
            )
            for rule in rules
        )
        for name, rules in straight.items()
    }
    verdict = judge(Ruleset(straight, bases)).effect
    actual = judge(Ruleset(decided, bases)).effect

    assert actual in {Effect.OPEN, Effect.BLOCKED}
    assert verdict in {actual, Effect.PARTLY}


async def test_without_any_tool_nothing_is_claimed(sockets: Sockets, tmp_path: Path) -> None:
    checks = Checks(sockets.listeners, directories=[str(tmp_path)])
    check = await checks.run("firewall_rules", SPEC, 8220)

    assert check.status is CheckStatus.UNKNOWN
    assert check.facts["why"] == "no tool"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec sleep 1000", "timed out"),
        ("echo 'Operation not permitted (you must be root)' >&2; exit 1", "not permitted"),
        ("exit 3", "exit code 3"),
        ("echo '{'", "not understood"),
        ("echo '{}'", "not understood"),
    ],
)
async def test_a_tool_that_fails_is_a_reading_and_no_error(
    sockets: Sockets, tmp_path: Path, script: str, why: str
) -> None:
    tool = tmp_path / "nft"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    checks = Checks(sockets.listeners, timeout=0.5, directories=[str(tmp_path)])
    check = await checks.run("firewall_rules", SPEC, 8220)

    assert check.status is CheckStatus.UNKNOWN
    assert check.facts["why"] == why


def test_the_real_tool_says_in_words_that_it_was_denied() -> None:
    need("nft", "setpriv")
    if os.getuid() != 0:
        pytest.skip("only root can give up its rights")
    denied = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "nft", "-j", "list", "ruleset"],
        capture_output=True,
        check=False,
    )
    assert Output(denied.returncode, denied.stdout, denied.stderr).denied


async def test_a_tool_that_hangs_is_killed() -> None:
    sleep = find_tool("sleep")
    assert sleep is not None
    with pytest.raises(TimeoutError):
        await run_tool([sleep, "1000"], timeout=0.05)
