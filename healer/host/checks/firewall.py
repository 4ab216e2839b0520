"""Whether the packet filter lets connections to the component's port through."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from healer.domain.playbook import CheckStatus
from healer.host.checks.iptables import read_iptables
from healer.host.checks.nftables import read_nftables
from healer.host.checks.reading import Facts, Look, Reading, unknown
from healer.host.checks.resolution import addresses, is_local
from healer.host.checks.ruleset import Decision, Effect, Packet, Way, judge
from healer.host.checks.tool import Output, find_tool, run_tool

__all__ = ["firewall_rules"]

SHOWN: Final = 16
_LEGACY_TABLES: Final = {
    4: Path("/proc/net/ip_tables_names"),
    6: Path("/proc/net/ip6_tables_names"),
}
_BADNESS: Final = {Effect.OPEN: 0, Effect.PARTLY: 1, Effect.BLOCKED: 2}


@dataclass(slots=True)
class _Seen:
    """What the tools that were asked (`tools`) printed, and why something was not seen (`why`)."""

    tools: list[str] = field(default_factory=list)
    nft: dict[str, Any] | None = None
    iptables: str | None = None
    why: str = ""

    def judge(self, packet: Packet) -> Decision:
        rulesets = []
        if self.nft is not None:
            rulesets.append(read_nftables(self.nft, packet))
        if self.iptables is not None:
            rulesets.append(read_iptables(self.iptables, packet))
        return max(map(judge, rulesets), key=lambda each: _BADNESS[each.effect])


async def firewall_rules(look: Look) -> Reading:
    """FAIL when a connection from here is dropped or rejected for sure; WARN when it may be, or
    when connections from elsewhere are and the host is not loopback."""
    try:
        found = await addresses(look)
    except socket.gaierror as error:
        return unknown("name not resolved", eai=error.errno)
    host = found[0].partition("%")[0]
    local = is_local(found[0])
    seen = await _ask(ipaddress.ip_address(host).version, look)
    if seen.nft is None and seen.iptables is None:
        return unknown(seen.why, tools=",".join(seen.tools) or None)
    # A listing can be long: a hundred thousand banned addresses are nothing unusual.
    return await asyncio.to_thread(_judge, seen, host, look.port, local=local)


def _judge(seen: _Seen, host: str, port: int, *, local: bool) -> Reading:
    here = seen.judge(Packet(host, port, Way.LOOP if local else Way.OUT))
    outside = seen.judge(Packet(host, port, Way.IN)) if local else None
    facts: Facts = {
        "tools": seen.tools,
        "port": port,
        "here": here.effect.value,
        "rules": list(here.rules[:SHOWN]),
        "outside": None if outside is None else outside.effect.value,
        "outside_rules": [] if outside is None else list(outside.rules[:SHOWN]),
    }
    if seen.why:
        facts["why"] = seen.why
    if here.effect is Effect.BLOCKED:
        return Reading(CheckStatus.FAIL, facts)
    public = not ipaddress.ip_address(host).is_loopback
    shut = public and outside is not None and outside.effect is Effect.BLOCKED
    if here.effect is Effect.PARTLY or shut:
        return Reading(CheckStatus.WARN, facts)
    return Reading(CheckStatus.UNKNOWN if seen.why else CheckStatus.OK, facts)


async def _ask(family: int, look: Look) -> _Seen:
    """Ask nft, and iptables where nft is not there or does not show everything.

    Rules with extensions of iptables are opaque to nft, and the old kernel tables are not nft's at
    all. Otherwise iptables is not asked: asking can load a kernel module, and a look must change
    nothing.
    """
    seen = _Seen()
    patience = look.timeout / 2
    nft = find_tool("nft", look.directories)
    if nft is not None:
        seen.tools.append("nft")
        output = await run_tool([nft, "-j", "list", "ruleset"], timeout=patience)
        if output.code == 0:
            seen.nft, partial = await asyncio.to_thread(_parse, output.stdout, family)
            if not partial:
                return seen
            seen.why = "no tool"  # iptables', as long as it was not found
        else:
            seen.why = _failure(output)
    program = "iptables" if family == 4 else "ip6tables"
    iptables = find_tool(program, look.directories)
    if iptables is None:
        seen.why = seen.why or "no tool"
        return seen
    seen.tools.append(program)
    output = await run_tool([iptables, "-S"], timeout=patience)
    if output.code == 0:
        seen.iptables = output.stdout.decode(errors="replace")
        seen.why = ""
    else:
        seen.why = _failure(output)
    return seen


def _parse(stdout: bytes, family: int) -> tuple[dict[str, Any], bool]:
    """The listing, and whether rules exist that it does not show in full."""
    listing = json.loads(stdout or b'{"nftables": []}')
    anything = Packet("127.0.0.1" if family == 4 else "::1", 1)
    return listing, bool(read_nftables(listing, anything).opaque) or _has_legacy_tables(family)


def _failure(output: Output) -> str:
    return "not permitted" if output.denied else f"exit code {output.code}"


def _has_legacy_tables(family: int) -> bool:
    try:
        return "filter" in _LEGACY_TABLES[family].read_text().split()
    except OSError:  # absent: never loaded; not readable: told apart by nobody but root
        return False
