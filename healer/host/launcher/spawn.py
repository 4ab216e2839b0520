"""Start a program: a child with nothing of the healer's in it.

posix_spawn does in the child all that a daemon owes it (session, directory, descriptors, signal
mask, dispositions) and touches nothing in the healer, not even for an instant, so that any thread
may call it. `os.posix_spawn` can neither change the directory nor close what it does not know of,
`subprocess.Popen` neither empties the signal mask nor gives an ignored signal back its default, and
reaps children of its own accord; hence the C library's own function. It costs what they cost.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["inherited_descriptors", "spawn"]

_LIBC: Final = ctypes.CDLL(None)

# <spawn.h>; the same figures in glibc and musl.
_SETSIGDEF: Final = 0x04
_SETSIGMASK: Final = 0x08
_SETSID: Final = 0x80

_Opaque: Final = ctypes.c_uint64 * 128
"""Room for any of the C library's structures: the largest (posix_spawnattr_t) has 336 bytes."""

_LOWEST_INHERITED: Final = 3


def _check(code: int, what: str) -> None:
    """posix_spawn's functions return the error number instead of setting errno."""
    if code:
        raise OSError(code, os.strerror(code), what)


def _text(value: str) -> bytes:
    """`value` for the C library, which would cut it at a NUL without a word."""
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise ValueError(f"{value!r} holds a NUL character, which no program can be given")
    return encoded


def _strings(values: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(values) + 1))(*[_text(value) for value in values], None)


def inherited_descriptors() -> tuple[int, ...]:
    """Descriptors above stderr that a child of ours would be born with."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        if descriptor < _LOWEST_INHERITED:
            continue
        try:
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFD)
        except OSError:
            continue  # it was the listing's own, or another thread has closed it since
        if not flags & fcntl.FD_CLOEXEC:
            found.append(descriptor)
    return tuple(found)


def _optional(name: str) -> Callable[..., int] | None:
    """A function that only newer C libraries have; None in others."""
    function: Callable[..., int] | None = getattr(_LIBC, name, None)
    return function


def _close_inherited(actions: Any) -> None:
    close_from = _optional("posix_spawn_file_actions_addclosefrom_np")  # glibc 2.34
    if close_from is not None:
        _check(close_from(actions, _LOWEST_INHERITED), "descriptors")
        return
    for descriptor in inherited_descriptors():
        _check(_LIBC.posix_spawn_file_actions_addclose(actions, descriptor), str(descriptor))


def _change_directory(actions: Any, directory: str) -> None:
    path = _text(directory)
    if not stat.S_ISDIR(Path(directory).stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
    change = _optional("posix_spawn_file_actions_addchdir_np")  # glibc 2.29, musl 1.1.24
    if change is None:
        why = "this C library cannot start a program in another directory"
        raise OSError(errno.ENOSYS, why, directory)
    _check(change(actions, path), directory)


def spawn(
    program: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: int,
    directory: str | None = None,
) -> int:
    """Start `program` (a path) in a session of its own; returns its pid once it was executed.

    stdin is /dev/null, stdout and stderr are the descriptor `output`, nothing else is inherited; no
    signal is blocked or ignored. The caller owns the child, and nobody reaps it behind his back.
    Blocks until the kernel has loaded the program.

    Raises:
        OSError: it could not be executed, or `directory` not be entered; `filename` names which.
        ValueError: an argument or a variable cannot be passed to a program.
    """
    for name in environment:
        if not name or "=" in name:
            raise ValueError(f"{name!r} is not the name of an environment variable")
    arguments = _strings(argv)
    variables = _strings([f"{name}={value}" for name, value in environment.items()])
    actions, attributes = ctypes.byref(_Opaque()), ctypes.byref(_Opaque())
    nothing, everything = ctypes.byref(_Opaque()), ctypes.byref(_Opaque())
    pid = ctypes.c_int()
    _LIBC.sigemptyset(nothing)
    _LIBC.sigfillset(everything)
    _check(_LIBC.posix_spawn_file_actions_init(actions), program)
    _check(_LIBC.posix_spawnattr_init(attributes), program)
    try:
        # Output first: where the healer itself runs without stdin, `output` may be descriptor 0.
        _check(_LIBC.posix_spawn_file_actions_adddup2(actions, output, 1), program)
        _check(_LIBC.posix_spawn_file_actions_adddup2(actions, 1, 2), program)
        null = os.devnull.encode()
        _check(_LIBC.posix_spawn_file_actions_addopen(actions, 0, null, os.O_RDONLY, 0), os.devnull)
        _close_inherited(actions)
        if directory is not None:
            _change_directory(actions, directory)
        _check(_LIBC.posix_spawnattr_setsigmask(attributes, nothing), program)
        _check(_LIBC.posix_spawnattr_setsigdefault(attributes, everything), program)
        flags = ctypes.c_short(_SETSID | _SETSIGMASK | _SETSIGDEF)
        _check(_LIBC.posix_spawnattr_setflags(attributes, flags), program)
        _check(
            _LIBC.posix_spawn(
                ctypes.byref(pid), _text(program), actions, attributes, arguments, variables
            ),
            program,
        )
    finally:
        _LIBC.posix_spawnattr_destroy(attributes)
        _LIBC.posix_spawn_file_actions_destroy(actions)
    return pid.value
