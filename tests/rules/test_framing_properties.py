"""Random bodies: the edge and an independent parser agree on each of them, with any split.

The reader is `tests/support/strict_reader.py`, which shares no code with `edge/rules`. Where the edge is stricter
it may refuse what the reader takes; it must never take what the reader refuses, nor find another end.
"""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.http.framing import (
    BadBody,
    BadResponse,
    Body,
    ChunkedBody,
    FieldValues,
    Framing,
    LengthBody,
    RejectedRequest,
    request_framing,
    response_framing,
)
from edge.rules.settings import LimitSettings
from tests.support.strict_reader import TCHAR, Message, Unfinished, Unreadable, chunks, framing

LIMITS = LimitSettings()
steadily = settings(max_examples=40, deadline=None, derandomize=True, database=None)
thoroughly = settings(max_examples=300, deadline=None, derandomize=True, database=None)
BROKEN, UNFINISHED = "broken", "unfinished"
Read = tuple[bytes, list[tuple[bytes, bytes]], bytes] | str
"Payload, trailers, what follows; or why there is none."

names = st.text("".join(map(chr, TCHAR)), min_size=1, max_size=8).map(str.encode)
texts = st.text("".join(map(chr, [9, *range(0x20, 0x7F), *range(0x80, 0x100)])), max_size=12)
values = texts.map(lambda text: text.strip(" \t").encode("latin-1"))
blanks = st.text(" \t", max_size=2).map(str.encode)


@st.composite
def extensions(draw: st.DrawFn) -> bytes:
    """Chunk extensions (RFC 9112, section 7.1.1), with blanks where they are allowed."""
    line = b""
    for name in draw(st.lists(names, max_size=2)):
        line += b";" + draw(blanks) + name
        if draw(st.booleans()):
            quoted = draw(values).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            line += draw(blanks) + b"=" + draw(blanks) + draw(st.one_of(names, st.just(b'"%b"' % quoted)))
    return line


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """A body as it is sent, its payload, and its trailers."""
    wire = b""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    for piece in [*pieces, b""]:
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"%016X"])) % len(piece)
        wire += size + draw(extensions()) + b"\r\n" + (piece + b"\r\n" if piece else b"")
    trailers = draw(st.lists(st.tuples(names.map(lambda name: b"x-" + name), values), max_size=3))
    wire += b"".join(name + b":" + draw(blanks) + value + draw(blanks) + b"\r\n" for name, value in trailers)
    return wire + b"\r\n", b"".join(pieces), trailers


@st.composite
def many_small_chunks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body of mostly small chunks, whose data looks like framing now and then, and its payload."""
    like_framing = st.lists(st.sampled_from([b"\r\n", b"1\r\nx\r\n", b"0\r\n\r\n", b"\r", b"\n", b"f"]), min_size=1)
    pieces = draw(
        st.lists(
            st.one_of(
                st.integers(1, 300).map(lambda size: b"a" * size),
                st.binary(min_size=1, max_size=20),
                like_framing.map(b"".join).map(lambda data: data[:300]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    sizes = st.sampled_from([b"%x", b"%x", b"%X", b"0%x", b"%04x", b"%x;a"])
    wire = b"".join(b"%b\r\n%b\r\n" % (draw(sizes) % len(piece), piece) for piece in pieces)
    return wire + b"0\r\n\r\n", b"".join(pieces)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces."""
    at = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)))
    return [data[a:b] for a, b in pairwise([0, *at, len(data)])]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a few bytes changed, lost or doubled; mostly to those that mean something."""
    meaning = st.sampled_from([bytes([byte]) for byte in b'\r\n \t;:=,"\\0123aAfFxX+-_\x00\x0b\x7f\x80\xff'])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.integers(0, 2))
        put = draw(st.one_of(st.just(b""), meaning, st.just(b"\r\n"), st.just(data[at : at + 5])))
        data = data[:at] + put + data[end:]
    return data


def read(body: Body, pieces: list[bytes]) -> Read:
    """The result of the edge."""
    payload, rest = b"", b""
    try:
        for piece in pieces:
            got, after = body.feed(piece) if not body.done else ([], piece)
            payload += b"".join(got)
            rest += after
    except BadBody:
        return BROKEN
    stripped = [(name, value.strip(b" \t")) for name, value in body.trailers]
    return (payload, stripped, rest) if body.done else UNFINISHED


def reread(data: bytes) -> Read:
    """The result of the other parser."""
    try:
        payload, trailers, end = chunks(data, 0)
    except Unreadable:
        return BROKEN
    except Unfinished:
        return UNFINISHED
    return payload, list(trailers), data[end:]


@steadily
@given(data=st.data(), body=chunked_bodies(), tail=st.binary(max_size=30))
def test_any_split_of_a_chunked_body_is_the_same_body(data, body, tail):
    wire, payload, trailers = body
    pieces = data.draw(cuts(wire + tail))
    assert read(ChunkedBody(LIMITS), pieces) == (payload, trailers, tail)
    assert reread(wire + tail) == (payload, trailers, tail)


@steadily
@given(data=st.data(), body=chunked_bodies(), tail=st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n"]))
def test_a_damaged_body_has_no_second_reading(data, body, tail):
    """The result is the same whole or in pieces; what the edge accepts, the other parser reads alike."""
    wire = data.draw(damaged(body[0])) + tail
    whole = read(ChunkedBody(LIMITS), [wire])
    assert read(ChunkedBody(LIMITS), data.draw(cuts(wire))) == whole
    assert read(ChunkedBody(LIMITS), [wire[at : at + 1] for at in range(len(wire))]) == whole
    if whole not in (BROKEN, UNFINISHED):
        assert reread(wire) == whole
    if reread(wire) == BROKEN:
        assert whole != UNFINISHED or not wire.endswith(b"\r\n\r\n"), "it cannot get better"


@thoroughly
@given(
    data=st.data(), body=many_small_chunks(), tail=st.sampled_from([b"", b"1\r\nx\r\n", b"GET / HTTP/1.1\r\n\r\n"])
)
def test_small_chunks_that_are_read_together_are_the_same_chunks(data, body, tail):
    wire, payload = body
    assert read(ChunkedBody(LIMITS), [wire + tail]) == (payload, [], tail)
    assert read(ChunkedBody(LIMITS), data.draw(cuts(wire + tail))) == (payload, [], tail)


@thoroughly
@given(data=st.data(), body=many_small_chunks())
def test_a_damaged_small_chunk_is_found(data, body):
    wire = data.draw(damaged(body[0]))
    whole = read(ChunkedBody(LIMITS), [wire])
    assert read(ChunkedBody(LIMITS), [wire[at : at + 1] for at in range(len(wire))]) == whole
    if whole not in (BROKEN, UNFINISHED):
        assert reread(wire) == whole


@steadily
@given(data=st.data(), body=st.binary(max_size=60), tail=st.binary(max_size=30))
def test_any_split_of_a_body_of_known_length(data, body, tail):
    assert read(LengthBody(len(body)), data.draw(cuts(body + tail)) or [b""]) == (body, [], tail)


lengths = st.lists(st.sampled_from([b"0", b"3", b"03", b"+3", b"", b"3,3", b"3 3", b"0x3", b"9" * 17]), max_size=2)
spellings = [b"chunked", b"CHUNKED", b"gzip, chunked", b"chunked, chunked", b"identity", b"", b"\x0bchunked"]
codings = st.lists(st.sampled_from(spellings), max_size=2)


def found(length_values: list[bytes], coding_values: list[bytes]) -> FieldValues:
    both = {b"content-length": length_values, b"transfer-encoding": coding_values}
    return {name: values for name, values in both.items() if values}


def other_framing(fields: FieldValues, version: bytes) -> tuple[Framing, int] | None:
    lines = tuple((name, value) for name, values in fields.items() for value in values)
    try:
        length, chunked = framing(Message((b"", b"", version), lines), version)
    except Unreadable:
        return None
    return (Framing.CHUNKED, 0) if chunked else (Framing.NONE if length is None else Framing.LENGTH, length or 0)


@steadily
@given(lengths, codings, st.sampled_from([0, 1]))
def test_one_framing_or_none(length_values, coding_values, minor):
    """Two parsers of the same fields come to the same framing, or both reject them."""
    fields = found(length_values, coding_values)
    opinion = other_framing(fields, b"HTTP/1.%d" % minor)
    if opinion is None:
        with pytest.raises(RejectedRequest):
            request_framing(fields, minor)
        with pytest.raises(BadResponse):
            response_framing(fields, status=200, minor=minor, to_head=False)
        return
    assert request_framing(fields, minor) == opinion
    to_a_response = (Framing.CLOSE, 0) if opinion[0] is Framing.NONE else opinion
    assert response_framing(fields, status=200, minor=minor, to_head=False) == to_a_response
