"""Each oracle of the fuzzer can fail: a styx that did these things would be found."""

import pytest

from bench.fuzz.fuzz_client import Heard, read_answers
from bench.fuzz.fuzz_oracles import HANG, Fault, judge
from bench.fuzz.fuzz_seeds import MARK, Kind, Message
from bench.fuzz.mutations import Act, Step, Steps
from bench.fuzz.recording_backend import Arrival, told_of
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


def answer(
    body: bytes = b"", *, status: bytes = b"200", number: bytes = b"1", more: bytes = b"X-Styx-Backend: b1\r\n"
) -> bytes:
    fields = b"X-Request-Id: %b\r\nX-Styx-Edge: e\r\nContent-Length: %d\r\n" % (number, len(body))
    return b"HTTP/1.1 %b OK\r\n%b%b\r\n%b" % (status, fields, more, body)


def heard(data: bytes, *methods: bytes, end: str = "open", seconds: float = 0.1) -> Heard:
    answers, fault = read_answers(data, list(methods or [b"GET"]), ended=end == "eof")
    return Heard(data, end, seconds, answers, fault)


def kinds(faults: list[Fault]) -> list[str]:
    return [fault.kind for fault in faults]


def test_what_is_right_is_no_fault():
    came = arrival(POST)
    assert judge(message(POST, plain=True), heard(answer(told_of(came)), b"POST"), [came]) == []
    assert (
        judge(message(b"GET /\n\n"), heard(answer(status=b"400", more=b"X-Styx-Error: bad_request\r\n")), []) == []
    )
    assert judge(message(GET[:9]), heard(b"", end="eof"), []) == []


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
    assert kinds(judge(message(sent), heard(b"", end="eof"), [arrival(came)])) == [kind]


def test_a_part_of_a_body_may_arrive_but_not_as_the_whole():
    part = arrival(POST)
    part.asked.payload = Payload(State.PARTIAL, b"hel")
    assert judge(message(POST), heard(b"", end="eof"), [part]) == []
    part.asked.payload = Payload(State.PARTIAL, b"elh")
    assert kinds(judge(message(POST), heard(b"", end="eof"), [part])) == ["body"]


def test_the_first_of_two_that_differ_in_their_fields_only_does_not_arrive():
    other = POST.replace(b"X-Own: 1", b"X-Own: 2")
    assert judge(message(POST + other), heard(b"", end="eof"), [arrival(other)]) == []
    neither = POST.replace(b"X-Own: 1", b"X-Own: 3")
    assert kinds(judge(message(POST + other), heard(b"", end="eof"), [arrival(neither)])) == ["field"]


def test_requests_arrive_in_another_order():
    other = GET.replace(b"/a", b"/b")
    came = [arrival(other, b"2"), arrival(GET, b"1")]
    assert kinds(judge(message(GET + other), heard(b"", end="eof"), came)) == ["split"]


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
        answered = heard(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET")
        faults = judge(message(sent + b"\r\n"), answered, [arrival(came + probe), real])
        assert [kind for kind in kinds(faults) if kind == "probe"] == wrong


def test_what_must_not_be_said_twice_is():
    twice = [arrival(POST), arrival(POST)]
    assert kinds(judge(message(POST), heard(b"", end="eof"), twice)) == ["twice"]
    assert judge(message(GET), heard(b"", end="eof"), [arrival(GET), arrival(GET)]) == []
    assert kinds(judge(message(GET + POST), heard(b"", end="eof"), [arrival(GET), arrival(POST)])) == ["merged"]
    refused = [Step(SEND, b"HTTP/1.1 503 Full\r\nX-Styx-Refused: full\r\nContent-Length: 0\r\n\r\n")]
    assert judge(message(POST, Kind.ANSWER, refused), heard(b"", end="eof"), twice) == []


def test_bytes_come_out_of_a_tunnel_that_did_not_go_in():
    came = arrival(GET)
    came.tunnelled += b"ab"
    assert judge(message(GET + b"abc"), heard(b"", end="eof"), [came]) == []
    came.tunnelled += b"d"
    assert kinds(judge(message(GET + b"abc"), heard(b"", end="eof"), [came])) == ["tunnel"]


def test_nobody_answers():
    assert kinds(judge(message(GET), heard(b"", seconds=HANG), [])) == ["hang"]
    ended = message(GET[:9])
    ended.client.append(Step(Act.HALF_CLOSE))
    assert kinds(judge(ended, heard(b"", seconds=HANG), [])) == ["hang"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "stream"),
        (answer(b"x" * 10, more=b"X-Styx-Error: bad_request\r\n") * 3, "stream"),
        (b"HTTP/1.1 200 OK\r\nX-Styx-Edge: e\r\nContent-Length: 0\r\n\r\n", "marks"),
        (answer(more=b""), "marks"),
        (answer(b"the answer of somebody else"), "crossed"),
        (answer(number=b"2"), "crossed"),
        (answer(status=b"404"), "crossed"),
        (answer(MARK, more=b"X-Styx-Error: bad_answer\r\n"), "mixed"),
    ],
)
def test_the_client_gets_what_it_must_not(data: bytes, kind: str):
    assert kind in kinds(judge(message(GET), heard(data), [arrival(GET)]))


SAID = b"HTTP/1.1 200 OK\r\nX-Said: 1\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("said", "got", "kind"),
    [
        (SAID.replace(b"200 OK", b"2OO OK"), answer(b"hello"), "passed"),
        (SAID.replace(b"Length: 5", b"Length: five"), answer(b"hello"), "passed"),
        (SAID, answer(b"hello", status=b"201"), "passed"),
        (SAID, answer(b"hullo"), "answer"),
        (SAID, answer(b"hell"), "completed"),
        (SAID[:-1], answer(b"hell"), "completed"),
        (SAID, answer(b"hello", more=b"X-Styx-Backend: b1\r\nX-Said: 2\r\n"), "field"),
        (SAID, answer(b"hello", more=b"X-Styx-Backend: b1\r\nX-Said: 1\r\n"), ""),
        (SAID.replace(b"Content-Length: 5\r\n", b""), answer(b"hello"), "completed"),
    ],
)
def test_what_a_backend_says_becomes_something_else(said: bytes, got: bytes, kind: str):
    found = judge(message(GET, Kind.ANSWER, [Step(SEND, said)]), heard(got), [arrival(GET)])
    assert kinds(found) == ([kind] if kind else [])


def test_a_legal_message_does_not_work():
    error = answer(status=b"502", more=b"X-Styx-Error: bad_answer\r\n")
    assert kinds(judge(message(GET, plain=True), heard(error), [])) == ["legal"]
    assert kinds(judge(message(GET, plain=True), heard(b"", end="eof"), [])) == ["legal"]
    assert judge(message(GET), heard(error), []) == []


def test_a_client_that_stood_still_itself_was_too_slow():
    late = heard(answer(status=b"408", more=b"X-Styx-Error: request_timeout\r\n"), end="eof")
    assert kinds(judge(message(GET, plain=True), late, [])) == ["legal"]
    late.dawdled = 1.5
    assert judge(message(GET, plain=True), late, []) == []


def test_a_post_may_meet_a_connection_that_is_closed_just_then():
    cut = answer(status=b"502", more=b"X-Styx-Error: closed_early\r\nConnection: close\r\n")
    assert judge(message(POST + GET, plain=True), heard(cut, b"POST", end="eof"), []) == []
    assert kinds(judge(message(GET + POST, plain=True), heard(cut, end="eof"), [])) == ["legal", "legal"]
    goes_on = cut.replace(b"Connection: close\r\n", b"")
    assert kinds(judge(message(POST + GET, plain=True), heard(goes_on, b"POST", end="eof"), [])) == ["legal"]


def test_a_close_counts_as_the_end_of_an_answer_only_if_it_is_orderly():
    said = SAID.replace(b"Content-Length: 5\r\n", b"")
    for end, wanted in ((Act.CLOSE, []), (Act.RESET, ["completed"])):
        steps = [Step(SEND, said), Step(end)]
        assert kinds(judge(message(GET, Kind.ANSWER, steps), heard(answer(b"hello")), [arrival(GET)])) == wanted
