"""The access log. A thread writes it, so tests wait for bytes in a pipe, or for `close`, which joins the thread."""

import asyncio
import errno
import json
import os
import select

import msgspec
import pytest
from structlog.testing import capture_logs

from edge.admin.log.access_log import BATCH, AccessLog
from edge.admin.log.log_sinks import DATAGRAM, PIPE_BUF
from edge.rules.exchange_records import LOG_CONSTANTS, Attempted, Outcome
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.settings import AccessLogSettings


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_until(done, fd):
    """Read a pipe until `done()`, and then the bytes still in it; or to its end, if the writer closed it."""
    received = b""
    while True:
        last = done()
        if select.select([fd], [], [], 0.01)[0]:
            piece = os.read(fd, 1 << 20)
            if not piece:
                return received
            received += piece
        elif last:
            return received


def access_log(path, **settings):
    """An access log, also with settings that validation rejects, such as a small buffer."""
    return AccessLog(AccessLogSettings.model_construct(path=path, **settings))


async def until(condition):
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110 - the thread sets no event
            await asyncio.sleep(0.002)


@pytest.fixture
def pipe(tmp_path):
    """A FIFO as target, and its reading end; only the test reads from it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, fd
    os.close(fd)


async def test_a_line_has_the_fields_of_the_outcome(tmp_path, outcome):
    path = tmp_path / "access.log"
    log = access_log(str(path))
    log.start()
    refused = Attempted(backend="b1", result=Cause.REFUSED, status=503, connect_ms=0.2, first_byte_ms=1.0)
    log.write(outcome(phase=Phase.CONNECT, blame=Blame.BACKEND, attempts=[refused], status=503))
    log.close()
    [line] = lines(path)
    assert tuple(line) == (*Outcome.__struct_fields__, *LOG_CONSTANTS)
    assert (line["blame"], line["phase"], line["status"]) == ("B", "C", 503)
    assert line["attempts"] == [
        {
            "backend": "b1",
            "result": "refused",
            "status": 503,
            "connect_ms": 0.2,
            "first_byte_ms": 1.0,
        }
    ]
    assert (log.written, log.dropped) == (1, 0)


async def test_nothing_of_a_line_is_left_for_the_next(tmp_path, outcome):
    """Short after long ones, and after some that had to be escaped."""
    path = tmp_path / "access.log"
    log = access_log(str(path))
    log.start()
    targets = ["/", "/" + "x" * 9000, "/a", "/\udcff", "/b", "/\x7f\x9b", "/c", "/" + "y" * (2 * BATCH), "/d"]
    for target in targets:
        log.write(outcome(target=target))
    log.close()
    written = lines(path)
    assert all(tuple(line) == (*Outcome.__struct_fields__, *LOG_CONSTANTS) for line in written)
    assert [line["target"] for line in written] == [t.replace("\udcff", "\\udcff") for t in targets]


async def test_sampling_leaves_out_plain_successes_only(tmp_path, outcome):
    path = tmp_path / "access.log"
    rand = iter([0.24, 0.25, 0.9, 0.0]).__next__
    log = AccessLog(AccessLogSettings(path=str(path), sample_2xx=0.25), rand=rand)
    log.start()
    for name in ("kept", "left out", "left out", "kept"):
        log.write(outcome(id=name))
    log.write(outcome(id="304", status=304))
    log.write(outcome(id="retried", attempts=outcome().attempts * 2))
    log.write(outcome(id="running", ended=False))
    log.write(outcome(id="cut", cause=Cause.TRUNCATED))
    log.close()
    assert [line["id"] for line in lines(path)] == ["kept", "kept", "304", "retried", "running", "cut"]


async def test_the_last_lines_are_written_though_the_buffer_is_full(pipe, outcome):
    """The last lines are of requests that the end of the worker cut off."""
    path, fd = pipe
    log = access_log(str(path), buffer=2 * BATCH + 1024)  # room for one batch, and a little
    log.start()
    while not log.dropped:
        log.write(outcome())
    dropped = log.dropped
    for _ in range(5):
        log.write(outcome(id="the last"))
    log.close(timeout=0.0)
    received = read_until(lambda: not log._log_thread._writer_thread.is_alive(), fd)
    assert received.count(b'"id":"the last"') == 5
    assert received.endswith(b"\n")
    assert log.dropped == dropped


async def test_a_line_can_be_read_back_as_an_outcome(tmp_path, outcome):
    path = tmp_path / "access.log"
    log = access_log(str(path))
    log.start()
    log.write(outcome())
    log.close()
    assert msgspec.json.decode(path.read_bytes(), type=Outcome) == outcome()


async def test_bytes_that_are_not_text_are_written_escaped(tmp_path, outcome):
    path = tmp_path / "access.log"
    log = access_log(str(path))
    log.start()
    log.write(outcome(id="a"))
    log.write(outcome(id="b", target=b"/\xff\n".decode("utf-8", "surrogateescape")))
    log.write(outcome(id="c"))
    log.close()
    assert [line["id"] for line in lines(path)] == ["a", "b", "c"]
    assert lines(path)[1]["target"] == "/\\udcff\n"


@pytest.mark.parametrize("settings", [{}, {"truncate_addresses": True}], ids=["as it is", "changed"])
async def test_the_fields_of_the_record_alone_are_json_as_well(tmp_path, outcome, settings):
    path = tmp_path / "access.log"
    log = access_log(str(path), fields=Outcome.__struct_fields__, **settings)
    log.start()
    log.write(outcome())
    log.write(outcome(target="/caf\xc3\xa9"))
    log.close()
    assert [tuple(line) for line in lines(path)] == [Outcome.__struct_fields__] * 2
    assert lines(path)[1]["target"] == "/café"


async def test_the_timer_flushes(pipe, outcome):
    path, fd = pipe
    log = access_log(str(path), flush_interval=0.001)
    log.start()
    came = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, came.set)
    log.write(outcome())
    await asyncio.wait_for(came.wait(), 100)
    asyncio.get_running_loop().remove_reader(fd)
    assert json.loads(os.read(fd, 1 << 16))["status"] == 200
    log.close()


async def test_a_full_batch_does_not_wait_for_the_timer(pipe, outcome):
    path, fd = pipe
    log = access_log(str(path), flush_interval=3600)
    log.start()
    for _ in range(BATCH // 300):
        log.write(outcome())
    assert select.select([fd], [], [], 10)[0]
    log.close()


async def test_the_smallest_buffer_has_room_for_a_batch_that_its_last_line_filled(tmp_path, outcome):
    path = tmp_path / "access.log"
    log = access_log(str(path), buffer=256 * 1024, flush_interval=3600)
    log.start()
    many = BATCH // 300
    for _ in range(many):
        log.write(outcome())
    log.close()
    assert (log.written, log.dropped) == (many, 0)


async def test_a_stopped_reader_loses_lines_and_does_not_block(pipe, outcome):
    path, fd = pipe
    log = access_log(str(path), buffer=128 * 1024)
    log.start()
    many = 5_000  # some 2.3 MB; the pipe takes 64 KiB, the buffer 128
    for _ in range(many):
        log.write(outcome())
    log.flush()
    assert log.dropped > many / 2

    def settled():
        log.flush()  # the last batch may have found no room
        return log.written + log.dropped == many

    received = read_until(settled, fd)
    log.close()
    kept = [json.loads(line) for line in received.splitlines()]
    assert 0 < len(received) < (128 + 64 + 32 + 4) * 1024
    assert log.written == len(kept) == many - log.dropped


async def test_it_writes_again_when_the_reader_is_back(pipe, outcome):
    path, fd = pipe
    log = access_log(str(path), buffer=0)
    log.start()
    early = 0
    while not log.dropped:
        log.write(outcome(id="early"))
        early += 1
    read_until(lambda: log.written + log.dropped == early, fd)
    log.write(outcome(id="late"))
    log.flush()
    received = read_until(lambda: log.written + log.dropped == early + 1, fd)
    assert json.loads(received)["id"] == "late"
    log.close()


async def test_closing_does_not_wait_for_ever(pipe, outcome):
    path, fd = pipe
    log = access_log(str(path))
    log.start()
    for _ in range(1_000):
        log.write(outcome())
    log.close(timeout=0.01)
    assert log.written < 1_000
    read_until(lambda: log.written == 1_000, fd)  # lets the thread end


async def test_pieces_for_a_pipe_are_whole_lines_and_atomic(pipe, outcome):
    path, _ = pipe
    log = access_log(str(path))
    log.start()
    batch = bytearray(b"".join(b"x" * n + b"\n" for n in (3_000, 1_000, 200, 9_000, 5)))
    pieces = list(log._log_thread.target._pieces(batch))
    assert b"".join(pieces) == batch
    assert [len(piece) for piece in pieces] == [4_002, 201, 9_001, 6]
    assert len(pieces[0]) <= PIPE_BUF
    log.close()


async def test_reopen_follows_a_rotation(tmp_path, outcome):
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    log = access_log(str(path))
    log.start()
    log.write(outcome(id="old"))
    path.rename(rotated)
    log.reopen()
    log.write(outcome(id="new"))
    log.close()
    assert [line["id"] for line in lines(rotated)] == ["old"]
    assert [line["id"] for line in lines(path)] == ["new"]


async def test_a_failed_reopen_keeps_the_old_file(tmp_path, outcome, capsys):
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    log = access_log(str(path))
    log.start()
    folder.rename(tmp_path / "gone")
    log.reopen()
    log.write(outcome())
    log.close()
    assert len(lines(tmp_path / "gone" / "access.log")) == 1
    assert "access_log_not_reopened" in capsys.readouterr().out


async def test_standard_output_is_written_and_stays_open(outcome, capfd):
    log = access_log("-")
    log.start()
    log.write(outcome())
    log.close()
    os.write(1, b"still open\n")
    first, second = capfd.readouterr().out.splitlines()
    assert json.loads(first)["host"] == "live-acme.example.org"
    assert second == "still open"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
async def test_a_full_disk_is_counted(outcome):
    log = access_log("/dev/full")
    log.start()
    log.write(outcome())
    log.write(outcome())
    log.close()
    assert (log.written, log.dropped) == (0, 2)


async def test_a_line_that_was_torn_does_not_spoil_the_next(tmp_path, outcome, monkeypatch):
    path = tmp_path / "access.log"
    log = access_log(str(path))
    log.start()
    full = OSError(errno.ENOSPC, "No space left on device")
    rooms = iter([10, full, full, 1 << 20])  # ten bytes of the first line, nothing of the second

    def write_some(data):
        room = next(rooms)
        if isinstance(room, OSError):
            raise room
        return os.write(target._fd, data[:room])

    target = log._log_thread.target
    monkeypatch.setattr(target, "_write_some", write_some)
    for name in ("torn", "lost", "whole"):
        log.write(outcome(id=name))
        log.flush()
    log.close()
    torn, whole = path.read_text().splitlines()
    assert len(torn) == 10
    assert json.loads(whole)["id"] == "whole"
    assert (log.written, log.dropped) == (1, 2)


async def test_off_writes_nothing(outcome):
    log = access_log("")
    log.start()
    log.write(outcome())
    log.flush()
    log.reopen()
    log.close()
    assert (log.written, log.dropped) == (0, 0)


async def test_an_unusable_target_is_reported_at_the_start(tmp_path):
    log = access_log(str(tmp_path / "missing" / "access.log"))
    with pytest.raises(FileNotFoundError):
        log.start()
    log.close()


async def test_an_unexpected_exception_loses_one_batch_only(tmp_path, outcome):
    """The thread that writes and the timer that flushes both go on."""
    path = tmp_path / "access.log"
    log = access_log(str(path), flush_interval=0.01)
    log.start()
    target, write, faults = log._log_thread.target, log._log_thread.target.write, [ValueError("bad line")]

    def fails_once(batch):
        if faults:
            raise faults.pop()
        return write(batch)

    target.write = fails_once
    with capture_logs() as logged:
        log.write(outcome())
        await until(lambda: log.dropped == 1)
        log.write(outcome())
        await until(lambda: log.written == 1)
    assert [event["log_level"] for event in logged] == ["error", "warning"], (
        "that it fails, and that it works again"
    )
    assert logged[0]["error"] == "ValueError: bad line"
    log.close()
    assert len(lines(path)) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"path": ""},
        {"format": "logfmt"},
        {"format": "combined"},
        {"fields": ("*",)},
        {"fields": ("time", "status")},
        {"sample_2xx": 0.5},
        {"redact_query": ("token",)},
        {"truncate_addresses": True},
        {"request_headers": ("accept",)},
    ],
)
async def test_only_usual_lines_are_written_without_a_record(settings):
    assert AccessLog(AccessLogSettings(**settings), has_usual_lines=True).usual_lines is None
    assert AccessLog(AccessLogSettings(), has_usual_lines=True).usual_lines is not None


async def test_a_line_without_a_record_that_is_too_long_for_the_target_is_refused(tmp_path):
    log = access_log(f"syslog:{tmp_path}/log.sock")
    log.start()
    longest = DATAGRAM - 128
    assert log.write_line("x" * (longest - 1) + "\n")
    assert not log.write_line("x" * longest + "\n")
    log.close()
    assert log.dropped == 1, "nobody listens"


async def test_a_full_batch_of_lines_without_records_does_not_wait_for_the_timer(pipe):
    path, fd = pipe
    log = access_log(str(path), flush_interval=3600.0)
    log.start()
    line = "x" * 999 + "\n"
    for _ in range(BATCH // len(line) + 1):
        assert log.write_line(line)
    received = read_until(lambda: log.written, fd)
    assert received == line.encode() * (BATCH // len(line) + 1)
    log.close()
