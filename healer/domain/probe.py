"""One look at a component: its outcome and the reason for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from healer.domain.value import Value

__all__ = ["Outcome", "ProbeResult", "Reason"]


class Outcome(StrEnum):
    """Three outcomes: UNKNOWN means that the prober failed, not the component; it never heals."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """What a probe met. The first is healthy, the last two are unknown, the rest unhealthy."""

    OK = "ok"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    RESET = "reset"
    CLOSED = "closed"
    BAD_STATUS = "bad_status"
    BAD_RESPONSE = "bad_response"
    UNREACHABLE = "unreachable"
    UNRESOLVABLE = "unresolvable"
    EXITED = "exited"
    PROBER_FAILED = "prober_failed"
    VANTAGE_LOST = "vantage_lost"

    @property
    def outcome(self) -> Outcome:
        """What the reason says of the component."""
        if self is Reason.OK:
            return Outcome.HEALTHY
        if self in {Reason.PROBER_FAILED, Reason.VANTAGE_LOST}:
            return Outcome.UNKNOWN
        return Outcome.UNHEALTHY


_MET: Final = frozenset(
    {Reason.OK, Reason.RESET, Reason.CLOSED, Reason.BAD_STATUS, Reason.BAD_RESPONSE}
)


class ProbeResult(Value):
    """What one probe saw.

    `kind` is the probe's (tcp, http, tls, grpc, exec) or `process`, `target` the address that was
    tried or the program that was run, `elapsed` in seconds, `errno` the system's number where a
    call failed, `status` what was answered: the HTTP status code, gRPC's ServingStatus (of a
    bad_response its status code), the program's exit status.
    """

    kind: str
    target: str
    reason: Reason
    elapsed: float = 0.0
    errno: int | None = None
    status: int | None = None

    @property
    def answered(self) -> bool:
        """Whether the component itself was met, well or not. A program's word is not its own."""
        return self.kind != "exec" and self.reason in _MET

    @property
    def outcome(self) -> Outcome:
        """Healthy, unhealthy or unknown."""
        return self.reason.outcome
