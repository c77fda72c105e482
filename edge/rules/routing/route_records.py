"""Encoding of routes as records, for files that outlive the process, for other workers and for Redis.

    record = length u32, CRC-32 of all that follows u32,
             confirmed f64, length of the hostname u16, hostname, the rest as MessagePack

A record has the time at which the core API last confirmed it, in seconds since the epoch: a reader keeps the newest
record of each hostname without decoding the rest, which happens at the first request for that hostname.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from edge.rules.routing.saved_route import SavedRoute

HEADER: Final = b"styx routes 1\n"
"The beginning of a file of records. The number changes with the layout; files with another one are rejected."
_FRAME = struct.Struct("!II")
_HEAD = struct.Struct("!dH")
LONGEST: Final = 2 << 20
"Maximum bytes of one record; a response of the core API has at most half as many."


LARGE: Final = 8 * 1024
"Bytes of a record beyond which it is large: it has eighty backends."
LARGE_EACH: Final = 1024
"""Bytes that large records may have together, for each of `routes.capacity`. Further ones are not stored: they
would fill memory and disk, or push out the records of others."""


class Record(NamedTuple):
    """One record, not yet decoded."""

    hostname: str
    confirmed: float
    data: bytes
    "The whole record, as it is written and sent."


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SavedRoute)


def record_of(hostname: str, confirmed: float, route: SavedRoute) -> Record:
    """Encode a record; about five microseconds for three backends. Raises ValueError for what does not fit:
    integers of more than 64 bits, lone surrogates, a hostname of 64 KiB, more than `LONGEST` bytes."""
    try:
        name = hostname.encode()
        rest = b"%b%b%b" % (_HEAD.pack(confirmed, len(name)), name, _encoder.encode(route))
    except (OverflowError, TypeError, struct.error, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from error
    if len(rest) > LONGEST:
        raise ValueError(f"a record of {len(rest)} bytes, at most {LONGEST}")
    return Record(hostname, confirmed, _FRAME.pack(len(rest), zlib.crc32(rest)) + rest)


def route_in(data: bytes) -> SavedRoute:
    """Decode one whole record. Raises ValueError if it cannot be decoded."""
    try:
        (_, length) = _HEAD.unpack_from(data, _FRAME.size)
        return _decoder.decode(data[_FRAME.size + _HEAD.size + length :])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(f"no record of a route: {error}") from error


class Damaged(ValueError):
    """Raised at the first damaged record: `good` bytes before it are whole records."""

    def __init__(self, good: int, why: str) -> None:
        super().__init__(f"{why} at byte {good}")
        self.good = good


def records(data: bytes, start: int = 0) -> Iterator[Record]:
    """Iterate over the records in these bytes from `start` on, not decoded. Raises Damaged at the first damaged
    one; what follows it cannot be used, because the next beginning is not known."""
    head = _HEAD.size
    for at, begin, after in _frames(data, start):
        confirmed, name = _HEAD.unpack_from(data, begin)
        hostname = data[begin + head : begin + head + name].decode("utf-8", "replace")
        yield Record(hostname, confirmed, data[at:after])


def check(data: bytes, start: int = 0) -> None:
    """Check all records. Raises Damaged at the first damaged one."""
    for _ in _frames(data, start):
        pass


def _frames(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over the records as offsets: of the record, of its content and of its end. For half a million, so it
    must be fast."""
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
    """Return the byte strings that hold whole records and nothing else. A damaged one in a file would hide all
    records that are written after it."""
    good = []
    for data in found:
        try:
            check(data)
        except Damaged:
            continue
        good.append(data)
    return good


def in_batches(found: Sequence[bytes], most: int, size: int) -> Iterator[Sequence[bytes]]:
    """Split records into batches, in order: at most `most` records and `size` bytes each, or a single larger
    record."""
    start = bytes_in = 0
    for at, data in enumerate(found):
        if at > start and (at - start >= most or bytes_in + len(data) > size):
            yield found[start:at]
            start, bytes_in = at, 0
        bytes_in += len(data)
    if start < len(found):
        yield found[start:]


def newest(found: Iterator[Record], into: dict[str, Record]) -> None:
    """Merge records into `into`: the newest of each hostname, ordered by the time of confirmation,
    approximately."""
    for record in found:
        before = into.get(record.hostname)
        if before is None or before.confirmed <= record.confirmed:
            into.pop(record.hostname, None)
            into[record.hostname] = record


def still_useful(records_by_hostname: Mapping[str, Record], now: float, capacity: int) -> list[Record]:
    """Return the records to write again: not removed, not past their lifetime, decodable, and not one large record
    too many; the last `capacity` of them."""
    useful = []
    large = capacity * LARGE_EACH
    for record in records_by_hostname.values():
        if len(record.data) > LARGE and len(record.data) > large:
            continue
        try:
            route = route_in(record.data)
        except ValueError:  # one bad record must not prevent the writing of all others
            continue
        if route.response is not None and route.gone > now:
            useful.append(record)
            large -= len(record.data) if len(record.data) > LARGE else 0
    return useful[-capacity:]
