"""Mutations of TLS records: single bits, lengths, cuts, records in other order, and records that nobody sent."""

from random import Random
from typing import Final

TYPES: Final = (0, 20, 21, 22, 23, 24, 255)
MOST: Final = 100_000
"Bytes of a mutated message."
CLOSE_NOTIFY: Final = bytes((21, 3, 3, 0, 2, 1, 0))
KEY_UPDATE: Final = bytes((22, 3, 3, 0, 5, 24, 0, 0, 1, 1))


def mutated(data: bytes, rand: Random) -> bytes:
    """These bytes, changed in one to four places."""
    for _ in range(rand.choice((1, 1, 1, 2, 4))):
        data = rand.choice(_MUTATIONS)(data, rand)[:MOST]
    return data


def records_in(data: bytes) -> list[bytes]:
    """The records, as far as their lengths say; the rest is the last one."""
    found, at = [], 0
    while at + 5 <= len(data):
        end = at + 5 + int.from_bytes(data[at + 3 : at + 5])
        found.append(data[at:end])
        at = end
    return [*found, data[at:]] if data[at:] else found


def _bit(data: bytes, rand: Random) -> bytes:
    if not data:
        return data
    at = rand.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << rand.randrange(8),)) + data[at + 1 :]


def _byte(data: bytes, rand: Random) -> bytes:
    at = rand.randrange(len(data) + 1)
    return data[:at] + bytes((rand.choice((0, 1, 3, 22, 127, 128, 255)),)) + data[at + rand.randrange(2) :]


def _length(data: bytes, rand: Random) -> bytes:
    """Two bytes that may be a length become another one."""
    if len(data) < 4:
        return data
    at = rand.randrange(len(data) - 1)
    value = int.from_bytes(data[at : at + 2]) + rand.choice((-300, -2, -1, 1, 2, 300, 16384))
    return data[:at] + (value & 0xFFFF).to_bytes(2) + data[at + 2 :]


def _cut(data: bytes, rand: Random) -> bytes:
    return data[: rand.randrange(len(data) + 1)]


def _doubled(data: bytes, rand: Random) -> bytes:
    a, b = sorted(rand.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:b] + data[b:]


def _without(data: bytes, rand: Random) -> bytes:
    a = rand.randrange(len(data) + 1)
    return data[:a] + data[a + rand.randrange(1, 40) :]


def _junk(data: bytes, rand: Random) -> bytes:
    at = rand.randrange(len(data) + 1)
    return data[:at] + rand.randbytes(rand.choice((1, 5, 64, 3000))) + data[at:]


def _shuffled(data: bytes, rand: Random) -> bytes:
    records = records_in(data)
    rand.shuffle(records)
    return b"".join(records)


def _repeated(data: bytes, rand: Random) -> bytes:
    records = records_in(data)
    return b"".join(record * rand.choice((1, 1, 2, 20)) for record in records)


def _other_type(data: bytes, rand: Random) -> bytes:
    records = records_in(data)
    if not records:
        return data
    at = rand.randrange(len(records))
    records[at] = bytes((rand.choice(TYPES),)) + records[at][1:]
    return b"".join(records)


def _in_fragments(data: bytes, rand: Random) -> bytes:
    """The same messages over more records, some of them empty."""
    found = []
    for record in records_in(data):
        head, body, at = record[:3], record[5:], 0
        while at < len(body):
            size = rand.choice((0, 1, 2, 3, 50, 1000))
            piece = body[at : at + size]
            found.append(head + len(piece).to_bytes(2) + piece)
            at += size
            if len(found) > 400:
                return b"".join(found)
    return b"".join(found)


def _foreign(data: bytes, rand: Random) -> bytes:
    """A record that was not sent, before, behind or between the others."""
    records = records_in(data)
    records.insert(
        rand.randrange(len(records) + 1), rand.choice((CLOSE_NOTIFY, KEY_UPDATE, b"GET / HTTP/1.1\r\n\r\n"))
    )
    return b"".join(records)


_MUTATIONS: Final = (
    _bit,
    _byte,
    _length,
    _cut,
    _doubled,
    _without,
    _junk,
    _shuffled,
    _repeated,
    _other_type,
    _in_fragments,
    _foreign,
)
