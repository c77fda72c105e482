"""Ten seconds of the fuzzer against a real styx; the long run is `python -m bench fuzz`."""

import tempfile
from pathlib import Path

import msgspec
import pytest

from bench.fuzz import fuzz
from bench.fuzz.fuzz_seeds import Kind, Message
from bench.fuzz.mutations import Act, Step


@pytest.mark.long
async def test_nothing_is_found_among_mutated_messages():
    report = await fuzz.run(fuzz.FuzzPlan(seconds=10, seed=20, connections=16))
    assert report.good, report.text()
    # Much less than what a machine does that has nothing else to do.
    assert report.sent > 50, report.text()
    assert report.arrived > 50, report.text()
    assert report.honest > 20, report.text()
    assert {"request", "response", "tunnel"} <= set(report.messages)


async def test_one_message_from_a_file_is_sent_again_and_again(tmp_path: Path):
    request = b"POST /f HTTP/1.1\r\nHost: fuzz.test\r\nContent-Length: 5\r\n\r\nhello"
    message = Message(7, Kind.REQUEST, [Step(Act.SEND, request)], [], plain=True)
    file = tmp_path / "message.json"
    file.write_bytes(msgspec.json.encode(message))
    report = await fuzz.run(fuzz.FuzzPlan(seconds=1, seed=1, connections=2, replay=file))
    assert report.good, report.text()
    assert set(report.messages) == {"request"}
    assert set(report.statuses) <= {"200", "201"}
    assert report.arrived >= report.sent > 10


async def test_a_finding_is_reported_with_the_way_to_see_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # styx responds to each legal request: a message that calls itself plain and leaves at once is found.
    request = b"GET /f HTTP/1.1\r\nHost: fuzz.test\r\n\r\n"
    message = Message(7, Kind.REQUEST, [Step(Act.SEND, request), Step(Act.RESET)], [], plain=True)
    file = tmp_path / "message.json"
    file.write_bytes(msgspec.json.encode(message))
    report = await fuzz.run(fuzz.FuzzPlan(seconds=1, seed=1, connections=2, replay=file))
    assert not report.good
    assert set(report.found) == {"legal"}
    kept = report.findings[0].file.rpartition(" ")[2]
    again = await fuzz.run(fuzz.FuzzPlan(seconds=1, seed=1, connections=2, replay=Path(kept)))
    assert set(again.found) == {"legal"}
    assert kept in report.text()
