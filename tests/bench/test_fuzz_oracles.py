"""Each oracle of the fuzzer finds the fault that it is for."""

import pytest

from bench.fuzz.fuzz_client import Received, read_responses
from bench.fuzz.fuzz_oracles import HANG, Fault, judge
from bench.fuzz.fuzz_seeds import MARK, Kind, Message
from bench.fuzz.mutations import Act, Step, Steps
from bench.fuzz.recording_backend import Arrival, echo_of
from bench.fuzz.strict_reader import Payload, State, read_request

CLIENT = "127.1.0.1"
GET = b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a.test\r\nX-Own: 1\r\nContent-Length: 5\r\n\r\nhello"
SEND = Act.SEND


def message(
    data: bytes, kind: Kind = Kind.REQUEST, backend: Steps | None = None, *, plain: bool = False
) -> Message:
    return Message(1, kind, [Step(SEND, data)], backend or [], plain=plain)


def arrival(data: bytes, number: bytes = b"1") -> Arrival:
    return Arrival(number, CLIENT, 1, read_request(data))


def response(
    body: bytes = b"", *, status: bytes = b"200", number: bytes = b"1", more: bytes = b"X-Styx-Backend: b1\r\n"
) -> bytes:
    fields = b"X-Request-Id: %b\r\nX-Styx-Edge: e\r\nContent-Length: %d\r\n" % (number, len(body))
    return b"HTTP/1.1 %b OK\r\n%b%b\r\n%b" % (status, fields, more, body)


def received(data: bytes, *methods: bytes, end: str = "open", seconds: float = 0.1) -> Received:
    responses, fault = read_responses(data, list(methods or [b"GET"]), ended=end == "eof")
    return Received(data, end, seconds, responses, fault)


def kinds(faults: list[Fault]) -> list[str]:
    return [fault.kind for fault in faults]


def test_what_is_right_is_no_fault():
    came = arrival(POST)
    assert judge(message(POST, plain=True), received(response(echo_of(came)), b"POST"), [came]) == []
    assert (
        judge(message(b"GET /\n\n"), received(response(status=b"400", more=b"X-Styx-Error: bad_request\r\n")), [])
        == []
    )
    assert judge(message(GET[:9]), received(b"", end="eof"), []) == []


@pytest.mark.parametrize(
    ("sent", "came", "kind"),
    [
        (POST, GET, "split"),
        (POST + b"x", POST.replace(b"/a", b"/b"), "split"),
        (POST.replace(b"hello", b"GET /"), GET, "split"),
        (GET.replace(b"Host:", b"Host :"), GET, "split"),
        (POST, POST.replace(b"hello", b"hullo"), "body"),
        (POST[:-1], POST, "body"),
        (POST, POST.replace(b"X-Own: 1", b"X-Own: 2"), "field"),
        (POST, POST.replace(b"X-Own: 1", b"X-New: 1"), "field"),
    ],
)
def test_what_nobody_sent_arrives(sent: bytes, came: bytes, kind: str):
    assert kinds(judge(message(sent), received(b"", end="eof"), [arrival(came)])) == [kind]


def test_a_part_of_a_body_may_arrive_but_not_as_the_whole():
    part = arrival(POST)
    part.request.payload = Payload(State.PARTIAL, b"hel")
    assert judge(message(POST), received(b"", end="eof"), [part]) == []
    part.request.payload = Payload(State.PARTIAL, b"elh")
    assert kinds(judge(message(POST), received(b"", end="eof"), [part])) == ["body"]


def test_the_first_of_two_that_differ_in_their_fields_only_does_not_arrive():
    other = POST.replace(b"X-Own: 1", b"X-Own: 2")
    assert judge(message(POST + other), received(b"", end="eof"), [arrival(other)]) == []
    neither = POST.replace(b"X-Own: 1", b"X-Own: 3")
    assert kinds(judge(message(POST + other), received(b"", end="eof"), [arrival(neither)])) == ["field"]


def test_requests_arrive_in_another_order():
    other = GET.replace(b"/a", b"/b")
    came = [arrival(other, b"2"), arrival(GET, b"1")]
    assert kinds(judge(message(GET + other), received(b"", end="eof"), came)) == ["split"]


def test_a_probe_is_a_copy_of_what_was_asked_and_may_be_sent_twice():
    get, post = b"GET /a HTTP/1.1\r\nHost: a\r\n", b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
    probe = b"X-Styx-Probe: 1\r\n\r\n"
    for sent, came, wrong in (
        (get, get, []),
        (get, get.replace(b"/a", b"/b"), ["probe"]),
        (get, get + b"Cookie: b=1\r\n", ["probe"]),
        (post, post, ["probe"]),
    ):
        real = arrival(sent + b"\r\n")
        completed = received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET")
        faults = judge(message(sent + b"\r\n"), completed, [arrival(came + probe), real])
        assert [kind for kind in kinds(faults) if kind == "probe"] == wrong


def test_what_must_not_be_sent_twice_is():
    twice = [arrival(POST), arrival(POST)]
    assert kinds(judge(message(POST), received(b"", end="eof"), twice)) == ["twice"]
    assert judge(message(GET), received(b"", end="eof"), [arrival(GET), arrival(GET)]) == []
    assert kinds(judge(message(GET + POST), received(b"", end="eof"), [arrival(GET), arrival(POST)])) == ["merged"]
    refused = [Step(SEND, b"HTTP/1.1 503 Full\r\nX-Styx-Refused: full\r\nContent-Length: 0\r\n\r\n")]
    assert judge(message(POST, Kind.RESPONSE, refused), received(b"", end="eof"), twice) == []


def test_bytes_come_out_of_a_tunnel_that_did_not_go_in():
    came = arrival(GET)
    came.tunnelled += b"ab"
    assert judge(message(GET + b"abc"), received(b"", end="eof"), [came]) == []
    came.tunnelled += b"d"
    assert kinds(judge(message(GET + b"abc"), received(b"", end="eof"), [came])) == ["tunnel"]


def test_nobody_responds():
    assert kinds(judge(message(GET), received(b"", seconds=HANG), [])) == ["hang"]
    ended = message(GET[:9])
    ended.client.append(Step(Act.HALF_CLOSE))
    assert kinds(judge(ended, received(b"", seconds=HANG), [])) == ["hang"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "stream"),
        (response(b"x" * 10, more=b"X-Styx-Error: bad_request\r\n") * 3, "stream"),
        (b"HTTP/1.1 200 OK\r\nX-Styx-Edge: e\r\nContent-Length: 0\r\n\r\n", "marks"),
        (response(more=b""), "marks"),
        (response(b"the response of somebody else"), "crossed"),
        (response(number=b"2"), "crossed"),
        (response(status=b"404"), "crossed"),
        (response(MARK, more=b"X-Styx-Error: bad_answer\r\n"), "mixed"),
    ],
)
def test_the_client_gets_what_it_must_not(data: bytes, kind: str):
    assert kind in kinds(judge(message(GET), received(data), [arrival(GET)]))


ORIGINAL = b"HTTP/1.1 200 OK\r\nX-Said: 1\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("original", "got", "kind"),
    [
        (ORIGINAL.replace(b"200 OK", b"2OO OK"), response(b"hello"), "passed"),
        (ORIGINAL.replace(b"Length: 5", b"Length: five"), response(b"hello"), "passed"),
        (ORIGINAL, response(b"hello", status=b"201"), "passed"),
        (ORIGINAL, response(b"hullo"), "response"),
        (ORIGINAL, response(b"hell"), "completed"),
        (ORIGINAL[:-1], response(b"hell"), "completed"),
        (ORIGINAL, response(b"hello", more=b"X-Styx-Backend: b1\r\nX-Said: 2\r\n"), "field"),
        (ORIGINAL, response(b"hello", more=b"X-Styx-Backend: b1\r\nX-Said: 1\r\n"), ""),
        (ORIGINAL.replace(b"Content-Length: 5\r\n", b""), response(b"hello"), "completed"),
    ],
)
def test_what_a_backend_says_becomes_something_else(original: bytes, got: bytes, kind: str):
    found = judge(message(GET, Kind.RESPONSE, [Step(SEND, original)]), received(got), [arrival(GET)])
    assert kinds(found) == ([kind] if kind else [])


def test_a_legal_message_does_not_work():
    error = response(status=b"502", more=b"X-Styx-Error: bad_answer\r\n")
    assert kinds(judge(message(GET, plain=True), received(error), [])) == ["legal"]
    assert kinds(judge(message(GET, plain=True), received(b"", end="eof"), [])) == ["legal"]
    assert judge(message(GET), received(error), []) == []


def test_a_client_that_stood_still_itself_was_too_slow():
    late = received(response(status=b"408", more=b"X-Styx-Error: request_timeout\r\n"), end="eof")
    assert kinds(judge(message(GET, plain=True), late, [])) == ["legal"]
    late.dawdled = 1.5
    assert judge(message(GET, plain=True), late, []) == []


def test_a_post_may_meet_a_connection_that_is_closed_just_then():
    cut = response(status=b"502", more=b"X-Styx-Error: closed_early\r\nConnection: close\r\n")
    assert judge(message(POST + GET, plain=True), received(cut, b"POST", end="eof"), []) == []
    assert kinds(judge(message(GET + POST, plain=True), received(cut, end="eof"), [])) == ["legal", "legal"]
    goes_on = cut.replace(b"Connection: close\r\n", b"")
    assert kinds(judge(message(POST + GET, plain=True), received(goes_on, b"POST", end="eof"), [])) == ["legal"]


def test_a_close_counts_as_the_end_of_a_response_only_if_it_is_orderly():
    original = ORIGINAL.replace(b"Content-Length: 5\r\n", b"")
    for end, wanted in ((Act.CLOSE, []), (Act.RESET, ["completed"])):
        steps = [Step(SEND, original), Step(end)]
        assert (
            kinds(judge(message(GET, Kind.RESPONSE, steps), received(response(b"hello")), [arrival(GET)])) == wanted
        )
