"""Judgements of a change stream, from what was read of it."""

from edge.rules.core_api.change_judgement import (
    StreamReading,
    events_in,
    judged_resumption,
    judged_stream,
    judged_unknown_id,
    last_id_in,
)
from edge.rules.core_api.contract_findings import ContractFinding

EVENT = b'id: 7-1\nevent: invalidate\ndata: {"hostname": "a.example"}\n\n'
ALL = b'id: 7-2\nevent: invalidate\ndata: {"all": true}\n\n'
BEAT = b": heartbeat\n\n"


def reading(*pieces: tuple[float, bytes], seconds: float = 12.0, ended: bool = False) -> StreamReading:
    return StreamReading(200, "text/event-stream", pieces, seconds, ended)


def told(found: list[ContractFinding]) -> list[str]:
    return [f"{finding.severity.value} {finding.check}" for finding in found]


def test_a_living_stream() -> None:
    assert told(judged_stream(reading((0.0, BEAT), (5.0, EVENT), (10.0, BEAT)))) == ["ok changes"]
    assert told(judged_stream(StreamReading(404))) == ["note changes"]


def test_responses_that_are_no_stream() -> None:
    assert told(judged_stream(StreamReading(error="no head"))) == ["fault changes"]
    assert told(judged_stream(StreamReading(500))) == ["fault changes"]
    assert told(judged_stream(StreamReading(200, "application/json"))) == ["fault changes_type"]


def test_silence_is_judged_by_the_longest() -> None:
    assert told(judged_stream(reading((0.0, BEAT), (9.0, BEAT), seconds=9.0))) == ["ok changes"]
    assert told(judged_stream(reading((0.0, BEAT), seconds=15.0))) == ["warning changes_silence"]
    assert told(judged_stream(reading((0.0, BEAT), seconds=31.0))) == ["fault changes_silence"]
    assert told(judged_stream(reading(seconds=31.0))) == ["fault changes_silence"]
    assert told(judged_stream(reading(seconds=3.0))) == ["note changes_silence"]


def test_a_stream_that_ends() -> None:
    assert told(judged_stream(reading((0.0, BEAT), seconds=1.0, ended=True))) == ["warning changes_end"]


def test_events_are_understood() -> None:
    for data, check in (
        (b'event: invalidate\ndata: {"all": true}\n\n', "changes_id"),
        (b'id: 1\nevent: changed\ndata: {"all": true}\n\n', "changes_event"),
        (b'id: 1\nevent: invalidate\ndata: {"host": "a"}\n\n', "changes_event"),
        (b"id: 1\nevent: invalidate\ndata: a.example\n\n", "changes_event"),
    ):
        assert told(judged_stream(reading((0.0, data)))) == ["warning changes_silence", f"warning {check}"], data
    assert told(judged_stream(reading((0.0, b"data: " + b"x" * 70_000 + b"\n\n"))))[-1] == "fault changes_event"


def test_events_that_come_in_pieces_with_any_line_ends() -> None:
    text = EVENT.replace(b"\n", b"\r\n") + BEAT + ALL
    found = events_in(reading(*((0.1 * n, text[n : n + 1]) for n in range(len(text)))))
    assert [(event.id, event.name) for event in found] == [("7-1", "invalidate"), ("7-2", "invalidate")]
    assert events_in(reading((0.0, EVENT[:-1]))) == []


def test_an_unknown_id_must_not_be_accepted_in_silence() -> None:
    assert told(judged_unknown_id(reading((0.0, BEAT), (0.1, ALL)))) == ["ok changes_gap"]
    assert told(judged_unknown_id(reading((0.0, BEAT)))) == ["fault changes_gap"]
    assert told(judged_unknown_id(reading((0.0, EVENT)))) == ["fault changes_gap"]
    assert told(judged_unknown_id(StreamReading(500))) == ["fault changes"]


def test_resumption() -> None:
    assert told(judged_resumption(reading((0.0, BEAT)), "7-1")) == ["ok changes_resume"]
    assert told(judged_resumption(reading((0.0, ALL)), "7-1")) == ["fault changes_resume"]
    assert told(judged_resumption(reading((0.0, EVENT)), "7-1")) == ["warning changes_resume"]
    assert told(judged_resumption(StreamReading(404), "7-1")) == ["fault changes"]
    assert last_id_in(reading((0.0, EVENT)), reading((0.0, ALL))) == "7-2"
    assert last_id_in(reading((0.0, BEAT))) == ""
