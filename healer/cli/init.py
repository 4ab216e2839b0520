"""`healer init`: a configuration from what listens here now, to be read and changed by a person.

Everything that is found is only observed (`mode: observe`) until its owner says otherwise. Ports of
the system (below 1024) are named in a comment and not watched, and neither is a healer.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

import orjson
import psutil

from healer.cli.choice import UsageError
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_json, print_line
from healer.config import load, parse
from healer.host import procfs

__all__ = ["init"]

_PROBE_WITHIN: Final = 0.5
_SYSTEM: Final = 1024
_PATHS: Final = ("/health", "/healthz", "/ready", "/")
_HEALER: Final = re.compile(r"(^|/)healer( |$)|-m healer( |$)")
_INTERPRETER: Final = re.compile(
    r"(python|pypy|node|nodejs|deno|bun|ruby|perl|php|java|dotnet|sh|bash|dash)[0-9.]*"
)
_ON_THE_LINE: Final = frozenset({"-c", "-e"})
_TAKES_ONE: Final = frozenset({"-W", "-X", "-r", "--require", "-cp", "-classpath"})
_LONGEST: Final = 200
"""Characters of a command that fit into a line that people read."""
_SECRET: Final = re.compile(r"pass|secret|token|key|credential|://[^/]*@", re.IGNORECASE)
_NUMBER: Final = re.compile(r"(?<![0-9.])[0-9]+(?![0-9.])")
_NO_COMMAND: Final = '{command: [python, -m, ..., --port, "{port}"]}'
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "127.0.0.1": "127.0.0.1"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Found:
    """Something that listens."""

    name: str
    port: int
    probe: str
    owner: str | None
    unit: str | None
    launch: str


def init(file: Path, output: Output | None) -> int:
    """Write `file`.

    Raises:
        UsageError: it is there already, or cannot be written.
    """
    if file.exists() or file.is_symlink():
        raise UsageError(f"cannot write {file}: it is there already; allowed: a new file")
    found = _look()
    text = _document(found)
    # What would be refused later is not written at all.
    parse(
        text,
        source=str(file),
        environ={},
        hostname=socket.gethostname(),
        directory=file.absolute().parent,
    )
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
    load(file, environ={}, hostname=socket.gethostname())
    if as_table(output):
        print_line(
            f"{file}: {len(found)} found; read it, then `healer validate` and `healer serve`"
        )
    else:
        print_json({"file": str(file), "components": [each.name for each in found]})
    return FINE


def _look() -> list[Found]:
    seen: dict[int, Found] = {}
    names: set[str] = set()
    for one in psutil.net_connections("tcp"):
        if one.status != psutil.CONN_LISTEN or not one.laddr:
            continue
        address, port = str(one.laddr.ip), int(one.laddr.port)
        if address not in _LOOPBACK or port < _SYSTEM or port in seen:
            continue
        words = procfs.cmdline_of(one.pid) if one.pid else ()
        if _HEALER.search(" ".join(words)):
            continue
        program = _program(words)
        name = _name(one.pid, program, port, names)
        names.add(name)
        unit = _unit(one.pid)
        owner = _owner(one.pid, words, program)
        launch = _launch(one.pid, words, port)
        seen[port] = Found(name, port, _probe(port), owner, unit, launch)
    return [seen[port] for port in sorted(seen)]


def _program(words: Sequence[str]) -> str | None:
    """What an interpreter runs (a script, `-m module`, `-jar file`); None where it is told on the
    line itself, or no interpreter runs."""
    if not words or not _INTERPRETER.fullmatch(PurePath(words[0]).name):
        return None
    rest = iter(words[1:])
    for word in rest:
        if word in {"-m", "-jar"}:
            return f"{word} {next(rest, '')}".rstrip()
        if word in _ON_THE_LINE:
            return None
        if word in _TAKES_ONE:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None


def _owner(pid: int | None, words: Sequence[str], program: str | None) -> str | None:
    """What proves the owner, as YAML. An interpreter proves nothing: whatever else it runs would be
    the component as well."""
    if program is not None:
        return f"{{cmdline: {_quoted(program)}}}"
    if not pid or not words or _INTERPRETER.fullmatch(PurePath(words[0]).name):
        return None
    exe = procfs.exe_of(pid)
    return None if exe is None else f"{{exe: {_quoted(exe)}}}"


def _name(pid: int | None, program: str | None, port: int, taken: Iterable[str]) -> str:
    word = PurePath(program.rpartition(" ")[2]).stem if program else "service"
    if pid and not program:
        try:
            word = procfs.stat_of(pid).name
        except OSError:
            word = "service"
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", word).strip("_.-")[:40] or "service"
    return f"{name}_{port}" if f"{name}_{port}" not in taken else f"service_{port}"


def _unit(pid: int | None) -> str | None:
    if not pid:
        return None
    try:
        unit = procfs.unit_in(procfs.cgroup_of(pid))
    except OSError:
        return None
    return unit if unit and unit.endswith(".service") and "@" not in unit else None


def _launch(pid: int | None, words: Sequence[str], port: int) -> str:
    """How it was started, as YAML for a person to agree to; an example where that is long, cannot
    be said, or might show a secret."""
    line = " ".join(words)
    if not pid or not line or len(line) > _LONGEST or _SECRET.search(line) or "{" in line:
        return _NO_COMMAND

    def said(number: re.Match[str]) -> str:
        return "{port}" if number[0] == str(port) else number[0]

    command = ", ".join(_quoted(_NUMBER.sub(said, word)) for word in words)
    try:
        where = psutil.Process(pid).cwd()
    except (psutil.Error, OSError):
        return _NO_COMMAND
    return f"{{command: [{command}], cwd: {_quoted(where)}}}"


def _probe(port: int) -> str:
    """By really asking, on loopback: a path that answers well, else a connection."""
    for path in _PATHS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_WITHIN)
        try:
            connection.request("GET", path)
            if 200 <= connection.getresponse().status < 400:
                return f"{{http: {path}}}"
        except (OSError, http.client.HTTPException):
            return "tcp"
        finally:
            connection.close()
    return "tcp"


def _quoted(text: str) -> str:
    """A JSON string is a YAML one; a dollar would be a variable."""
    return orjson.dumps(text.replace("$", "$$")).decode()


def _document(found: Iterable[Found]) -> str:
    lines = [
        "# Written by `healer init` from what listened on this machine. Nothing here is acted on",
        "# yet: set `mode: suggest` (a person approves) or `mode: act` where you want healing, say",
        "# how each is started (`launch`; the comment says how it was), remove what is not yours.",
        "# All keys: docs/healer.yaml",
        "store: sqlite:///healer.db",
        "listen: 127.0.0.1:8000",
        "defaults: {interval: 5s, timeout: 2s, failure_threshold: 3, mode: observe}",
        "components:",
    ]
    for each in found:
        lines += ["", f"  {each.name}:", f"    port: {each.port}", f"    probe: {each.probe}"]
        if each.unit:
            lines.append(f"    launch: {{systemd: {_quoted(each.unit)}}}")
        else:
            lines.append(f"    # launch: {each.launch}")
        if each.owner:
            lines.append(f"    owner: {each.owner}")
        lines.append("    mode: observe")
    return "\n".join(lines) + "\n"
