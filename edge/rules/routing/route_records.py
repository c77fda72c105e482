"""A route as it leaves the process that learned it: for the file that outlives it, and for its siblings.

    record = length u32, CRC-32 of all that follows u32,
             confirmed f64, length of the hostname u16, hostname, the rest as MessagePack

A record says when the core API last confirmed it, in seconds since the epoch: who reads it keeps the newest of
each hostname without looking into the rest, which is decoded only when somebody asks for that hostname.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from edge.rules.routing.saved_route import SavedRoute

HEADER: Final = b"styx routes 1\n"
"What a file of records begins with. The number changes with the layout; another one is refused."
_FRAME = struct.Struct("!II")
_HEAD = struct.Struct("!dH")
LONGEST: Final = 2 << 20
"Bytes of one record; an answer of the core API has at most half as many."


class Record(NamedTuple):
    """One record, not yet decoded."""

    hostname: str
    confirmed: float
    data: bytes
    "All of it, as it is written and sent."


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SavedRoute)


def record_of(hostname: str, confirmed: float, route: SavedRoute) -> Record:
    """Encode. About five microseconds for three backends. Raises ValueError for what fits into no record: integers
    of more than 64 bits, lone surrogates, a hostname of 64 KiB, more than `LONGEST` bytes."""
    try:
        name = hostname.encode()
        rest = b"%b%b%b" % (_HEAD.pack(confirmed, len(name)), name, _encoder.encode(route))
    except (OverflowError, TypeError, struct.error, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from error
    if len(rest) > LONGEST:
        raise ValueError(f"a record of {len(rest)} bytes, at most {LONGEST}")
    return Record(hostname, confirmed, _FRAME.pack(len(rest), zlib.crc32(rest)) + rest)


def route_in(data: bytes) -> SavedRoute:
    """Decode one whole record. Raises ValueError when it is none."""
    try:
        (_, length) = _HEAD.unpack_from(data, _FRAME.size)
        return _decoder.decode(data[_FRAME.size + _HEAD.size + length :])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(f"no record of a route: {error}") from error


class Damaged(ValueError):
    """Records end before their bytes do: `good` bytes are whole."""

    def __init__(self, good: int, why: str) -> None:
        super().__init__(f"{why} at byte {good}")
        self.good = good


def records(data: bytes, start: int = 0) -> Iterator[Record]:
    """The records in these bytes from `start` on. Raises Damaged at the first that is not whole; what follows it
    cannot be trusted, for its beginning is not known."""
    head = _HEAD.size
    for at, begin, after in _frames(data, start):
        confirmed, name = _HEAD.unpack_from(data, begin)
        hostname = data[begin + head : begin + head + name].decode("utf-8", "replace")
        yield Record(hostname, confirmed, data[at:after])


def check(data: bytes, start: int = 0) -> None:
    """Raises Damaged at the first record that is not whole."""
    for _ in _frames(data, start):
        pass


def _frames(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Where each record begins, where what is in it does, and where it ends. A matter of half a million."""
    at, end, view, frame, least = start, len(data), memoryview(data), _FRAME.size, _HEAD.size
    unpack, checksum_of = _FRAME.unpack_from, zlib.crc32
    while at < end:
        begin = at + frame
        if end - begin < least:
            raise Damaged(at, "the last record is cut off")
        length, checksum = unpack(data, at)
        if length > LONGEST or length < least:
            raise Damaged(at, f"a record of {length} bytes")
        after = begin + length
        if after > end:
            raise Damaged(at, "the last record is cut off")
        if checksum_of(view[begin:after]) != checksum:
            raise Damaged(at, "a record with a wrong checksum")
        yield at, begin, after
        at = after


def whole(found: Iterable[bytes]) -> list[bytes]:
    """Those of these byte strings that hold whole records and nothing else: a damaged one, once written, would hide
    all that is written behind it."""
    good = []
    for data in found:
        try:
            check(data)
        except Damaged:
            continue
        good.append(data)
    return good


def in_batches(found: Sequence[bytes], most: int, size: int) -> Iterator[Sequence[bytes]]:
    """These records in order, at most `most` and (unless one alone has more) `size` bytes at a time."""
    start = bytes_in = 0
    for at, data in enumerate(found):
        if at > start and (at - start >= most or bytes_in + len(data) > size):
            yield found[start:at]
            start, bytes_in = at, 0
        bytes_in += len(data)
    if start < len(found):
        yield found[start:]


def newest(found: Iterator[Record], into: dict[str, Record]) -> None:
    """Keep the newest record of each hostname, in the order in which they were last confirmed or nearly so."""
    for record in found:
        before = into.get(record.hostname)
        if before is None or before.confirmed <= record.confirmed:
            into.pop(record.hostname, None)
            into[record.hostname] = record


def still_useful(kept: Mapping[str, Record], now: float, capacity: int) -> list[Record]:
    """What is worth writing again: neither forgotten, gone nor beyond understanding, the last `capacity` of it."""
    useful = []
    for record in kept.values():
        try:
            route = route_in(record.data)
        except ValueError:  # one record must not keep all others from being written
            continue
        if route.answer is not None and route.gone > now:
            useful.append(record)
    return useful[-capacity:]
