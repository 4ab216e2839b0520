"""Which addresses a webhook may lead to, whatever its name is made to resolve to."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

__all__ = ["Network", "host_address", "is_permitted", "read_network"]

Network = IPv4Network | IPv6Network

_SPECIAL: Final = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # RFC 3927: link-local, and the metadata of most clouds
            "fe80::/10",
            "fd00:ec2::254/128",  # metadata: Amazon's over IPv6
            "100.100.100.200/32",  # metadata: Alibaba's
            # What carries an IPv4 address inside: it would be judged by its wrapping.
            "::ffff:0:0/96",  # RFC 4291: mapped
            "64:ff9b::/96",  # RFC 6052: NAT64
            "64:ff9b:1::/48",  # RFC 8215
            "2002::/16",  # RFC 3056: 6to4
            "2001::/32",  # RFC 4380: Teredo
        ),
    )
)


def read_network(text: str) -> Network:
    """The network (`10.0.0.0/8`) or the one address (`10.0.0.5`) that `text` names.

    Raises:
        ValueError: it names none.
    """
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError("it is no network; allowed: 10.0.0.0/8, 10.0.0.5, fd00::/8") from None


def host_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` spells out, None when it is a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def is_permitted(address: str, host: str, allowed: Sequence[Network]) -> bool:
    """Whether something may be sent to `address` on behalf of the URL's `host`.

    Public addresses, what `allowed` names, and an address that the URL itself spells out: then it
    is the operator's word, and no name server's. `localhost` counts as spelling out this machine.
    Link-local, metadata, multicast and translated addresses need `allowed`.
    """
    found = ip_address(address)
    if any(found.version == network.version and found in network for network in allowed):
        return True
    if found.is_multicast or found.is_unspecified or found.is_reserved:
        return False
    if any(found.version == network.version and found in network for network in _SPECIAL):
        return False
    named = host_address(host)
    local = host == "localhost" and found.is_loopback
    return found.is_global or local or found == named
