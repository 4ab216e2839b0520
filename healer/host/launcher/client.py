"""A manager's own client: the program by which a launcher asks another supervisor to act."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence

from healer.errors import LaunchError
from healer.host.launcher.environment import find_tool, tool_environment
from healer.host.launcher.run import Ran, printable, run

__all__ = ["Client"]


class Client:
    """`tool` with the words `always` before each request.

    `variables` are those of the healer's own environment that say where the manager is. `binary`
    is an absolute path that takes the place of the search for `tool` in root's directories.
    """

    def __init__(
        self,
        tool: str,
        *,
        always: Sequence[str] = (),
        variables: Sequence[str] = (),
        binary: str | None = None,
    ) -> None:
        self._tool = tool
        self._always = tuple(always)
        self._variables = tuple(variables)
        self._binary = binary

    def describe(self, *words: str) -> str:
        """The request as a person would type it."""
        return printable(shlex.join([self._tool, *self._always, *words]))

    async def ask(self, *words: str, timeout: float) -> Ran:
        """Make a request, whatever its exit code.

        Raises:
            LaunchError: there is no such client, or it did not end in time.
        """
        path = await asyncio.to_thread(find_tool, self._tool, binary=self._binary)
        environment = tool_environment(self._variables)
        return await run([path, *self._always, *words], environment, timeout=timeout)

    async def demand(self, purpose: str, *words: str, timeout: float) -> Ran:
        """Make a request that must succeed; `purpose` completes "cannot ...".

        Raises:
            LaunchError: the client said no, or could not be asked.
        """
        ran = await self.ask(*words, timeout=timeout)
        if ran.exit_code != 0:
            raise self.refused(purpose, ran, *words)
        return ran

    def refused(self, purpose: str, ran: Ran, *words: str) -> LaunchError:
        """The error that shows what the client said last."""
        return LaunchError(
            f"cannot {purpose}: `{self.describe(*words)}` ended with {ran.exit_code}: "
            f"{ran.last_line}",
            exit_code=ran.exit_code,
        )
