"""What a started program is given of the healer's surroundings, and where programs are found."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from healer.errors import LaunchError

__all__ = ["clean_environment", "find_program", "find_tool", "substitute", "tool_environment"]

SYSTEM_DIRECTORIES: Final = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin")
"""Where the managers' clients are looked for: root's own, so that no PATH can slip in another."""

_SYSTEM_PATH: Final = ":".join(SYSTEM_DIRECTORIES)
_KEPT: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "TZ", "USER")


def clean_environment(component: str, port: int, launch_id: str) -> dict[str, str]:
    """The environment that a component starts with: who and where it is, and no secret of ours."""
    return {
        "PATH": os.environ.get("PATH", _SYSTEM_PATH),
        **_picked(os.environ, _KEPT),
        **marks(component, port, launch_id),
    }


def marks(component: str, port: int, launch_id: str) -> dict[str, str]:
    """What tells a launched process from all others, and it its port."""
    return {"HEALER_COMPONENT": component, "HEALER_LAUNCH_ID": launch_id, "PORT": str(port)}


def tool_environment(also: Sequence[str] = ()) -> dict[str, str]:
    """The environment of a manager's client: root's directories, untranslated messages, and those
    of our own variables (`also`) that say where its server is."""
    return {"PATH": _SYSTEM_PATH, **_picked(os.environ, ("HOME", "USER", *also)), "LC_ALL": "C"}


def _picked(environment: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: environment[name] for name in names if name in environment}


def substitute(argv: Sequence[str], *, name: str, port: int) -> tuple[str, ...]:
    """`argv` with `{port}` and `{name}` filled in. Plain replacement: other braces are the
    program's own, and str.format would let a configuration walk through attributes."""
    return tuple(word.replace("{port}", str(port)).replace("{name}", name) for word in argv)


def find_program(component: str, program: str, *, path: str, directory: str | None = None) -> str:
    """The absolute path of a component's program.

    A name is looked for in the absolute directories of `path`; anything with a slash is taken from
    `directory` (default: the healer's own). `python` that is nowhere is the healer's interpreter.

    Raises:
        LaunchError: there is no such file, or it may not be executed.
    """
    if "/" in program:
        place = Path(directory or Path.cwd()) / program
        refused = _refusal(place)
        if refused is None:
            return str(place)
        raise _not_startable(component, str(place), refused)
    places = [Path(entry) / program for entry in path.split(":") if entry.startswith("/")]
    refusals = [(place, _refusal(place)) for place in places] if program else []
    for place, refused in refusals:
        if refused is None:
            return str(place)
    if program == "python":
        return sys.executable
    for place, refused in refusals:
        if refused not in {None, errno.ENOENT, errno.ENOTDIR}:
            raise _not_startable(component, str(place), refused)
    raise LaunchError(
        f"cannot start {component!r}: there is no program {program!r} in {path or 'an empty PATH'}",
        errno=errno.ENOENT,
    )


def find_tool(
    tool: str, *, binary: str | None = None, directories: Sequence[str] = SYSTEM_DIRECTORIES
) -> str:
    """The absolute path of a manager's client: `binary` where it is given, else the first of that
    name in `directories`, which must be root's and nobody else's to write.

    Raises:
        LaunchError: there is none that may be used.
    """
    if binary is not None:
        refused = _refusal(Path(binary)) if binary.startswith("/") else errno.EINVAL
        if refused is not None:
            raise LaunchError(f"cannot run {binary!r}: {os.strerror(refused)}", errno=refused)
        return binary
    for entry in directories:
        place = Path(entry) / tool
        if _refusal(place) is None:
            status = place.stat()
            if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise LaunchError(
                    f"cannot run {str(place)!r}: others than root can change it "
                    f"(uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o})",
                    errno=errno.EPERM,
                )
            return str(place)
    raise LaunchError(
        f"cannot run {tool!r}: it is in none of {', '.join(directories)}",
        errno=errno.ENOENT,
    )


def _refusal(place: Path) -> int | None:
    """Why the file cannot be executed, as an error number; None when it can."""
    try:
        mode = place.stat().st_mode
    except ValueError:
        return errno.EINVAL
    except OSError as error:
        return error.errno
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    may = os.access(place, os.X_OK, effective_ids=True)  # else ambient capabilities do not count
    return None if may else errno.EACCES


def _not_startable(component: str, place: str, refused: int | None) -> LaunchError:
    reason = os.strerror(refused or errno.EIO)
    return LaunchError(f"cannot start {component!r}: {place!r}: {reason}", errno=refused)
