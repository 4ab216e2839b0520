"""One look at a component: its outcome and the reason for it."""

from __future__ import annotations

from enum import StrEnum

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


class ProbeResult(Value):
    """What one probe saw.

    `kind` is the probe's (tcp, http, process), `target` the address that was tried, `elapsed` in
    seconds, `errno` the system's number where a call failed, `status` the HTTP status code.
    """

    kind: str
    target: str
    reason: Reason
    elapsed: float = 0.0
    errno: int | None = None
    status: int | None = None

    @property
    def outcome(self) -> Outcome:
        """Healthy, unhealthy or unknown."""
        return self.reason.outcome
