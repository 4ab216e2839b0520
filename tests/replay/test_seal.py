"""What the signatures of a log say against it: which checkpoint, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from healer.errors import StoreError
from healer.store.checkpoint import Checkpoint, Stretch, digest, read
from replay.audit import Problem
from replay.seal import Seals, sightings
from tests.replay.sealed import KEY, LOG_ID, STRANGER, Notes, head, public

OURS, THEIRS = public(KEY), public(STRANGER)

NOT_NAMED = "it does not name the one before it: one is missing, or was changed"
NOT_SIGNED = f"it was not signed by the key of epoch 1, {OURS.hex()}"
Told = tuple[int, int, str, str]
"""Which checkpoint, how many events it covers, code, why."""


def looked(
    notes: list[str], key: bytes | None = OURS, seen: dict[bytes, Checkpoint] | None = None
) -> tuple[Seals, list[Problem]]:
    seals = Seals(LOG_ID, key, seen or {})
    return seals, list(seals.look(iter(notes)))


def said(*told: Told) -> list[Problem]:
    return [
        Problem(size, "", code, f"cannot accept checkpoint {number} ({size} events): {why}")
        for number, size, code, why in told
    ]


def forged(note: str) -> str:
    """Another time, so that its signature is of another text."""
    changed = note.replace("time 2026", "time 2027")
    assert changed != note
    return changed


def unreadable(text: str) -> str:
    return f"cannot read a checkpoint: {text!r} is not one"


@pytest.mark.parametrize("key", [OURS, None])
def test_what_sound_checkpoints_say_is_kept(key: bytes | None) -> None:
    moved = Stretch(1, 2, head(2), bytes(32))
    notes = Notes().say(0).say(3).say(3).say(5, archived=moved)
    seals, problems = looked(notes, key)
    assert problems == []
    assert (seals.count, seals.key, seals.archived) == (4, OURS, [moved])
    assert seals.marks == {0: head(0), 3: head(3), 5: head(5), 2: head(2)}
    assert seals.last == read(notes[-1])


def test_a_log_without_checkpoints_says_nothing() -> None:
    for key in (OURS, None):
        seals, problems = looked([], key)
        assert problems == []
        assert (seals.count, seals.key, seals.last, seals.marks) == (0, key, None, {})


def test_one_that_cannot_be_read_is_named_and_the_next_may_follow_it() -> None:
    seals, problems = looked(Notes().say(0).say(3).put("x").say(7))
    assert problems == said((3, 3, "checkpoint_unreadable", unreadable("x")))
    assert seals.count == 4
    _, problems = looked(Notes().put("x").say(7))
    assert problems == said((1, 0, "checkpoint_unreadable", unreadable("x")))


def test_behind_one_that_cannot_be_read_a_signature_is_looked_at_by_itself() -> None:
    notes = Notes().say(0)
    notes.put(forged(Notes(notes).say(3)[-1])).put("x").put("y").say(7)
    _, problems = looked(notes)
    assert problems == said(
        (2, 3, "checkpoint_signature", NOT_SIGNED),
        (3, 3, "checkpoint_unreadable", unreadable("x")),
        (4, 3, "checkpoint_unreadable", unreadable("y")),
    )


def test_one_that_does_not_name_the_one_before_begins_anew() -> None:
    notes = Notes().say(0)
    notes.put(forged(Notes(notes).say(3)[-1])).say(7, previous=head(9)).say(9)
    _, problems = looked(notes)
    assert problems == said(
        (2, 3, "checkpoint_signature", NOT_SIGNED),
        (3, 7, "checkpoint_order", NOT_NAMED),
    )
    _, problems = looked(Notes().say(0, previous=head(9)))
    assert problems == said((1, 0, "checkpoint_order", NOT_NAMED))


def test_the_last_signature_vouches_for_those_in_front_of_it() -> None:
    notes = Notes()
    notes.put(forged(Notes().say(0)[0])).say(3)
    assert looked(notes)[1] == []
    _, problems = looked(Notes().say(0).put(forged(Notes().say(0).say(3)[1])))
    assert problems == said((2, 3, "checkpoint_signature", NOT_SIGNED))


def test_one_of_another_log_is_named() -> None:
    _, problems = looked(Notes().say(0).say(3, log_id="log-2").say(4))
    assert problems == said(
        (2, 3, "checkpoint_of_another_log", "it is of another log, 'log-2'"),
    )


def test_another_key_than_was_told_is_named_and_does_not_sign() -> None:
    seals, problems = looked(Notes().say(0), THEIRS)
    due = f"epoch 1 with key {THEIRS.hex()} is due"
    assert problems == said(
        (1, 0, "checkpoint_key", f"it is of epoch 1 and key {OURS.hex()}; {due}"),
        (1, 0, "checkpoint_signature", f"it was not signed by the key of epoch 1, {THEIRS.hex()}"),
    )
    assert seals.key == THEIRS


def test_an_epoch_that_is_not_due_is_named() -> None:
    _, problems = looked(Notes().say(0).say(3, epoch=2).say(4))
    why = f"it is of epoch 2 and key {OURS.hex()}; epoch 1 with key {OURS.hex()} is due"
    assert problems == said((2, 3, "checkpoint_key", why))


def test_a_key_is_followed_by_the_one_that_it_names() -> None:
    notes = Notes().say(0).say(3, successor=THEIRS).say(3, by=STRANGER, epoch=2, key=THEIRS)
    notes.say(5, by=STRANGER, epoch=2, key=THEIRS, successor=OURS).say(6, epoch=3)
    seals, problems = looked(notes, None)
    assert problems == []
    assert seals.key == OURS
    _, problems = looked(notes.say(7))
    why = f"it is of epoch 1 and key {OURS.hex()}; epoch 3 with key {OURS.hex()} is due"
    assert problems == said((6, 7, "checkpoint_key", why))


def test_who_hands_over_signs_for_it() -> None:
    notes = Notes().say(0).say(3, by=STRANGER, successor=THEIRS)
    notes.say(4, by=STRANGER, epoch=2, key=THEIRS)
    assert looked(notes)[1] == said((2, 3, "checkpoint_signature", NOT_SIGNED))
    notes = Notes().say(3, successor=THEIRS).say(4, epoch=2, key=THEIRS)
    why = f"it was not signed by the key of epoch 2, {THEIRS.hex()}"
    assert looked(notes)[1] == said((2, 4, "checkpoint_signature", why))


def test_a_log_that_became_shorter_is_named() -> None:
    _, problems = looked(Notes().say(3).say(2).say(2))
    why = "it covers 2 events, fewer than the one before it"
    assert problems == said((2, 2, "checkpoint_order", why))


def test_one_that_says_otherwise_of_the_same_events_is_named() -> None:
    seals, problems = looked(Notes().say(3).say(3, head=head(9)).say(4))
    why = "another one says otherwise of the same 3 events"
    assert problems == said((2, 3, "checkpoint_contradicted", why))
    assert seals.marks[3] == head(3)


def stretch(first: int, last: int, root: bytes | None = None) -> Stretch:
    return Stretch(first, last, root or head(last), bytes(32))


def test_archives_follow_each_other() -> None:
    notes = Notes().say(5, archived=stretch(1, 1)).say(5, archived=stretch(2, 5))
    seals, problems = looked(notes)
    assert problems == []
    assert seals.archived == [stretch(1, 1), stretch(2, 5)]


@pytest.mark.parametrize(
    ("moved", "why"),
    [
        (stretch(2, 5), "it archives 2 to 5 after 2"),
        (stretch(4, 5), "it archives 4 to 5 after 2"),
        (stretch(3, 2), "it archives 3 to 2 after 2"),
        (stretch(3, 6), "it archives 3 to 6 after 2"),
    ],
)
def test_an_archive_that_does_not_follow_is_named(moved: Stretch, why: str) -> None:
    seals, problems = looked(Notes().say(4, archived=stretch(1, 2)).say(5, archived=moved))
    assert problems == said((2, 5, "checkpoint_order", why))
    assert seals.archived == [stretch(1, 2), moved]


def test_the_first_archive_begins_with_the_first_event() -> None:
    _, problems = looked(Notes().say(5, archived=stretch(2, 3)))
    assert problems == said((1, 5, "checkpoint_order", "it archives 2 to 3 after 0"))


def test_an_archive_of_which_was_said_otherwise_is_named() -> None:
    seals, problems = looked(Notes().say(2).say(4, archived=stretch(1, 2, head(9))))
    why = "another one says otherwise of the 2 events that it archives"
    assert problems == said((2, 4, "checkpoint_contradicted", why))
    assert seals.marks[2] == head(2)
    # The one that archives is looked at before what it says of itself.
    _, problems = looked(Notes().say(4, archived=stretch(1, 4, head(9))))
    why = "another one says otherwise of the same 4 events"
    assert problems == said((1, 4, "checkpoint_contradicted", why))


# --- the witness ---------------------------------------------------------------------------------


def test_what_only_the_witness_has_is_left_over() -> None:
    notes = Notes().say(0).say(3).say(5)
    seen = {digest(note): read(note) for note in notes}
    seals, problems = looked(notes[:1], seen=seen)
    assert problems == []
    assert seals.unseen == [read(notes[1]), read(notes[2])]
    assert len(seen) == 3


def test_a_witness_is_read_line_by_line(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    first, second = Notes().say(0).say(3)
    lines = [json.dumps(first), "", json.dumps(second)[:50], '"x"', json.dumps(second), '7"', "[]"]
    witness.write_text("\n".join(lines))
    seen, problems = sightings(witness)
    assert seen == {digest(first): read(first), digest(second): read(second)}
    assert [(each.position, each.event_id, each.code) for each in problems] == [
        (0, "", "witness_unreadable")
    ] * 3
    told = [each.message.partition(f" of the witness {witness}: ") for each in problems]
    assert [(where, bool(why)) for where, _, why in told] == [
        (f"cannot accept line {number}", True) for number in (4, 6, 7)
    ]
    assert told[0][2] == "cannot read a checkpoint: 'x' is not one"


def test_a_line_that_is_too_deep_is_a_line_that_cannot_be_read(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    note = Notes().say(0)[0]
    witness.write_text("[" * 100_000 + "\n" + json.dumps(note) + "\n")
    seen, [problem] = sightings(witness)
    assert seen == {digest(note): read(note)}
    assert problem.code == "witness_unreadable"
    assert problem.message.startswith(f"cannot accept line 1 of the witness {witness}: ")


def test_a_witness_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as refused:
        sightings(tmp_path)
    assert str(refused.value) == f"cannot read the witness {tmp_path}: Is a directory"
