"""What an operator says of a component: what decisions are made on."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from healer.domain.duration import Duration
from healer.domain.process import OwnerSpec
from healer.domain.value import Value

__all__ = [
    "PROBES",
    "Backoff",
    "Budget",
    "CommandLaunch",
    "ComponentSpec",
    "Criticality",
    "DockerLaunch",
    "HookLaunch",
    "IssueType",
    "LaunchSpec",
    "Mode",
    "PortRange",
    "ProbeSpec",
    "Severity",
    "SupervisorLaunch",
    "SystemdLaunch",
]

_HOST_NAME: Final = r"^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.IGNORECASE | re.ASCII)


class IssueType(StrEnum):
    """What is wrong with a component, after the user's document."""

    PORT_NOT_LISTENING = "port_not_listening"
    CONNECTION_TIMEOUT = "connection_timeout"
    CONNECTION_REFUSED = "connection_refused"
    PORT_CONFLICT = "port_conflict"
    PROCESS_CRASHED = "process_crashed"
    NETWORK_UNREACHABLE = "network_unreachable"


class Severity(StrEnum):
    """How bad an issue is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Criticality(StrEnum):
    """How much a component matters (OpenTelemetry's `service.criticality`)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Mode(StrEnum):
    """How far the healer may go by itself."""

    OBSERVE = "observe"
    SUGGEST = "suggest"
    ACT = "act"


def check_name(name: str) -> str:
    """`name` if it can safely stand in paths, argv and URLs; ValueError otherwise."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name; allowed: 1 to 63 letters, digits, '_', '.' or '-', "
            "beginning with a letter or digit"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]
Port = Annotated[int, Field(ge=1, le=65535)]


class PortRange(Value):
    """Ports from `first` to `last`, both included; written `8220-8229`."""

    first: Port
    last: Port

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"first": value, "last": value}
        if isinstance(value, str):
            first, dash, last = value.partition("-")
            if first.strip().isdecimal() and (not dash or last.strip().isdecimal()):
                return {"first": int(first), "last": int(last or first)}
            raise ValueError(f"{value!r} is not a port range; allowed: 8220-8229")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"{self} ends before it begins; allowed: first-last, e.g. 8220-8229")
        return self

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


Argv = Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(min_length=1)]


PROBES: Final = MappingProxyType(
    {
        "tcp": (),
        "http": ("path", "status_min", "status_max"),
        "tls": ("tls", "verify"),
        "grpc": ("grpc",),
        "exec": ("exec",),
    }
)
"""Kind of probe → the fields of a ProbeSpec that are its options."""


def _probe_shorthand(value: Any) -> Any:
    """`tcp`, `{http: /health}` and `{exec: [...]}` are what people write; one form is what the code
    reads. The argument of http is a path, that of other kinds bears their name; tcp has none."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, dict) and "kind" not in value:
        kinds = [kind for kind in PROBES if kind in value]
        if len(kinds) == 1:
            kind = kinds[0]
            rest = {key: entry for key, entry in value.items() if key != kind}
            argument = value[kind]
            if kind == "tcp" and argument is not None:
                raise ValueError(f"tcp takes no argument {argument!r}; allowed: tcp alone")
            if argument is not None:
                rest["path" if kind == "http" else kind] = argument
            return {"kind": kind, **rest}
    return value


class ProbeSpec(Value):
    """How a component is looked at.

    `tcp` connects; `http` asks for `path` and wants a status between `status_min` and `status_max`;
    `tls` completes a handshake with the server that is called `tls` (default: `host`), and with
    `verify` wants a certificate for that name that the system's authorities vouch for;
    `grpc` asks the standard health service of the server, without TLS, about the service of that
    name (default: the server as a whole) and wants SERVING;
    `exec` runs a program (arguments, no shell; `{port}` and `{name}` are replaced; the environment
    of a hook) and wants the exit status 0.
    """

    kind: Annotated[str, Field(pattern=f"^({'|'.join(PROBES)})$")] = "tcp"
    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)] = "/"
    status_min: Annotated[int, Field(ge=100, le=599)] = 200
    status_max: Annotated[int, Field(ge=100, le=599)] = 399
    tls: Annotated[str, Field(pattern=_HOST_NAME, max_length=253)] | None = None
    verify: bool = False
    grpc: Annotated[str, Field(pattern=r"^[!-~]*$", max_length=127)] | None = None
    exec: Argv | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "exec" and self.exec is None:
            raise ValueError("names no program; allowed: {exec: [PROGRAM, ARGUMENT]}")
        return self


class CommandLaunch(Value):
    """A command that the healer starts itself, in a session of its own, and that outlives it.

    `{port}` and `{name}` in an argument are replaced; there is no shell. `python` means the
    interpreter that runs the healer where no other is on the PATH. `env` is added to a small clean
    environment. `log` defaults to `<logs>/components/<name>.log`. `grace` is how long SIGTERM is
    given before SIGKILL.
    """

    command: Argv
    cwd: PurePosixPath | None = None
    env: dict[str, str] = Field(default_factory=dict)
    log: PurePosixPath | None = None
    grace: Duration = 5.0


class SystemdLaunch(Value):
    """A systemd unit, driven by systemctl and never killed behind systemd's back."""

    systemd: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9:_.@\\-]*$")]
    user: bool = False


class DockerLaunch(Value):
    """A container, by name or id, driven by the docker client."""

    docker: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    grace: Duration = 10.0


class SupervisorLaunch(Value):
    """A program of supervisord (`name` or `group:name`), driven by supervisorctl."""

    supervisor: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
    config: PurePosixPath | None = None


class HookLaunch(Value):
    """Any program of yours: `hook` starts the component and returns; `stop` stops it, if given.

    Arguments only, never a shell. Exit code 0 means done.
    """

    hook: Argv
    stop: Argv | None = None
    timeout: Duration = 30.0


LaunchSpec = CommandLaunch | SystemdLaunch | DockerLaunch | SupervisorLaunch | HookLaunch


class Backoff(Value):
    """The pause before the n-th heal in a row: `initial * factor**(n-2)` up to `max`, with jitter.

    The first heal never waits. A component that stayed healthy for `reset_after` starts anew.
    With `jitter` j the pause is drawn between (1-j) and 1 times that figure.
    """

    initial: Duration = 1.0
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max: Duration = 300.0
    reset_after: Duration = 600.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.5


def _percentage(value: Any) -> Any:
    if isinstance(value, str) and value.strip().endswith("%"):
        number = value.strip()[:-1].strip()
        try:
            return float(number) / 100
        except ValueError:
            raise ValueError(f"{value!r} is not a percentage; allowed: 50%") from None
    return value


Share = Annotated[
    float, BeforeValidator(_percentage, json_schema_input_type=str | float), Field(ge=0, le=1)
]


class Budget(Value):
    """How much healing is allowed.

    `max_concurrent` heals at once on this node. When more than `max_unhealthy` of the components
    (but never fewer than `min_unhealthy` of them) are unhealthy together, healing holds: they share
    a cause. `attempts` heals in a row without a healthy stretch spend a component's budget; it is
    re-armed after `rearm_after`. A suggested heal waits `approval_expires` for its
    approval; one that was denied is not suggested again for `denial_rests`, unless the component
    was healthy in between. A heal that is withheld for `escalate_after` is escalated, though it
    may still come.
    """

    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 4
    max_unhealthy: Share = 0.5
    min_unhealthy: Annotated[int, Field(ge=1)] = 3
    attempts: Annotated[int, Field(ge=1)] = 5
    approval_expires: Duration = 3600.0
    denial_rests: Duration = 900.0
    escalate_after: Duration = 300.0
    rearm_after: Duration = 300.0
    backoff: Backoff = Backoff()


class ComponentSpec(Value):
    """A named service on a port, and all that its healing depends on.

    Durations in seconds. `fast_interval` is the pace while the component is suspicious, being
    verified or just down. `start_period` counts from the observed start of the process: failures
    in it do not count. `routes` replaces the playbooks of an issue type.
    """

    name: Name
    port: Port
    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_.:%-]+$")] = (
        "127.0.0.1"
    )
    probe: Annotated[ProbeSpec, BeforeValidator(_probe_shorthand)] = ProbeSpec()
    launch: LaunchSpec | None = None
    owner: OwnerSpec = OwnerSpec()
    evict_foreign: bool = False
    rebind: PortRange | None = None
    announce: Argv | None = None
    depends_on: tuple[Name, ...] = ()
    criticality: Criticality = Criticality.MEDIUM
    mode: Mode = Mode.ACT
    interval: Annotated[Duration, Field(ge=0.01)] = 5.0
    fast_interval: Annotated[Duration, Field(ge=0.005)] = 0.25
    timeout: Annotated[Duration, Field(ge=0.005)] = 2.0
    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 3
    success_threshold: Annotated[int, Field(ge=1, le=1000)] = 2
    start_period: Duration = 10.0
    routes: dict[IssueType, tuple[str, ...]] = Field(default_factory=dict)
