"""HTTP to addresses that were looked up once and checked: no name leads anywhere else.

A name that is checked and then looked up again by the connection can be another address the second
time (DNS rebinding). Here the connection is made to the very address that was checked; the server
still has to prove the name by its certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Protocol

import httpx

from healer.config.destination import Network, is_permitted
from healer.guardian.outbox import UnavailableError
from healer.probes.address import Address, Resolver, ResolverBusyError

__all__ = ["Lookup", "PinnedTransport"]


class Lookup(Protocol):
    """Looks a name up; see `healer.probes.address.Resolver`."""

    async def addresses(self, host: str) -> tuple[Address, ...]: ...


class PinnedTransport(httpx.AsyncBaseTransport):
    """Follows no redirect, and knows no proxy from the environment. `trust` says whose certificates
    are believed, the public authorities' by default."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        lookup: Lookup | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = tuple(allowed)
        self._lookup = lookup or Resolver()
        self._transport = httpx.AsyncHTTPTransport(verify=trust or True, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it to the first of the permitted addresses that takes it.

        Raises:
            UnavailableError: the host has no address, or none that is permitted.
            httpx.HTTPError: it was not answered.
        """
        url, host = request.url, request.url.host
        request.extensions = {**request.extensions, "sni_hostname": host}
        addresses = await self._permitted(host)
        for address in addresses[:-1]:
            request.url = url.copy_with(host=address)
            try:
                return await self._transport.handle_async_request(request)
            except httpx.ConnectError:
                continue  # nothing was sent yet
        request.url = url.copy_with(host=addresses[-1])
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._transport.aclose()

    async def _permitted(self, host: str) -> list[str]:
        try:
            found = [each.host for each in await self._lookup.addresses(host)]
        except (OSError, UnicodeError, ResolverBusyError) as error:
            raise UnavailableError(f"no address: {type(error).__name__}") from None
        permitted = [each for each in found if is_permitted(each, host, self._allowed)]
        if not permitted:
            raise UnavailableError(
                f"it resolves to {', '.join(found) or 'nothing'}, where nothing is sent; "
                "`allow` of this sink can say otherwise"
            )
        return permitted
