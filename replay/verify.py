"""Whether a log is what its healer wrote: whole, unchanged, readable, legal, and signed.

Reads a file and never repairs it. What can be found depends on what is compared with: the chain
alone finds who did not recompute it; the first public key finds who cannot sign; a witness finds
who can, up to the last checkpoint that it saw, and whoever cut the end off.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from healer.errors import StoreError
from healer.store import SqliteLog
from healer.store.codec import Codec
from replay.archive import Archive, FileArchive
from replay.audit import Problem
from replay.seal import Seals, sightings
from replay.walk import BESIDE, Progress, Walk

__all__ = ["Report", "verify"]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a verification.

    `problems` holds the first ones (`found` counts all), in order of position; `witnessed` is how
    many events the newest checkpoint of the witness covers, None without one. `public_key` is the
    log's first, in hex, None in a log that was never signed. `pinned`: the key or a witness came
    from outside; otherwise the log only agrees with itself. `deep`: every event was decoded.
    `unseen`: so many events stand in archives that are not here; what was signed when they were
    made was believed in their place, and nothing else was looked at. `events` does not count them.
    """

    ok: bool
    first_problem: str | None
    problems: list[Problem]
    events: int
    checkpoints: int
    witnessed: int | None
    found: int
    log_id: str
    public_key: str | None
    pinned: bool
    deep: bool
    unseen: int

    def view(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)


def verify(
    log: Path | str | SqliteLog | Archive,
    *,
    witness: Path | None = None,
    public_key: str | None = None,
    log_id: str | None = None,
    deep: bool = True,
    codec: Codec | None = None,
    beside: int = BESIDE,
    on_progress: Progress = lambda _done, _total: None,
) -> Report:
    """Verify a log: a file, whether or not a healer has it open, or another store's archive.

    `witness` is the file that received its checkpoints, `public_key` its first key in hex, `log_id`
    its name; what is given is believed more than what the log says of itself. Without `deep` events
    are hashed and counted and not decoded: neither their schema nor the legality of what they say
    is looked at, which takes half of the work. A log of `beside` events or more is looked
    at by two processes, half each. Blocks.

    Raises:
        StoreError: there is nothing to verify: the log or the witness cannot be read, or
            `public_key` is not a key.
    """
    key = None if public_key is None else _key(public_key)
    with ExitStack() as stack:
        # The witness first: it never knows more than the log, so what it knows now must be there.
        seen, troubles = ({}, []) if witness is None else sightings(witness)
        archive: Archive
        if isinstance(log, Path | str | SqliteLog):
            file = log.file if isinstance(log, SqliteLog) else Path(log)
            archive = stack.enter_context(FileArchive(file))
        else:
            archive = log
        name = archive.log_id if log_id is None else log_id
        seals = Seals(name, key, seen)
        walk = Walk(archive, seals, codec, on_progress, deep=deep, beside=beside)
        walk.run(name)
    for problem in troubles:
        walk.add(problem)
    if witness is not None and not seen:
        why = f"cannot trust {archive.log_id}: the witness {witness} has no checkpoint"
        walk.add(Problem(0, "", "witness_empty", why))
    kept = sorted(walk.kept, key=lambda problem: problem.position)
    return Report(
        ok=not kept,
        first_problem=kept[0].message if kept else None,
        problems=kept,
        events=walk.events,
        checkpoints=seals.count,
        witnessed=max((each.size for each in seen.values()), default=None),
        found=walk.found,
        log_id=archive.log_id,
        public_key=seals.key.hex() if seals.key else None,
        pinned=key is not None or bool(seen),
        deep=deep,
        unseen=archive.absent,
    )


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise StoreError(f"cannot use {text!r} as a public key; allowed: 64 hexadecimal digits")
    return key
