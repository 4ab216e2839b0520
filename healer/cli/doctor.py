"""`healer doctor`: what is missing on this machine, what that costs, and how to get it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from healer.cli.form import Output
from healer.cli.outcome import FAILED, FINE
from healer.cli.output import as_table, print_json, print_line, print_table
from healer.cli.source import config_in
from healer.config import Config
from healer.domain.spec import ComponentSpec, DockerLaunch, SupervisorLaunch, SystemdLaunch
from healer.errors import HealerError, LaunchError
from healer.host.program import find_probe
from healer.host.sockdiag import by_netlink, listen_sockets

__all__ = ["doctor"]

_CAPABILITIES: Final = {
    "CAP_KILL": (5, "signal processes of other users"),
    "CAP_SYS_PTRACE": (19, "see which of other users' processes hold a socket"),
    "CAP_DAC_READ_SEARCH": (2, "see which of other users' processes hold a socket"),
    "CAP_NET_ADMIN": (12, "read firewall rules in a diagnosis"),
}
_EXTRAS: Final = {"psycopg": "postgres", "pyarrow": "export", "nats": "nats", "h2": "grpc"}
_PIDFS_SINCE: Final = (6, 9)


@dataclass(frozen=True, slots=True)
class Finding:
    """One look. `verdict`: good, warn (something is lost) or bad (it cannot work)."""

    subject: str
    verdict: str
    found: str
    cure: str | None = None


def doctor(file: Path | None, output: Output | None) -> int:
    """All looks; 1 when something is so bad that the healer cannot work."""
    findings = [*_kernel(), *_rights(), *_extras(), *_configured(file)]
    bad = any(each.verdict == "bad" for each in findings)
    if as_table(output):
        print_table(
            "This machine",
            ("subject", "verdict", "found", "how to get it"),
            [(each.subject, each.verdict, each.found, each.cure) for each in findings],
        )
        print_line("the healer cannot work here as it is" if bad else "the healer can work here")
    else:
        print_json({"ok": not bad, "findings": [asdict(each) for each in findings]})
    return FAILED if bad else FINE


def _kernel() -> Iterator[Finding]:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        cure = "Linux 5.3 or newer, and a seccomp profile that allows pidfd_open"
        yield Finding("pidfd", "bad", f"cannot: {error.strerror}; nothing would be signalled", cure)
    else:
        yield Finding("pidfd", "good", "processes are held and signalled without a race")
    release = os.uname().release
    numbers = release.split("-")[0].split(".")
    known = tuple(int(part) for part in numbers[:2] if part.isdigit())
    if known >= _PIDFS_SINCE:
        yield Finding("pidfd inode", "good", f"Linux {release}: an identity for each process")
    else:
        found = f"Linux {release}: identity by start time, in steps of 10 ms"
        yield Finding("pidfd inode", "warn", found, "Linux 6.9 or newer")
    try:
        by_netlink(1)
    except OSError as error:
        found = f"cannot: {error.strerror}; /proc/net is read instead, slower"
        yield Finding("sock_diag", "warn", found, "the kernel's inet_diag, AF_NETLINK allowed")
    else:
        yield Finding("sock_diag", "good", "listeners are asked of the kernel")
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    yield Finding(
        "cgroup v2",
        "good" if unified else "warn",
        "units prove owners" if unified else "absent: `owner: {unit: ...}` may prove nothing",
        None if unified else "boot with systemd.unified_cgroup_hierarchy=1",
    )


def _rights() -> Iterator[Finding]:
    held = 0
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").split("\n"):
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
    for name, (bit, purpose) in _CAPABILITIES.items():
        has = bool(held >> bit & 1)
        cure = None if has else f"AmbientCapabilities={name} in the unit, if it is wanted"
        found = f"can {purpose}" if has else f"cannot {purpose}"
        yield Finding(name, "good" if has else "warn", found, cure)
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    found = nft or "absent: a diagnosis does not see nftables' rules"
    yield Finding("nft", "good" if nft else "warn", found, None if nft else "apt install nftables")


def _extras() -> Iterator[Finding]:
    for module, extra in _EXTRAS.items():
        there = find_spec(module) is not None
        yield Finding(
            f"extra {extra}",
            "good",
            "installed" if there else "not installed; needed only if you use it",
            None if there else f"pip install 'network-healer[{extra}]'",
        )


def _configured(file: Path | None) -> Iterator[Finding]:
    try:
        config = config_in(file)
    except HealerError as error:
        cure = "healer validate; `healer init` writes one from what listens here"
        yield Finding("configuration", "bad", " ".join(str(error).split()), cure)
        return
    yield Finding("configuration", "good", f"components: {len(config.components)}")
    yield from _store(config)
    yield from _programs(config)
    yield from _ports(config)


def _store(config: Config) -> Iterator[Finding]:
    scheme, _, path = config.store.partition(":///")
    if scheme != "sqlite":
        there = find_spec("psycopg") is not None
        cure = None if there else "pip install 'network-healer[postgres]'"
        yield Finding("store", "good" if there else "bad", "postgresql", cure)
        return
    directory = Path(path).parent
    if not os.access(directory, os.W_OK | os.X_OK):
        cure = f"a directory that uid {os.geteuid()} may write to"
        yield Finding("store", "bad", f"cannot write in {directory}", cure)
        return
    free = shutil.disk_usage(directory).free // 2**20
    if directory.stat().st_mode & 0o022:
        found = f"others may write in {directory}"
        yield Finding("store", "warn", found, f"chmod go-w {directory}")
    verdict = "good" if free >= 100 else "warn"
    cure = None if free >= 100 else "free some; `healer archive` moves finished issues away"
    yield Finding("store space", verdict, f"{free:,} MiB free in {directory}", cure)


def _programs(config: Config) -> Iterator[Finding]:
    programs: dict[str, type] = {
        "systemctl": SystemdLaunch,
        "docker": DockerLaunch,
        "supervisorctl": SupervisorLaunch,
    }
    for program, kind in programs.items():
        wanted = [name for name, c in config.components.items() if isinstance(c.launch, kind)]
        if wanted:
            place = shutil.which(program)
            found = place or f"absent: cannot start {', '.join(wanted)}"
            cure = None if place else f"install {program}"
            yield Finding(program, "good" if place else "bad", found, cure)
    for name, spec in config.components.items():
        if spec.probe.kind == "exec":
            yield _probe(name, spec)


def _probe(name: str, spec: ComponentSpec) -> Finding:
    subject = f"probe of {name}"
    try:
        place = Path(find_probe(spec, spec.port))
    except LaunchError as error:
        cure = "install it, or name another one in `probe: {exec: [...]}`"
        return Finding(subject, "bad", f"{error}; whether {name} is well stays unknown", cure)
    if place.stat().st_mode & 0o022:
        found = f"others may write to {place}, which the healer runs as uid {os.geteuid()}"
        return Finding(subject, "warn", found, f"chmod go-w {place}")
    return Finding(subject, "good", str(place))


def _ports(config: Config) -> Iterator[Finding]:
    host, port = config.endpoint
    if listen_sockets(port):
        found = f"{host}:{port} is taken: by a healer that runs, or by somebody else"
        yield Finding("listen", "warn", found, "healer status; or another port in `listen`")
    first, last = (
        int(word)
        for word in Path("/proc/sys/net/ipv4/ip_local_port_range")
        .read_text(encoding="ascii")
        .split()
    )
    for name, spec in config.components.items():
        reach = [(spec.port, spec.port)]
        if spec.rebind is not None:
            reach.append((spec.rebind.first, spec.rebind.last))
        if any(low <= last and high >= first for low, high in reach):
            found = f"its ports lie among those for outgoing connections ({first}-{last})"
            cure = "net.ipv4.ip_local_reserved_ports, or ports below the range"
            yield Finding(f"ports of {name}", "warn", found, cure)
