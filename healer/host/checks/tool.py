"""Programs of the system, run for what they print: fixed places, a clean environment, no shell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["DIRECTORIES", "Output", "find_tool", "run_tool"]

# Never the PATH: what a user can write to must not be run with the healer's rights.
DIRECTORIES: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Output:
    """What a program printed and how it ended."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def denied(self) -> bool:
        """Whether it failed for want of rights, going by what it says (in the C locale)."""
        words = self.stderr.lower()
        marks = (b"not permitted", b"permission denied", b"must be root")
        return self.code != 0 and any(mark in words for mark in marks)


def find_tool(name: str, directories: Sequence[str] = DIRECTORIES) -> str | None:
    """The absolute path of the program `name`; None where none of `directories` has it."""
    for directory in directories:
        path = Path(directory, name)
        if path.is_file():
            return str(path)
    return None


async def run_tool(argv: Sequence[str], *, timeout: float) -> Output:
    """Run `argv` (its first word an absolute path) and wait for its end.

    Raises:
        TimeoutError: it took more than `timeout` seconds and was killed.
        OSError: it could not be started.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
    )
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate()
    finally:
        # Ours, and not waited for yet, so that its pid cannot be anybody else's.
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Output(process.returncode or 0, stdout, stderr)
