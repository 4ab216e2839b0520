"""A second verifier, so that a mistake in the first cannot hide: it shares no code with the healer.

    python -m replay.independent FILE [--witness FILE] [--public-key HEX]

One file, the standard library alone, Ed25519 after RFC 8032 included: copy it to another machine.
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
from contextlib import closing
from hashlib import sha256, sha512
from pathlib import Path
from urllib.parse import quote

# --- Ed25519, RFC 8032, section 5.1; slow and plain, for public values only ----------------------

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
    result = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = add(result, point)
        point, factor = add(point, point), factor >> 1
    return result


def point_of(encoded: bytes) -> Point | None:
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x * pow(2, (P - 1) // 4, P) % P if (x * x - square) % P else x
    if (x * x - square) % P or (x == 0 and sign):
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


# --- the log -------------------------------------------------------------------------------------

NOTE = re.compile(
    r"(?P<origin>network-healer/\S+)\n(?P<size>0|[1-9][0-9]*)\n(?P<head>\S{44})\ntime \S+\n"
    r"epoch (?P<epoch>[1-9][0-9]*)\nkey (?P<key>[0-9a-f]{64})\n(?:next (?P<next>[0-9a-f]{64})\n)?"
    r"(?:archived [0-9]+ (?P<last>[0-9]+) (?P<root>[0-9a-f]{64}) [0-9a-f]{64}\n)?"
    r"previous (?P<previous>[0-9a-f]{64}|none)\n\n\u2014 (?P<signer>\S+) (?P<signature>\S{92})\n"
)
Note = re.Match[str]
Heads = dict[int, bytes]


def vouched(note: Note, key: str) -> bool:
    name = sha256(note["signer"].encode() + b"\n\x01" + bytes.fromhex(key)).digest()[:4]
    signature, body = base64.b64decode(note["signature"]), note.string.partition("\n\n")[0] + "\n"
    right = note["signer"] == note["origin"] and signature[:4] == name
    return right and signed(body.encode(), signature[4:], bytes.fromhex(key))


def examine(file: Path, witness: Path | None = None, public_key: str | None = None) -> list[str]:
    """What is wrong with the log in `file`, in words; empty when nothing is."""
    # A line without its end is what a crash leaves.
    lines = witness.read_text(errors="replace").split("\n") if witness else []
    seen = [line for line in lines if line and (line[0] != '"' or line[-1] == '"')]
    wrong = ["the witness has no checkpoint"] if witness and not seen else []
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        (log_id,) = connection.execute("SELECT log_id FROM meta").fetchone()
        try:
            heads, moved = seals(connection, log_id, seen, (public_key or "").lower(), wrong)
            if not wrong:
                chain(connection, log_id, heads, moved, wrong)
        except (sqlite3.DatabaseError, AttributeError, TypeError) as error:
            wrong.append(f"the file is damaged: {error}")
    return wrong


def seals(
    connection: sqlite3.Connection, log_id: str, seen: list[str], key: str, wrong: list[str]
) -> tuple[Heads, int]:
    """How many events were signed with which head, and how many were archived."""
    origin, epoch, previous, texts = "network-healer/" + quote(log_id, safe=""), 1, "none", set()
    heads, note, last, moved = Heads(), None, 0, 0
    for (text,) in connection.execute("SELECT note FROM checkpoint ORDER BY number"):
        note = NOTE.fullmatch(text)
        if note is None or note["origin"] != origin:
            wrong.append(f"a checkpoint is not one, or of another log: {text[:60]!r}")
            return heads, moved
        key, size, where = key or note["key"], int(note["size"]), f"checkpoint of {note['size']}"
        if note["previous"] != previous or size < last:
            wrong.append(f"{where} does not follow from the one before it")
        if (int(note["epoch"]), note["key"]) != (epoch, key):
            wrong.append(f"{where} is not of epoch {epoch} with key {key}")
        head = base64.b64decode(note["head"])
        if heads.setdefault(size, head) != head:
            wrong.append(f"{where} contradicts the one before it")
        if note["last"]:
            moved = int(note["last"])
            if heads.setdefault(moved, bytes.fromhex(note["root"])).hex() != note["root"]:
                wrong.append(f"{where} contradicts an earlier one of the {moved} events archived")
        texts.add(json.dumps(text))
        previous, last = sha256(text.encode()).hexdigest(), size
        if note["next"]:
            if not vouched(note, key):
                wrong.append(f"{where} is not signed by the key of epoch {epoch}")
            epoch, key = epoch + 1, note["next"]
    if note is None:
        wrong.append("there is no checkpoint")
    elif not note["next"] and not vouched(note, key):
        wrong.append(f"the last checkpoint is not signed by the key of epoch {epoch}")
    wrong += [f"only the witness has {text[:60]!r}" for text in seen if text not in texts]
    return heads, moved


def sized(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def chain(
    connection: sqlite3.Connection, log_id: str, heads: Heads, moved: int, wrong: list[str]
) -> None:
    head, end, versions = sha256(log_id.encode()).digest(), 0, dict[str, int]()
    if heads.get(0, head) != head:
        wrong.append("the checkpoint of an empty log has another head")
    end, head = moved, heads.get(moved, head) if moved else head
    sys.stderr.write(f"events 1 to {moved} are archived: not looked at\n" if moved else "")
    for position, stream, version, topic, body, stored in connection.execute(
        "SELECT position, stream, version, topic, body, hash FROM event ORDER BY position"
    ):
        end += 1
        if position != end or version != versions.get(stream, version - 1 if moved else 0) + 1:
            wrong.append(f"event {end} is missing: next is event {position}, {stream}/{version}")
            return
        versions[stream] = version
        place = b"\0" + head + position.to_bytes(8, "big") + sized(stream.encode())
        place += version.to_bytes(8, "big") + sized(topic.encode()) + sized(body)
        head = sha256(place).digest()
        if head != stored or heads.get(end, head) != head:
            wrong.append(f"event {end}, {stream}/{version}, is not what was stored or signed")
            return
    given = connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'")
    if max(given.fetchone()[0] or 0, *heads) > end:
        wrong.append(f"event {end + 1} is missing: the end was cut off")
    if end - max(heads) > 200:  # what a crash can leave
        wrong.append(f"event {max(heads) + 1} is missing a signature, as all that follow")


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify a log without the healer's code.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--witness", type=Path)
    parser.add_argument("--public-key", help="the first one, in hex")
    given = parser.parse_args()
    try:
        wrong = examine(given.file, given.witness, given.public_key)
    except (OSError, sqlite3.Error, ValueError) as error:
        sys.stderr.write(f"cannot verify {given.file}: {error}\n")
        return 2
    sys.stdout.write("\n".join(wrong or [f"{given.file} is whole"]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
