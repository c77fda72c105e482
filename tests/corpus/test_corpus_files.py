"""The corpus is loaded strictly, cut as promised, and what is wrong with a message is noticed."""

from pathlib import Path

import pytest

from tests.corpus.corpus_files import Case, CorpusError, load_corpus
from tests.corpus.corpus_verdicts import Edge, wrong_refusal, wrong_request, wrong_response
from tests.support.recorder import GO_ON, USUAL, Recorder, usual
from tests.support.strict_reader import read_request, read_response

HEAD = "rule: r\nsource: s\n"
SENT = b"GET /a?b HTTP/1.1\r\nHost: shop.test\r\nX-A: 1\r\nX-B: 2\r\n\r\n"
ARRIVED = (
    b"GET /a?b HTTP/1.1\r\nHost: shop.test\r\nX-A: 1\r\nX-B: 2\r\nVia: 1.1 styx\r\nX-Forwarded-For: 192.0.2.7\r\n"
    b"X-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Host: shop.test\r\n"
    b"X-Request-Id: 1\r\nX-Styx-Backend: b0\r\nX-Styx-Attempt: 1\r\n\r\n"
)


def load(tmp_path: Path, text: str, kind: str = "request") -> list[Case]:
    (tmp_path / f"{kind}s").mkdir()
    (tmp_path / f"{kind}s" / "a.yaml").write_text(HEAD + text, "utf-8")
    return load_corpus(directory=tmp_path)


def test_a_case(tmp_path):
    text = 'hostile:\n- {name: n, bytes: ["a\\r\\n\\xff", {repeat: "xy", times: 100}, "\\x00"], before: 2}\n'
    [case] = load(tmp_path, text)
    assert (case.name, case.file, case.kind, case.hostile) == ("n", "requests/a", "request", True)
    assert case.data == b"a\r\n\xff" + b"xy" * 100 + b"\x00"
    assert (case.status, case.before) == (400, 2)
    assert set(case.cuts) >= {1, 2, 3, 4, 5, 6, 203, 204}
    assert 12 < len(case.cuts) < 30
    assert b"".join(case.single_bytes) == case.data


def test_a_short_case_is_cut_everywhere(tmp_path):
    [case] = load(tmp_path, "legal:\n- {name: n, bytes: [abc, {repeat: d, times: 3}]}\n", "response")
    assert case.cuts == [1, 2, 3, 4, 5]
    assert case.single_bytes == [b"a", b"b", b"c", b"d", b"d", b"d"]
    assert case.status is None


@pytest.mark.parametrize(
    "text",
    [
        "legal:\n- {name: n, bytes: a, colour: red}\n",
        "legal:\n- {name: n, bytes: a, before: 1}\n",
        "hostile:\n- {name: n, bytes: a, target: /}\n",
        "legal:\n- {name: n}\n",
        "legal:\n- {bytes: a}\n",
        "legal:\n- {name: n, bytes: a}\n- {name: n, bytes: b}\n",
        "legal:\n- {name: n, bytes: a}\nhostile:\n- {name: n, bytes: b}\n",
        "legal:\n- {name: n, bytes: a, bytes: b}\n",
        "legal:\n- {name: n, bytes: [{repeat: a}]}\n",
        "legal:\n- {name: n, bytes: a, arrives: {X-A: null}}\n",
        "lawful:\n- {name: n, bytes: a}\n",
        "legal: []\nlegal: []\n",
    ],
)
def test_mistakes_in_a_file(tmp_path, monkeypatch, text):
    with pytest.raises(CorpusError):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"GET", b"get"),
        (b"/a?b", b"/a?B"),
        (b"X-A: 1\r\n", b""),
        (b"X-A: 1\r\n", b"x-a: 1\r\n"),
        (b"X-A: 1\r\nX-B: 2\r\n", b"X-B: 2\r\nX-A: 1\r\n"),
        (b"X-B: 2", b"X-B: 2\r\nX-C: 3"),
        (b"Host: shop.test", b"Host: shop.test:80"),
        (b"1.1 styx", b"1.1 other"),
        (b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-For: 127.0.0.1"),
        (b"X-Styx-Attempt: 1", b"X-Styx-Attempt: 2"),
        (b"Via", b"Connection: x\r\nVia"),
        (b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\na"),
    ],
)
def test_what_is_altered_is_noticed(before, after):
    sent, arrived = read_request(SENT)[0], read_request(ARRIVED)[0]
    assert not list(wrong_request(sent, arrived, None, Edge()))
    altered = read_request(ARRIVED.replace(before, after))[0]
    assert list(wrong_request(sent, altered, None, Edge()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"200", b"201"),
        (b"X-A: 1\r\n", b""),
        (b"ok", b"no"),
        (b"edge-1", b"e"),
        (b": b0", b": b1"),
        (b"Date", b"X"),
    ],
)
def test_what_is_altered_in_a_response_is_noticed(before, after):
    ours = b"X-Styx-Edge: edge-1\r\nX-Styx-Backend: b0\r\nX-Request-Id: 1\r\nDate: now\r\n"
    said = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok"
    got = said.replace(b"X-A: 1\r\n", b"X-A: 1\r\n" + ours)
    case = load_corpus("response")[0]
    plain = Case(name="", file="", kind="response", hostile=False, data=said, status=None)
    request, response = read_request(case.request)[0], read_response(said)[0]
    assert not list(wrong_response(response, read_response(got)[0], plain, request, Edge()))
    assert list(wrong_response(response, read_response(got.replace(before, after))[0], plain, request, Edge()))


def test_a_refusal_says_why():
    refusal = (
        b"HTTP/1.1 400 Bad Request\r\nX-Styx-Error: bad_request\r\nCache-Control: no-store\r\nX-Request-Id: 1\r\n"
    )
    refusal += b"X-Styx-Edge: edge-1\r\nContent-Length: 0\r\n\r\n"
    assert not list(wrong_refusal(read_response(refusal)[0], 400, "", Edge()))
    assert list(wrong_refusal(read_response(refusal)[0], 431, "", Edge()))
    assert list(wrong_refusal(read_response(refusal)[0], 400, "empty_host", Edge()))
    assert list(wrong_refusal(read_response(refusal.replace(b"bad_request", b"other"))[0], 400, "", Edge()))


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_the_recorder_tells_requests_apart(step):
    said: list[bytes] = []
    recorder = Recorder(said.append, usual)
    body = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    data = SENT + body + b"abc" + SENT + b"smuggled"
    for at in range(0, len(data), step):
        recorder.feed(data[at : at + step])
    assert [message.body for message in recorder.got] == [b"", b"abc", b""]
    assert b"".join(recorder.raw) + recorder.rest == data
    assert said.count(USUAL) == 3
    assert said.count(GO_ON) == (step < 1000)
    assert not recorder.fault, "it may still become one"
    recorder.feed(b"\r\n\r\n")
    assert recorder.fault
