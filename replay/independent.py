"""A second verifier, so that a mistake in the first cannot hide: it shares no code with the healer.

    python -m replay.independent FILE|postgresql://... [--witness FILE] [--public-key HEX]

One file, the standard library alone (for PostgreSQL psycopg), Ed25519 after RFC 8032 included.
It checks the chain, positions, streams, checkpoints, keys and witness; not what events say.
Archives (Parquet) it cannot read: it begins behind them, at the hash that was signed for them.
Exit status 0: whole; 1: the first lines say why not; 2: there was nothing to verify.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256, sha512
from importlib import import_module
from pathlib import Path
from struct import pack
from typing import Any
from urllib.parse import quote

# Ed25519, RFC 8032, section 5.1; slow and plain, for public values only.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]


def add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor: int, point: Point) -> Point:
    if factor == 0:
        return 0, 1, 1, 0
    rest = times(factor >> 1, add(point, point))
    return add(rest, point) if factor & 1 else rest


def point_of(encoded: bytes) -> Point | None:
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x * pow(2, (P - 1) // 4, P) % P if (x * x - square) % P else x
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little")) or (0, 0, 0, 0)


def signed(message: bytes, signature: bytes, key: bytes) -> bool:
    public, nonce = point_of(key), point_of(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if public is None or nonce is None or s >= ORDER:
        return False
    h = int.from_bytes(sha512(signature[:32] + key + message).digest(), "little") % ORDER
    a, b = times(s, BASE), add(nonce, times(h, public))
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


NOTE = re.compile(
    r"(?P<origin>network-healer/\S+)\n(?P<size>0|[1-9][0-9]*)\n(?P<head>\S{44})\ntime \S+\n"
    r"epoch (?P<epoch>[1-9][0-9]*)\nkey (?P<key>[0-9a-f]{64})\n(?:next (?P<next>[0-9a-f]{64})\n)?"
    r"(?:archived [0-9]+ (?P<last>[0-9]+) (?P<root>[0-9a-f]{64}) [0-9a-f]{64}\n)?"
    r"previous (?P<previous>[0-9a-f]{64}|none)\n\n\u2014 (?P<signer>\S+) (?P<signature>\S{92})\n"
)
Heads = dict[int, bytes]
Words = list[str]
Select = Callable[[str], Iterable[Any]]
GIVEN = "SELECT seq AS position FROM sqlite_sequence WHERE name = 'event'"


def vouched(note: re.Match[str], key: str) -> bool:
    name = sha256(note["signer"].encode() + b"\n\x01" + bytes.fromhex(key)).digest()[:4]
    signature, body = base64.b64decode(note["signature"]), note.string.partition("\n\n")[0] + "\n"
    right = note["signer"] == note["origin"] and signature[:4] == name
    return right and signed(body.encode(), signature[4:], bytes.fromhex(key))


@contextmanager
def opened(log: str) -> Iterator[Select]:
    """How to ask the log, in one state of it; `head` has the highest position ever given."""
    if "://" not in log:
        with closing(sqlite3.connect(f"file:{quote(log)}?mode=ro", uri=True)) as file:
            file.execute(f"CREATE TEMP VIEW head AS {GIVEN}")
            file.execute("BEGIN")
            yield file.execute
    else:
        psycopg = import_module("psycopg")
        with closing(psycopg.connect(log)) as database:
            database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            database.execute("SET search_path = healer")
            yield lambda query: database.cursor().stream(query, binary=True)


def examine(log: Path | str, witness: Path | None = None, public_key: str | None = None) -> Words:
    """What is wrong with the log, a file or a URL, in words; empty when nothing is."""
    # A line without its end is what a crash leaves.
    lines = witness.read_text(errors="replace").split("\n") if witness else []
    seen = [line for line in lines if line and (line[0] != '"' or line[-1] == '"')]
    wrong = ["the witness has no checkpoint"] if witness and not seen else []
    with opened(str(log)) as select:
        ((log_id,),) = select("SELECT log_id FROM meta")
        try:
            heads, moved = seals(select, log_id, seen, (public_key or "").lower(), wrong)
            if not wrong:
                chain(select, log_id, heads, moved, wrong)
        except Exception as error:  # of either store, or of rows that are none
            wrong.append(f"cannot accept the log: {error}")
    return wrong


def seals(select: Select, log_id: str, seen: Words, key: str, wrong: Words) -> tuple[Heads, int]:
    """How many events were signed with which head, and how many were archived."""
    origin, epoch, previous, texts = "network-healer/" + quote(log_id, safe=""), 1, "none", set()
    heads, note, last, moved = Heads(), None, 0, 0
    for (text,) in select("SELECT note FROM checkpoint ORDER BY number"):
        note = NOTE.fullmatch(text)
        if note is None or note["origin"] != origin:
            raise ValueError(f"a checkpoint is not one, or of another log: {text[:60]!r}")
        key, size, where = key or note["key"], int(note["size"]), f"checkpoint of {note['size']}"
        said = [(size, base64.b64decode(note["head"]))]
        if note["last"]:
            moved = int(note["last"])
            said.append((moved, bytes.fromhex(note["root"])))
        faults = {
            "does not follow from the one before": note["previous"] != previous or size < last,
            f"is not of epoch {epoch}": (int(note["epoch"]), note["key"]) != (epoch, key),
            "contradicts another": any(heads.setdefault(n, h) != h for n, h in said),
            f"is not signed by {key}": note["next"] and not vouched(note, key),
        }
        wrong += [f"{where} {fault}" for fault, found in faults.items() if found]
        texts.add(json.dumps(text))
        previous, last = sha256(text.encode()).hexdigest(), size
        epoch, key = (epoch + 1, note["next"]) if note["next"] else (epoch, key)
    if note is None or not (note["next"] or vouched(note, key)):
        wrong.append(f"there is no checkpoint at the end that {key or 'any key'} signed")
    wrong += [f"only the witness has {text[:60]!r}" for text in seen if text not in texts]
    return heads, moved


def chain(select: Select, log_id: str, heads: Heads, moved: int, wrong: Words) -> None:
    head, versions = sha256(log_id.encode()).digest(), dict[str, int]()
    if heads.get(0, head) != head:
        wrong.append("the checkpoint of an empty log has another head")
    end, head = moved, heads[moved] if moved else head
    sys.stderr.write(f"events 1 to {moved} are archived: not looked at\n" if moved else "")
    for position, stream, version, topic, body, stored in select(
        "SELECT position, stream, version, topic, body, hash FROM event ORDER BY position"
    ):
        end += 1
        if position != end or version != versions.get(stream, version - 1 if moved else 0) + 1:
            raise ValueError(f"event {end} is missing: {position}, {stream}/{version}, is next")
        versions[stream] = version
        name, word = stream.encode(), topic.encode()
        form = f">x32sQI{len(name)}sQI{len(word)}sI{len(body)}s"
        fields = head, position, len(name), name, version, len(word), word, len(body), body
        head = sha256(pack(form, *fields)).digest()
        if head != stored or heads.get(end, head) != head:
            raise ValueError(f"event {end}, {stream}/{version}, is not what was stored or signed")
    ((highest,),) = select("SELECT max(position) FROM head")
    if max(highest or 0, *heads) > end:
        wrong.append(f"event {end + 1} is missing: the end was cut off")
    if end - max(heads) > 200:  # what a crash can leave
        wrong.append(f"event {max(heads) + 1} is missing a signature, as all that follow")


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify a log without the healer's code.")
    parser.add_argument("log", help="a file, or the URL of a database")
    parser.add_argument("--witness", type=Path)
    parser.add_argument("--public-key", help="the first one, in hex")
    given = parser.parse_args()
    name = given.log if "://" not in given.log else "the database"  # a URL may have a password
    try:
        wrong = examine(given.log, given.witness, given.public_key)
    except Exception as error:  # whatever the store raises
        sys.stderr.write(f"cannot verify {name}: {error}\n")
        return 2
    sys.stdout.write("\n".join(wrong or [f"{name} is whole"]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
