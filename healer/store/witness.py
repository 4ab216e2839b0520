"""Who keeps the checkpoints outside: without a witness, a log that was cut off looks whole.

A witness only gains: it never has to answer, and one checkpoint in it vouches for every event in
front of it, so that one that could not be delivered is made good by the next.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["FileWitness", "Witness"]

Witness = Callable[[str], None]
"""Receives the text of each checkpoint, at least once and in order, in the writer's thread; may
block for a moment. When it raises, the checkpoint is offered again."""


class FileWitness:
    """A file that is only appended to, one checkpoint a line, as a JSON string.

    Best a file of another user on another disk that this one may append to and not rewrite
    (`chattr +a`). It is made, for its owner only, where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The process before may have left half a line.
        self._torn = True

    def __call__(self, note: str) -> None:
        """Append `note` durably.

        Raises:
            OSError: it could not be written.
        """
        line = ("\n" if self._torn else "") + json.dumps(note) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o600)
        try:
            self._torn = True
            content = line.encode()
            if os.write(descriptor, content) != len(content):
                raise OSError(f"only a part of a checkpoint could be written to {self.path}")
            os.fsync(descriptor)
            self._torn = False
        finally:
            os.close(descriptor)
