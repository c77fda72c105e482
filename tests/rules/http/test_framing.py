"""Message framing: lengths and codings, rejected heads, and the chunked decoder with any split of its input."""

import gc
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.rules.http.framing import (
    MAX_CHUNK_LINE,
    MAX_EXTENSIONS,
    MAX_PIECES,
    MAX_SMALL,
    NO_BODY,
    BadBody,
    BadResponse,
    Body,
    ChunkedBody,
    CloseBody,
    FieldValues,
    Framing,
    LengthBody,
    RejectedRequest,
    body_of,
    request_framing,
    response_framing,
)
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

quickly = settings(max_examples=50, deadline=None)

LIMITS = LimitSettings(request_line=1024, field=1024, head=4096, fields=50)
BROKEN = "broken"
UNFINISHED = "unfinished"


def lengths(*values: bytes) -> FieldValues:
    return {b"content-length": list(values)}


def codings(*values: bytes) -> FieldValues:
    return {b"transfer-encoding": list(values)}


def read(body: Body, pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """Payload, what follows the body, and whether it ended."""
    payload, rest = b"", b""
    for piece in pieces:
        got, after = body.feed(piece)
        payload += b"".join(got)
        rest += after
    return payload, rest, body.done


def dechunk(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | str:
    try:
        return read(ChunkedBody(LIMITS), pieces)
    except ValueError:
        return BROKEN


def verdict(data: bytes) -> str:
    """The result of the chunked decoder for these bytes, the same for several splits."""
    verdicts = set()
    for dripping in (0, 300):  # bytes at the end that come one by one
        start = max(0, len(data) - dripping)
        result = dechunk([data[:start], *(data[at : at + 1] for at in range(start, len(data)))])
        verdicts.add(result if isinstance(result, str) else "done" if result[2] else UNFINISHED)
    (only,) = verdicts
    return only


def chunk(payload: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(payload), extension, payload)


# Requests


@pytest.mark.parametrize(
    ("found", "minor", "framing"),
    [
        pytest.param({}, 1, (Framing.NONE, 0), id="no framing field"),
        pytest.param({}, 0, (Framing.NONE, 0), id="no field in 1.0"),
        pytest.param(lengths(b"0"), 1, (Framing.LENGTH, 0), id="length zero"),
        pytest.param(lengths(b"42"), 1, (Framing.LENGTH, 42), id="length"),
        pytest.param(lengths(b"42"), 0, (Framing.LENGTH, 42), id="length in 1.0"),
        pytest.param(lengths(b"0042"), 1, (Framing.LENGTH, 42), id="leading zeros are decimal"),
        pytest.param(lengths(b"9" * 16), 1, (Framing.LENGTH, 10**16 - 1), id="sixteen digits"),
        pytest.param(codings(b"chunked"), 1, (Framing.CHUNKED, 0), id="chunked"),
        pytest.param(codings(b"Chunked"), 1, (Framing.CHUNKED, 0), id="chunked in any case"),
    ],
)
def test_request_framing(found: FieldValues, minor: int, framing: tuple[Framing, int]) -> None:
    assert request_framing(found, minor) == framing


@pytest.mark.parametrize(
    ("found", "minor", "cause"),
    [
        pytest.param(lengths(b"3") | codings(b"chunked"), 1, Cause.BAD_REQUEST, id="both"),
        pytest.param(lengths(b"3", b"3"), 1, Cause.BAD_REQUEST, id="twice the same length"),
        pytest.param(lengths(b"3", b"4"), 1, Cause.BAD_REQUEST, id="two lengths"),
        pytest.param(lengths(b"3, 3"), 1, Cause.BAD_REQUEST, id="a list of lengths"),
        pytest.param(lengths(b""), 1, Cause.BAD_REQUEST, id="empty length"),
        pytest.param(lengths(b"+3"), 1, Cause.BAD_REQUEST, id="plus"),
        pytest.param(lengths(b"-3"), 1, Cause.BAD_REQUEST, id="minus"),
        pytest.param(lengths(b"3 "), 1, Cause.BAD_REQUEST, id="blank"),
        pytest.param(lengths(b"3\n"), 1, Cause.BAD_REQUEST, id="line feed"),
        pytest.param(lengths(b"0x3"), 1, Cause.BAD_REQUEST, id="hexadecimal"),
        pytest.param(lengths(b"1_0"), 1, Cause.BAD_REQUEST, id="what int() would take"),
        pytest.param(lengths("٣".encode()), 1, Cause.BAD_REQUEST, id="digits of another script"),
        pytest.param(lengths(b"1" * 17), 1, Cause.BAD_REQUEST, id="seventeen digits"),
        pytest.param(codings(b"chunked"), 0, Cause.BAD_REQUEST, id="coding in 1.0"),
        pytest.param(codings(b"gzip, chunked"), 1, Cause.NOT_IMPLEMENTED, id="gzip, chunked"),
        pytest.param(codings(b"chunked, chunked"), 1, Cause.BAD_REQUEST, id="chunked, chunked"),
        pytest.param(codings(b"chunked", b"chunked"), 1, Cause.BAD_REQUEST, id="chunked twice"),
        pytest.param(codings(b"identity"), 1, Cause.BAD_REQUEST, id="identity"),
        pytest.param(codings(b"xchunked"), 1, Cause.BAD_REQUEST, id="xchunked"),
        pytest.param(codings(b"\x0bchunked"), 1, Cause.BAD_REQUEST, id="vertical tab"),
        pytest.param(codings(b""), 1, Cause.BAD_REQUEST, id="empty coding"),
    ],
)
def test_requests_with_ambiguous_framing_are_rejected(found: FieldValues, minor: int, cause: Cause) -> None:
    with pytest.raises(RejectedRequest) as refusal:
        request_framing(found, minor)
    assert refusal.value.cause is cause


# Answers


@pytest.mark.parametrize(
    ("found", "status", "minor", "to_head", "framing"),
    [
        pytest.param(lengths(b"5"), 200, 1, False, (Framing.LENGTH, 5), id="length"),
        pytest.param(lengths(b"0"), 200, 1, False, (Framing.LENGTH, 0), id="length zero"),
        pytest.param(codings(b"CHUNKED"), 200, 1, False, (Framing.CHUNKED, 0), id="chunked"),
        pytest.param({}, 200, 1, False, (Framing.CLOSE, 0), id="until it closes"),
        pytest.param({}, 200, 0, False, (Framing.CLOSE, 0), id="until it closes, 1.0"),
        pytest.param(lengths(b"5"), 200, 1, True, (Framing.NONE, 5), id="to HEAD, length kept"),
        pytest.param(codings(b"chunked"), 200, 1, True, (Framing.NONE, 0), id="to HEAD, chunked"),
        pytest.param({}, 200, 1, True, (Framing.NONE, 0), id="to HEAD, no framing field"),
        pytest.param({}, 204, 1, False, (Framing.NONE, 0), id="204"),
        pytest.param(lengths(b"5"), 304, 1, False, (Framing.NONE, 5), id="304 tells of another body"),
        pytest.param(codings(b"chunked"), 304, 1, False, (Framing.NONE, 0), id="304 chunked"),
        pytest.param({}, 103, 1, False, (Framing.NONE, 0), id="interim"),
        pytest.param({}, 205, 1, False, (Framing.CLOSE, 0), id="205 is like any other"),
    ],
)
def test_response_framing(
    found: FieldValues, status: int, minor: int, to_head: bool, framing: tuple[Framing, int]
) -> None:
    assert response_framing(found, status=status, minor=minor, to_head=to_head) == framing


@pytest.mark.parametrize(
    ("found", "minor"),
    [
        pytest.param(lengths(b"5") | codings(b"chunked"), 1, id="both"),
        pytest.param(lengths(b"5", b"5"), 1, id="twice the same length"),
        pytest.param(lengths(b"5, 5"), 1, id="a list of lengths"),
        pytest.param(lengths(b"x"), 1, id="no number"),
        pytest.param(codings(b"gzip, chunked"), 1, id="gzip, chunked"),
        pytest.param(codings(b"chunked", b"chunked"), 1, id="chunked twice"),
        pytest.param(codings(b"identity"), 1, id="identity"),
        pytest.param(codings(b"chunked"), 0, id="coding in 1.0"),
    ],
)
def test_responses_with_ambiguous_framing_are_rejected(found: FieldValues, minor: int) -> None:
    with pytest.raises(BadResponse):
        response_framing(found, status=200, minor=minor, to_head=False)


def test_conflicting_lengths_are_rejected_even_in_a_response_without_body() -> None:
    with pytest.raises(BadResponse):
        response_framing(lengths(b"5") | codings(b"chunked"), status=304, minor=1, to_head=True)


@pytest.mark.parametrize(
    ("framing", "length", "kind"),
    [
        (Framing.CHUNKED, 0, ChunkedBody),
        (Framing.CLOSE, 0, CloseBody),
        (Framing.LENGTH, 5, LengthBody),
        (Framing.LENGTH, 0, LengthBody),
        (Framing.NONE, 5, LengthBody),
    ],
)
def test_body_of(framing: Framing, length: int, kind: type) -> None:
    body = body_of(framing, length, LIMITS)
    assert type(body) is kind
    assert (body is NO_BODY) == (framing is Framing.NONE or (framing is Framing.LENGTH and not length))


# Bodies


def test_a_body_of_a_length_ends_there() -> None:
    body = LengthBody(5)
    assert body.feed(b"he") == ([b"he"], b"")
    assert not body.done
    assert body.feed(b"lloGET /") == ([b"llo"], b"GET /")
    assert body.done


def test_a_body_of_a_length_may_end_with_its_piece() -> None:
    body = LengthBody(5)
    assert body.feed(b"hello") == ([b"hello"], b"")
    assert body.done


def test_no_body_leaves_all_bytes_unread() -> None:
    assert NO_BODY.done
    assert NO_BODY.feed(b"GET /") == ([], b"GET /")
    assert NO_BODY.done


def test_a_body_until_close_takes_everything_and_never_ends() -> None:
    assert read(CloseBody(), [b"one", b"two"]) == (b"onetwo", b"", False)


@pytest.mark.parametrize(
    ("data", "payload", "rest"),
    [
        pytest.param(b"0\r\n\r\n", b"", b"", id="empty"),
        pytest.param(b"3\r\nabc\r\n0\r\n\r\n", b"abc", b"", id="one chunk"),
        pytest.param(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", b"", id="two chunks"),
        pytest.param(b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789", b"", id="capital digit, double zero"),
        pytest.param(b"0000000000000003\r\nabc\r\n0\r\n\r\n", b"abc", b"", id="sixteen digits"),
        pytest.param(b"3;a=b\r\nabc\r\n0;c\r\n\r\n", b"abc", b"", id="extensions are dropped"),
        pytest.param(b"3\r\n\r\n\r\r\n0\r\n\r\n", b"\r\n\r", b"", id="line ends as payload"),
        pytest.param(b"0\r\nA: b\r\nC:\r\n\r\n", b"", b"", id="trailers are no payload"),
        pytest.param(b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n", b"x", b"GET / HTTP/1.1\r\n", id="next request"),
        pytest.param(b"0\r\n\r\n\r\n", b"", b"\r\n", id="a blank line too many is not ours"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 7, 4096])
def test_chunked(data: bytes, payload: bytes, rest: bytes, step: int) -> None:
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert dechunk(pieces) == (payload, rest, True)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\r\n", id="empty size"),
        pytest.param(b"+3\r\nabc\r\n", id="plus"),
        pytest.param(b"-3\r\nabc\r\n", id="minus"),
        pytest.param(b" 3\r\nabc\r\n", id="blank before"),
        pytest.param(b"3 \r\nabc\r\n", id="blank after"),
        pytest.param(b"3 ;a\r\nabc\r\n", id="blank before an extension"),
        pytest.param(b"0x3\r\nabc\r\n", id="0x"),
        pytest.param(b"1_0\r\n0123456789abcdef\r\n", id="what int() would take"),
        pytest.param(b"g\r\n", id="not a digit"),
        pytest.param(b"0" * 16 + b"3\r\nabc\r\n", id="seventeen digits"),
        pytest.param(b";a\r\n", id="extension without size"),
        pytest.param(b"3\nabc\r\n0\r\n\r\n", id="bare LF after the size"),
        pytest.param(b"3;\nabc\r\n0\r\n\r\n", id="bare LF in an extension (CVE-2025-22871)"),
        pytest.param(b"3\rabc\r\n", id="bare CR after the size"),
        pytest.param(b"3;a\x00b\r\nabc\r\n", id="NUL in an extension"),
        pytest.param(b"3;" + b"a" * MAX_CHUNK_LINE + b"\r\nabc\r\n", id="long extension"),
        pytest.param(b"3;" + b"a" * MAX_CHUNK_LINE, id="long extension without end"),
        pytest.param(b"3\r\nabcd\r\n", id="data longer than its size"),
        pytest.param(b"3\r\nabc0\r\n\r\n", id="no CRLF after the data"),
        pytest.param(b"3\r\nabc\n0\r\n\r\n", id="bare LF after the data"),
        pytest.param(b"3\r\nabc\rX", id="bare CR after the data"),
        pytest.param(b"0\r\nno colon\r\n\r\n", id="trailer without colon"),
        pytest.param(b"0\r\n: x\r\n\r\n", id="trailer without name"),
        pytest.param(b"0\r\nA : x\r\n\r\n", id="blank before the colon"),
        pytest.param(b"0\r\n folded: x\r\n\r\n", id="folded trailer"),
        pytest.param(b"0\r\nA: b\nC: d\r\n\r\n", id="bare LF in a trailer"),
        pytest.param(b"0\r\nA: " + b"b" * 1024 + b"\r\n\r\n", id="one long trailer"),
        pytest.param(b"0\r\n" + b"A: b\r\n" * 51 + b"\r\n", id="many trailers"),
        pytest.param(b"0\r\n" + (b"A: " + b"b" * 1000 + b"\r\n") * 5 + b"\r\n", id="large trailers"),
        pytest.param(b"0\r\n" + b"b" * 1026, id="trailers without end"),
        pytest.param(b"0\r\nContent-Length: 5\r\n\r\n", id="a length behind the body"),
        pytest.param(b"0\r\ntransfer-ENCODING: chunked\r\n\r\n", id="a coding behind the body"),
        pytest.param(b"0\r\nHost: evil.test\r\n\r\n", id="a host behind the body"),
        pytest.param(b"3;\r\nabc\r\n", id="an extension without name"),
        pytest.param(b"3;a=\r\nabc\r\n", id="an extension without the value it announces"),
        pytest.param(b"3;a \r\nabc\r\n", id="blank at the end of an extension"),
        pytest.param(b'3;a="b\r\nabc\r\n', id="a quote without end"),
        pytest.param((b"1;" + b"e" * 200 + b"\r\nx\r\n") * (MAX_EXTENSIONS // 201 + 1), id="many extensions"),
    ],
)
def test_malformed_chunks_are_rejected_with_any_split(data: bytes) -> None:
    assert verdict(data) == BROKEN


@pytest.mark.parametrize(
    ("over", "expected"), [pytest.param(0, "done", id="at the limit"), pytest.param(1, BROKEN, id="one over")]
)
def test_limits_of_lines_are_exact(over: int, expected: str) -> None:
    size = b"1;" + b"a" * (MAX_CHUNK_LINE - 2 + over)
    assert verdict(size + b"\r\nx\r\n0\r\n\r\n") == expected
    trailer = b"A:" + b"b" * (LIMITS.field - 2 + over)
    assert verdict(b"0\r\n" + trailer + b"\r\n\r\n") == expected
    assert verdict(b"0\r\n" + b"A: b\r\n" * (LIMITS.fields + over) + b"\r\n") == expected


chunks = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=40), st.sampled_from([b"", b"; a", b';a=b;c = "d\\""', b";" + b"e" * 60])
    ).map(lambda c: chunk(*c)),
    max_size=4,
).map(b"".join)
trailers = st.lists(st.sampled_from([b"A: b\r\n", b"X-Sum:\r\n"]), max_size=3).map(b"".join)
well_formed = st.builds(
    lambda body, trailer, rest: body + b"0\r\n" + trailer + b"\r\n" + rest, chunks, trailers, st.binary(max_size=20)
)
damaged = st.builds(
    lambda data, at, noise: data[: at % len(data)] + noise + data[at % len(data) + 1 :],
    well_formed,
    st.integers(0, 300),
    st.sampled_from([b"", b"\n", b"\r", b" ", b"\r\n", b"0", b";", b"g", b"\x00"]),
)


@quickly
@given(data=well_formed | damaged, cuts=st.lists(st.integers(0, 300), max_size=8))
@example(data=b"1;" + b"a" * (MAX_CHUNK_LINE - 2) + b"\r\nx\r\n0\r\n\r\n", cuts=[MAX_CHUNK_LINE + 1])
def test_any_split_of_the_input_gives_the_same_body(data: bytes, cuts: list[int]) -> None:
    marks = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole = dechunk([data])
    assert dechunk([data[a:b] for a, b in pairwise(marks)]) == whole
    assert dechunk([data[at : at + 1] for at in range(len(data))]) == whole


@quickly
@given(payloads=st.lists(st.binary(min_size=1, max_size=40), max_size=5), rest=st.binary(max_size=20))
def test_decoding_gives_the_encoded_payload(payloads: list[bytes], rest: bytes) -> None:
    wire = b"".join(map(chunk, payloads)) + b"0\r\n\r\n" + rest
    assert dechunk([wire]) == (b"".join(payloads), rest, True)


def test_trailers_are_complete_when_the_body_is_done() -> None:
    body = ChunkedBody(LIMITS)
    body.feed(b"0\r\nX-Sum: 1 \r\nx-sum:2\r\n")
    assert not body.trailers
    body.feed(b"\r\n")
    assert body.trailers == [(b"X-Sum", b"1 "), (b"x-sum", b"2")]


def test_too_large_and_malformed_trailers_have_different_causes() -> None:
    for data, cause in (
        (b"0\r\nA:" + b"b" * LIMITS.field, Cause.HEADERS_TOO_LARGE),
        (b"0\r\n" + b"A:b\r\n" * (LIMITS.fields + 1), Cause.HEADERS_TOO_LARGE),
        (b"0\r\nA\r\n", Cause.BAD_REQUEST),
        (b"x\r\n", Cause.BAD_REQUEST),
    ):
        with pytest.raises(BadBody) as broken:
            ChunkedBody(LIMITS).feed(data)
        assert broken.value.cause is cause


# Many chunks


def bytes_per_call(data: bytes) -> list[int]:
    """Bytes read by each call of `feed`."""
    body, read = ChunkedBody(LIMITS), []
    while data:
        before = len(data)
        _, data = body.feed(data)
        read.append(before - len(data))
    return read


@pytest.mark.parametrize(
    "data",
    [chunk(b"x"), chunk(b"\r"), chunk(b"x") + chunk(b"\r\n"), chunk(b"x" * 200), chunk(b"x", b";a")],
    ids=["plain", "cr", "mixed", "200 bytes", "extension"],
)
def test_one_call_reads_a_bounded_number_of_bytes(data: bytes) -> None:
    read = bytes_per_call(data * 4000)
    assert max(read) <= max(2 * MAX_SMALL, MAX_PIECES * len(data))
    assert sum(read) == 4000 * len(data)


def test_large_chunks_are_not_copied_together() -> None:
    pieces, rest = ChunkedBody(LIMITS).feed(chunk(b"x" * 300) * 50)
    assert [len(piece) for piece in pieces] == [300] * 50
    assert not rest


@pytest.mark.parametrize("data", [b"x", b"\r", b"y" * 15, b"\r\n" * 7, b"z" * 200], ids=repr)
def test_small_chunks_are_decoded_together(data: bytes) -> None:
    """All but the first one, for most bodies have only one. One by one they take three to ten times as long."""
    pieces, rest = ChunkedBody(LIMITS).feed(chunk(data) * 50)
    assert pieces == [data, data * 49]
    assert not rest


@pytest.mark.parametrize("line", [b"5", b"05", b"000000000000005", b"0000000000000005", b"5;a"])
def test_all_ways_to_write_a_size(line: bytes) -> None:
    """Up to fifteen digits are read without the expression that reads the others."""
    assert ChunkedBody(LIMITS).feed(line + b"\r\nhello\r\n0\r\n\r\nrest") == ([b"hello"], b"rest")


@pytest.mark.parametrize("size", [9, 10, 15, 16, 0xAF, 0xFA9])
def test_sizes_in_either_case(size: int) -> None:
    data = bytes(size)
    for line in (b"%x" % size, b"%X" % size):
        assert ChunkedBody(LIMITS).feed(line + b"\r\n" + data + b"\r\n") == ([data], b"")


@pytest.mark.parametrize("digits", [15, 16])
def test_the_largest_sizes(digits: int) -> None:
    body = ChunkedBody(LIMITS)
    assert body.feed(b"f" * digits + b"\r\nhello") == ([b"hello"], b"")
    assert not body.done


def test_each_byte_of_a_size_is_judged() -> None:
    for byte in range(256):
        for line in (b"%c" % byte, b"1%c1" % byte):
            body = ChunkedBody(LIMITS)
            if byte in b"0123456789abcdefABCDEF" or line == b"1;1":  # an extension
                body.feed(line + b"\r\n")
            else:
                with pytest.raises(BadBody):
                    body.feed(line + b"\r\n")


@pytest.mark.parametrize("data", [b"", b"5\r\nab", b"2\r\nab", b"0\r\nX: ", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n"])
def test_a_chunked_body_leaves_no_cycle_of_references(data):
    """In whatever state it is given up, its memory is free at once."""
    gc.collect()
    gc.disable()
    try:
        read(ChunkedBody(LIMITS), [data])
        assert not any(type(found) is ChunkedBody for found in gc.get_objects())
    finally:
        gc.enable()
