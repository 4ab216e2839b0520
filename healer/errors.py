"""Every error that the healer raises on purpose.

One root; messages start with "cannot"; what a program needs of them is an attribute. The one table
from error to HTTP status and exit status lives with the doors (`healer/api`, `healer/cli.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ConfigError",
    "HealInProgressError",
    "HealWithheldError",
    "HealerError",
    "HostError",
    "IllegalCommandError",
    "IllegalTransitionError",
    "IssueConflictError",
    "LaunchError",
    "LeaseLostError",
    "NodeBusyError",
    "StoreBusyError",
    "StoreError",
    "UnknownNameError",
]


class HealerError(Exception):
    """The root of all errors raised by the healer on purpose."""


class UnknownNameError(HealerError):
    """A name that nothing bears. `kind`, `name` and the `known` names are attributes."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        allowed = ", ".join(self.known) or "none are defined"
        super().__init__(f"cannot find {kind} {name!r}; known: {allowed}")


class ConfigError(HealerError):
    """A configuration that cannot be used. `problems` holds one sentence for each mistake."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(f"cannot use {source}: " + "; ".join(self.problems))


class IllegalTransitionError(HealerError):
    """A trigger that the lifecycle does not allow in the state that the issue is in."""

    def __init__(self, trigger: str, state: str, allowed: Sequence[str]) -> None:
        self.trigger = trigger
        self.state = state
        self.allowed = tuple(allowed)
        options = ", ".join(self.allowed) or "none, the state is terminal"
        super().__init__(f"cannot {trigger} an issue that is {state}; allowed: {options}")


class IllegalCommandError(HealerError):
    """A command that today's rules refuse; nothing was appended."""

    def __init__(self, command: str, why: str) -> None:
        self.command = command
        self.why = why
        super().__init__(f"cannot {command}: {why}")


class HostError(HealerError):
    """The machine refused or failed. `errno` is the system's own number where there is one."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        self.errno = errno
        super().__init__(message)


class LaunchError(HostError):
    """A component could not be started or stopped through its launcher."""

    def __init__(
        self, message: str, *, errno: int | None = None, exit_code: int | None = None
    ) -> None:
        self.exit_code = exit_code
        super().__init__(message, errno=errno)


class StoreError(HealerError):
    """The log cannot be opened, read or written. Nothing that depends on it may act."""


class StoreBusyError(StoreError):
    """Another healer holds the log. `holder` is its process id where it could be read."""

    def __init__(self, location: str, holder: int | None) -> None:
        self.location = location
        self.holder = holder
        who = f" (pid {holder})" if holder else ""
        super().__init__(f"cannot open {location}: another healer{who} is using it")


class NodeBusyError(StoreError):
    """A healer with this `node` name appends to the log already: two of one name would take each
    other's issues for their own."""

    def __init__(self, location: str, node: str) -> None:
        self.location = location
        self.node = node
        super().__init__(
            f"cannot open {location} as node {node!r}: a healer of that name is using it; "
            "give each healer a name of its own, with node: in its healer.yaml"
        )


class IssueConflictError(StoreError):
    """The append lost a race: another open issue exists for the component, or the stream moved."""


class LeaseLostError(IssueConflictError):
    """This node may not act on the component any more: its lease on the open issue has run out, or
    another node has taken the issue over."""

    def __init__(self, component: str, node: str) -> None:
        self.component = component
        self.node = node
        super().__init__(
            f"cannot act on {component!r}: node {node!r} does not hold its issue any more"
        )


class HealInProgressError(HealerError):
    """A heal was asked for while one runs. `issue_id` names the one that runs, `node` the node that
    carries it where it is another one."""

    def __init__(self, component: str, issue_id: str, node: str | None = None) -> None:
        self.component = component
        self.issue_id = issue_id
        self.node = node
        where = f" by node {node!r}" if node else ""
        super().__init__(
            f"cannot heal {component!r}: issue {issue_id} is being healed already{where}"
        )


class HealWithheldError(HealerError):
    """A heal was asked for and is not allowed now. `reason` (a stable word) and `arithmetic` say
    why."""

    def __init__(
        self,
        component: str,
        issue_id: str | None,
        reason: str,
        arithmetic: dict[str, float],
        *,
        hint: str | None = None,
    ) -> None:
        self.component = component
        self.issue_id = issue_id
        self.reason = reason
        self.arithmetic = dict(arithmetic)
        figures = ", ".join(f"{key}={value:g}" for key, value in self.arithmetic.items())
        shown = f" ({figures})" if figures else ""
        shown += f"; {hint}" if hint else ""
        super().__init__(f"cannot heal {component!r} now: {reason}{shown}")
