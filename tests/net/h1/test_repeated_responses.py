"""A response whose head comes again on its connection is what it would be as the first one."""

import pytest

from edge.net.h1.h1_backend import H1Backend
from edge.rules.http.head_validation import HeadValidator
from edge.rules.outcomes import Cause
from edge.rules.settings import ForwardingSettings, LimitSettings
from tests.net.h1.test_long_reads import Recorder, attached

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def responses(*received: list[bytes], to_head: bool = False) -> tuple[list[object], list[bytes]]:
    """What comes of these responses, each in these pieces, to requests one after the other on one connection."""
    backend, recorder, _ = attached()
    for pieces in received:
        hand(backend, recorder, pieces, to_head=to_head)
    return recorder.calls, recorder.pieces


def hand(backend: H1Backend, recorder: Recorder, pieces: list[bytes], *, to_head: bool) -> None:
    backend.attach(recorder, to_head=to_head)  # type: ignore[arg-type]
    for piece in pieces:
        backend.data_received(piece)
    backend.release()


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"ok"],
        [HEAD, b"ok"],
        [HEAD[:9], HEAD[9:] + b"ok"],
        [HEAD[:-1], HEAD[-1:] + b"ok"],
        [HEAD + b"o", b"k"],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"ok"],
        [CHUNKED + b"2\r\nok\r\n0\r\n\r\n"],
        [CHUNKED + b"x"],
        [HEAD.replace(b": 2", b": 3") + b"ok!"],
        [HEAD[:-2] + b"X-A: b\r\n\r\nok"],
    ],
    ids=repr,
)
@pytest.mark.parametrize("before", [HEAD + b"no", CHUNKED + b"0\r\n\r\n"], ids=repr)
async def test_it_comes_to_the_same(before: bytes, pieces: list[bytes]) -> None:
    calls, body = responses([before], pieces)
    first_calls, first_body = responses([before])
    alone_calls, alone_body = responses(pieces)
    assert (calls, body) == (first_calls + alone_calls, first_body + alone_body)


async def test_a_response_to_a_head_request_has_no_body_though_its_head_comes_again() -> None:
    backend, recorder, _ = attached()
    for to_head in (False, True, False):
        hand(backend, recorder, [HEAD if to_head else HEAD + b"ok"], to_head=to_head)
    assert [call[-1] for call in recorder.calls] == [True, True, True]
    assert b"".join(recorder.pieces) == b"okok"
    assert backend.reusable


async def test_a_head_that_comes_again_is_validated_by_the_limits_of_now() -> None:
    backend, recorder, _ = attached()
    hand(backend, recorder, [HEAD + b"ok"], to_head=False)
    recorder.calls.clear()
    backend._head_reader.reconfigure(HeadValidator(LimitSettings(response_fields=1), ForwardingSettings()))
    hand(backend, recorder, [HEAD + b"ok"], to_head=False)
    assert recorder.calls == [("lost", Cause.RESPONSE_TOO_LARGE)]
