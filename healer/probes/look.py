"""One look at a component, step by step: resolve, connect, ask."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from healer.domain.probe import Reason
from healer.domain.spec import ComponentSpec
from healer.probes.address import Address, Resolver, ResolverBusyError, authority
from healer.probes.connection import Connection
from healer.probes.http import BadResponseError, Exchange, NoResponseError
from healer.probes.tls import Contexts, Handshake
from healer.probes.trouble import descriptor_left

__all__ = ["Look", "Verdict"]

_REASONS: Final[Mapping[int | None, Reason]] = MappingProxyType(
    {
        errno.ECONNREFUSED: Reason.REFUSED,
        errno.ETIMEDOUT: Reason.TIMEOUT,
        errno.ECONNRESET: Reason.RESET,
        errno.ECONNABORTED: Reason.RESET,
        errno.EPIPE: Reason.RESET,
        errno.EHOSTUNREACH: Reason.UNREACHABLE,
        errno.EHOSTDOWN: Reason.UNREACHABLE,
        errno.ENETUNREACH: Reason.UNREACHABLE,
        errno.ENETDOWN: Reason.UNREACHABLE,
        errno.ENONET: Reason.UNREACHABLE,
        errno.ENOPROTOOPT: Reason.UNREACHABLE,  # ICMP: protocol unreachable
        errno.EAFNOSUPPORT: Reason.UNREACHABLE,  # IPv6 is not there at all
        errno.EINVAL: Reason.UNREACHABLE,  # a `blackhole` route
        errno.EACCES: Reason.UNREACHABLE,  # a `prohibit` route
        errno.EPERM: Reason.UNREACHABLE,  # a firewall on the way out
    }
)
"""What a system's error says of the component. Whatever is not here is our own trouble."""

_ANOTHER_ADDRESS: Final = frozenset({Reason.REFUSED, Reason.UNREACHABLE, Reason.PROBER_FAILED})
_WEIGHTS: Final = {Reason.PROBER_FAILED: 2, Reason.REFUSED: 1}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look came to. `address` is None while, or where, none was found."""

    reason: Reason
    target: str
    address: Address | None = None
    errno: int | None = None
    status: int | None = None

    @property
    def weight(self) -> int:
        """Which of several addresses' failures counts: where one of them is our own trouble nothing
        is known, and a refusal says more than a lack of routes."""
        return _WEIGHTS.get(self.reason, 0)


class Look:
    """Runs under its caller's deadline; `verdict` and `ended` are right at every moment, so that
    the caller can stop it anywhere."""

    needs_vantage = frozenset({Reason.TIMEOUT, Reason.UNREACHABLE})
    """What is believed of a component of this machine only while we can see at all."""

    def __init__(
        self,
        spec: ComponentSpec,
        port: int,
        *,
        resolver: Resolver,
        contexts: Contexts,
        agent: str,
    ) -> None:
        self._spec = spec
        self._port = port
        self._resolver = resolver
        self._contexts = contexts
        self._agent = agent
        self.ended: float | None = None
        """`time.perf_counter` when the verdict was final."""
        # Silence while the name is looked up is the resolver's; once connecting, the component's.
        self.verdict = Verdict(Reason.UNRESOLVABLE, authority(spec.host, port))

    async def run(self) -> None:
        """Look; never raises for what it meets."""
        failures: list[Verdict] = []
        for address in await self._addresses():
            target = authority(address.host, self._port)
            self.verdict = Verdict(Reason.TIMEOUT, target, address)
            await self._try(address, target)
            if self.verdict.reason not in _ANOTHER_ADDRESS:
                return
            failures.append(self.verdict)
        if failures:
            self.verdict = max(failures, key=lambda verdict: verdict.weight)
        self.ended = time.perf_counter()

    async def _addresses(self) -> tuple[Address, ...]:
        target = self.verdict.target
        try:
            return await self._resolver.addresses(self._spec.host)
        except ResolverBusyError:
            self.verdict = Verdict(Reason.PROBER_FAILED, target)
        except UnicodeError:
            self.verdict = Verdict(Reason.UNRESOLVABLE, target)
        except socket.gaierror as error:
            ours = error.errno == socket.EAI_MEMORY or not descriptor_left()
            reason = Reason.PROBER_FAILED if ours else Reason.UNRESOLVABLE
            self.verdict = Verdict(reason, target, errno=error.errno)
        except OSError as error:
            self.verdict = Verdict(Reason.PROBER_FAILED, target, errno=error.errno)
        return ()

    async def _try(self, address: Address, target: str) -> None:
        kind = self._spec.probe.kind
        try:
            with Connection(address, self._port, greet=kind != "tcp") as connection:
                await connection.open()
                if kind == "http":
                    await self._ask(connection, address, target)
                elif kind == "tls":
                    await self._shake_hands(connection, address, target)
                elif kind == "grpc":
                    await self._call(connection, address, target)
                else:
                    self._settle(Verdict(Reason.OK, target, address))
        except NoResponseError:
            self._settle(Verdict(Reason.CLOSED, target, address))
        except BadResponseError:
            self._settle(Verdict(Reason.BAD_RESPONSE, target, address))
        except ImportError:
            self._settle(Verdict(Reason.PROBER_FAILED, target, address, errno=errno.ENOSYS))
        except OSError as error:
            reason = _REASONS.get(error.errno, Reason.PROBER_FAILED)
            self.verdict = Verdict(reason, target, address, errno=error.errno)

    async def _ask(self, connection: Connection, address: Address, target: str) -> None:
        probe = self._spec.probe
        exchange = Exchange(connection)
        host = authority(self._spec.host, self._port)
        status = await exchange.status(host=host, path=probe.path, agent=self._agent)
        fine = probe.status_min <= status <= probe.status_max
        reason = Reason.OK if fine else Reason.BAD_STATUS
        self._settle(Verdict(reason, target, address, status=status))
        await exchange.finish()

    async def _shake_hands(self, connection: Connection, address: Address, target: str) -> None:
        probe = self._spec.probe
        context = await self._contexts.get(verify=probe.verify)
        handshake = Handshake(connection, context, probe.tls or self._spec.host.partition("%")[0])
        await handshake.complete()
        self._settle(Verdict(Reason.OK, target, address))
        await handshake.finish()

    async def _call(self, connection: Connection, address: Address, target: str) -> None:
        # Only who probes so needs the package.
        from healer.probes.grpc import SERVING, HealthCheck  # noqa: PLC0415

        call = HealthCheck(connection)
        host = authority(self._spec.host, self._port)
        answer = await call.ask(host=host, service=self._spec.probe.grpc or "", agent=self._agent)
        if answer.serving is None:
            verdict = Verdict(Reason.BAD_RESPONSE, target, address, status=answer.status)
        else:
            reason = Reason.OK if answer.serving == SERVING else Reason.BAD_STATUS
            verdict = Verdict(reason, target, address, status=answer.serving)
        self._settle(verdict)
        await call.finish()

    def _settle(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.ended = time.perf_counter()
