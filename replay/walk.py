"""One way through a log as it is stored: each event hashed and counted, and judged beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Final

from healer.errors import StoreError
from healer.store.chain import genesis, link
from healer.store.codec import Codec
from replay.archive import Archive, Row
from replay.audit import Problem
from replay.halves import Half, Later, Marks, second_half
from replay.judge import KEPT, NOT_A_ROW, Judge
from replay.seal import UNSIGNED, Seals

__all__ = ["BESIDE", "Progress", "Walk"]

Progress = Callable[[int, int], None]
"""Told how many events of how many are done."""

BESIDE: Final = 100_000
"""Events from which on a second process is worth its beginning."""


class Walk:
    """Looks at a whole log once; remembers a number per stream and the open issues, not the events.

    `kept` holds the first problems, `found` counts all, `events` is how many events there were.
    """

    def __init__(
        self,
        archive: Archive,
        seals: Seals,
        codec: Codec | None,
        progress: Progress,
        *,
        deep: bool,
        beside: int = BESIDE,
    ) -> None:
        self.kept: list[Problem] = []
        self.found = 0
        self.events = 0
        self._archive = archive
        self._seals = seals
        self._codec = codec
        self._progress = progress
        self._deep = deep
        self._beside = beside
        self._position = 0
        self._versions: dict[str, int] = {}
        self._open: dict[str, str] = {}
        self._marks: dict[int, list[tuple[str, bytes]]] = {}
        self._believed: dict[str, int] = {}

    def add(self, problem: Problem) -> None:
        """Keep `problem`, or count it where there are too many."""
        self.found += 1
        if len(self.kept) < KEPT:
            self.kept.append(problem)

    def _say(self, position: int, code: str, why: str, event_id: str = "") -> None:
        self.add(Problem(position, event_id, code, f"cannot accept event {position}: {why}"))

    def run(self, log_id: str) -> None:
        """The checkpoints, every event, and what is missing at the end. `log_id` is the name that
        the log should have."""
        archive = self._archive
        if archive.log_id != log_id:
            why = f"it calls itself {archive.log_id!r}; {log_id!r} is expected"
            self.add(Problem(0, "", "another_log", f"cannot accept the log: {why}"))
        long = self._codec is None and archive.head - archive.absent >= self._beside
        try:
            # It begins while the checkpoints are read.
            with second_half(archive.again()) if long else nullcontext() as second:
                for problem in self._seals.look(archive.notes()):
                    self.add(problem)
                self._mark("a checkpoint", self._seals.marks)
                seen = {each.size: each.head for each in self._seals.unseen}
                self._mark("the witness", seen)
                self._look(self._begin(genesis(log_id)), second)
            if self._deep:
                self._check_claims()
        except StoreError as error:
            # What lies behind the damage cannot be told from what was taken away.
            self._say(self._position + 1, "damaged", str(error))
        else:
            self._check_end()

    def _begin(self, start: bytes) -> bytes:
        """Where the events begin that are here, and the hash in front of them: where archives are
        elsewhere, what was signed when they were made stands for them."""
        ours = [(each.first, each.last, each.head, each.digest) for each in self._archive.segments]
        signed = [(each.first, each.last, each.head, each.digest) for each in self._seals.archived]
        if ours != signed:
            why = f"it says that {_spans(ours)} were archived; {_spans(signed)} is signed"
            self.add(Problem(0, "", "archive", f"cannot accept its table of archives: {why}"))
        self._compare(0, start)
        absent = self._archive.absent
        if absent:
            self._position, self._versions = absent, dict(self._archive.streams)
            self._open = dict(self._archive.carried)
            start = next((head for _, last, head, _ in signed if last == absent), start)
        return start

    def _mark(self, who: str, heads: Mapping[int, bytes]) -> None:
        for size, head in heads.items():
            self._marks.setdefault(size, []).append((who, head))

    def _look(self, start: bytes, second: second_half | None) -> None:
        if second is not None and self._by_two(start, second):
            return
        judge = Judge(self._open, self._codec) if self._deep else None
        try:
            self._pass(start, judge)
        finally:
            if judge is not None:
                self._open = judge.open
                for problem in judge.problems:
                    self.add(problem)
                self.found += judge.found - len(judge.problems)

    def _by_two(self, start: bytes, second: second_half) -> bool:
        """Whether both halves are sound, looked at at the same time; if not, nothing is known."""
        end = self._archive.head
        marks = {size: [head for _, head in said] for size, said in self._marks.items()}
        carried = self._open if self._deep else None
        half = Half(self._position, start, marks=marks, streams=self._versions, carried=carried)
        try:
            seam = self._up_to_seam(half, second, marks)
        except (StoreError, *NOT_A_ROW):
            return False  # whoever looks at all of it tells of the damage
        if not half.sound or half.position != (seam or end):
            return False
        # On a busy machine it may be at its end before the other is ready.
        later = second.result() if seam else Later(sound=True, position=end)
        if later.position != end or not half.followed_by(later):
            return False
        if half.judge is not None:
            self._open = {**half.judge.open, **later.open}
        self._position, self.events = end, half.events + later.events
        self._progress(end, end)
        return True

    def _up_to_seam(self, half: Half, second: second_half, marks: Marks) -> int:
        """Let `half` take what the second one does not look at, as long as it is sound: up to the
        seam, which is returned, or all of it (0)."""
        end = self._archive.head
        short = end - half.position < BESIDE  # two were asked for, and it ends before one is ready
        seam = begun = 0
        for rows in self._archive.rows():
            if not seam and (second.ready or short):
                begun, seam = half.position, self._share(half.position, second, marks)
            beyond = seam and rows[-1][0] > seam
            if not half.take([row for row in rows if row[0] <= seam] if beyond else rows):
                break
            theirs = half.position - begun if seam else 0
            self._progress(min(half.position + theirs, end), end)
            if half.position == seam:
                break
        return seam

    def _share(self, after: int, second: second_half, marks: Marks) -> int:
        """Let the second one look at half of what is left behind `after`: nobody waited for it to
        begin. The last position in front of its half; 0 where the log cannot be cut there."""
        end = self._archive.head
        seam = self._archive.seam((after + end) // 2)
        if seam is None or not after < seam[0] < end:
            return 0
        second.begin(seam, until=end, marks=marks, deep=self._deep)
        return seam[0]

    def _pass(self, start: bytes, judge: Judge | None) -> None:
        total = self._archive.head
        self._progress(self._position, total)
        previous = start
        for batch in self._archive.rows():
            previous = self._follow(batch, previous)
            if judge is not None:
                judge.take(batch)
            self._progress(self._position, total)

    def _follow(self, batch: Sequence[Row], previous: bytes) -> bytes:
        versions, marks, after = self._versions, self._marks, self._position
        try:
            for position, stream, version, topic, _, body, stored in batch:
                before = versions.get(stream, 0)
                if version != before + 1:
                    why = f"its stream {stream} stood at {before}, so {before + 1} is next"
                    self._say(position, "gap", why, f"{stream}/{version}")
                if position != after + 1:
                    why = f"it is missing; event {position} is next"
                    self._say(after + 1, "missing", why)
                    previous = stored
                else:
                    previous = link(previous, position, stream, version, topic=topic, body=body)
                    if previous != stored:
                        why = "it does not match its hash, or does not follow from the one before"
                        self._say(position, "hash", why, f"{stream}/{version}")
                        previous = stored
                    if position in marks:
                        self._compare(position, previous)
                versions[stream] = version
                after = position
        except NOT_A_ROW as error:
            # A table that was made anew without its types may hold anything.
            raise StoreError(f"its columns are not what a log keeps in them: {error}") from error
        finally:
            self._position = after
        self.events += len(batch)
        return previous

    def _compare(self, size: int, head: bytes) -> None:
        for who, expected in self._marks.get(size, ()):
            believed = self._believed.get(who, 0)
            if expected == head and believed >= 0:
                self._believed[who] = size
            elif believed >= 0:
                # Once is enough: no hash behind it can be the one that was signed.
                self._believed[who] = -1
                why = f"one of the events {believed + 1} to {size} is not the one that {who} covers"
                if size == 0:
                    why = f"it would not follow from the name of the log that {who} covers"
                self._say(max(size, 1), "not_signed", why)

    def _check_claims(self) -> None:
        log = {component: issue for issue, component in self._open.items()}
        table = self._archive.claims()
        for component in sorted({*log, *table}):
            ours, theirs = log.get(component), table.get(component)
            if ours != theirs:
                why = (
                    f"its open issue is {ours} by the log and {theirs} by the table of open issues"
                )
                message = f"cannot accept the claim of {component!r}: {why}"
                self.add(Problem(self._position, "", "claim", message))

    def _check_end(self) -> None:
        end, seals = self._position, self._seals
        signed = seals.last.size if seals.last else 0
        if seals.last is None:
            why = "no checkpoint was ever signed of it, or they were taken away"
            self.add(Problem(0, "", "unsigned", f"cannot accept the log: {why}"))
        elif end - signed > UNSIGNED:
            why = (
                f"no checkpoint covers the {end - signed} events from here to the end; at most "
                f"{UNSIGNED} may be"
            )
            self._say(signed + 1, "unsigned", why)
        for reached, who in (
            (self._archive.given, "the store has given out positions"),
            (signed, "a checkpoint was signed"),
            (max((each.size for each in seals.unseen), default=0), "the witness saw"),
        ):
            if reached > end:
                self._say(end + 1, "cut_off", f"it is missing: {who} up to {reached}")
        if seals.unseen:
            size = max(each.size for each in seals.unseen)
            why = f"the witness has {len(seals.unseen)} checkpoints, up to {size}, that it has not"
            self.add(Problem(min(size, end + 1), "", "unseen", f"cannot accept the log: {why}"))


def _spans(stretches: Sequence[tuple[int, int, bytes, bytes]]) -> str:
    return ", ".join(f"{first} to {last}" for first, last, _, _ in stretches) or "nothing"
