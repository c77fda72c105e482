"""The reader of the file of routes: what it takes over when, and what it logs. The clock is virtual."""

import asyncio
import logging
import os

import pytest
import structlog

from edge.rules.settings import Settings
from edge.rules.settings.file import SettingsError
from edge.run.routes.route_file_reader import RouteFileReader
from edge.run.routes.route_set_store import RouteSetStore

TEN = [f"{n}.test" for n in range(10)]
TAKEN_OVER, HELD_BACK = "routes_file_taken_over", "routes_file_held_back"
NOT_USED, UNREADABLE, USABLE = "routes_file_not_used", "routes_file_unreadable", "routes_file_usable"
BROKEN = "routes: [\n"


def text(*hostnames):
    return "routes:\n" + "".join(f"  - {{hostnames: [{h}], maintenance: true}}\n" for h in hostnames)


async def nobody_watches(path, changed, reachable):
    await asyncio.Event().wait()


class Case:
    """A reader that looks when the test calls it."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "here" / "routes.yaml"
        self.path.parent.mkdir()
        self.path.write_text(text(*TEN))
        (tmp_path / "kept").mkdir()
        self.store = RouteSetStore(tmp_path / "kept")
        self.now = 1000.0
        self.published = []
        self.reader = self.new_reader()

    def new_reader(self):
        reader = RouteFileReader(
            self.store, self._publish, clock=lambda: self.now, interval=3600.0, settle=1.0, watch=nobody_watches
        )
        self.reader = reader
        return reader

    async def _publish(self, routes):
        self.published.append(routes)

    async def start(self):
        url = f"file:{self.path}"
        settings = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": url}}
        self.reader.reconfigure(Settings.model_validate(settings))
        async with asyncio.timeout(100):
            while not self.reader.state.looks:  # noqa: ASYNC110  it begins by itself
                await asyncio.sleep(0.001)

    async def look(self, seconds=0.0):
        """Look after so many seconds. Returns the number of hostnames in use."""
        self.now += seconds
        await self.reader.look()
        return self.reader.state.hostnames


@pytest.fixture
async def case(tmp_path):
    case = Case(tmp_path)
    await case.start()
    yield case
    await case.reader.stop()


@pytest.fixture
def logged():
    """The codes of the events since the last call."""
    with structlog.testing.capture_logs() as events:

        def codes():
            found = [event["code"] for event in events if "code" in event]
            events.clear()
            return found

        yield codes


async def test_the_first_content_is_taken_over_and_saved(logged, case):
    assert logged() == [TAKEN_OVER]
    [routes] = case.published
    assert case.store.read(str(case.path)) == routes
    assert case.reader.state.hostnames == 10
    assert await case.look(1) == 10
    assert len(case.published) == 1


async def test_what_is_added_is_taken_over_at_once(logged, case):
    case.path.write_text(text(*TEN, "new.test"))
    assert await case.look() == 11
    assert case.published[1].version > case.published[0].version
    assert logged() == [TAKEN_OVER] * 2


async def test_another_content_with_the_same_routes_is_not_published(logged, case):
    case.path.write_text("# a comment\n" + text(*reversed(TEN)))
    assert await case.look() == 10
    assert len(case.published) == 1
    assert logged() == [TAKEN_OVER]


async def test_a_hostname_that_is_gone_is_removed_after_settle(logged, case):
    case.path.write_text(text(*TEN[1:]))
    assert await case.look() == 10
    assert await case.look(0.9) == 10
    assert await case.look(0.1) == 9
    assert logged() == [TAKEN_OVER] * 2


async def test_an_emptied_file_is_logged_once_and_taken_over_after_the_hold(logged, case):
    case.path.write_text("")
    assert await case.look() == 10
    assert logged() == [TAKEN_OVER]
    assert await case.look(1.0) == 10
    assert logged() == [HELD_BACK]
    assert case.reader.state.held_back == 10
    for _ in range(28):
        assert await case.look(1.0) == 10
    assert logged() == []
    assert await case.look(1.0) == 0
    assert logged() == [TAKEN_OVER]
    assert case.reader.state.held_back == 0


async def test_a_file_that_is_empty_for_a_moment_is_not_logged(logged, case):
    for _ in range(10):
        case.path.write_text("")
        assert await case.look(0.15) == 10
        case.path.write_text(text(*TEN))
        assert await case.look(0.15) == 10
    assert logged() == [TAKEN_OVER]
    assert len(case.published) == 1


async def test_a_reload_takes_over_what_is_held_back_and_reports_the_changes(logged, case):
    case.path.write_text(text(*TEN[:2], "new.test"))
    assert await case.look() == 10
    assert await case.reader.take_now() == (True, ["file of routes: 1 hostnames added, 8 removed, 0 changed"])
    assert case.reader.state.hostnames == 3
    assert await case.reader.take_now() == (True, [])
    case.path.write_text("{}")
    assert await case.reader.take_now() == (True, ["file of routes: 0 hostnames added, 3 removed, 0 changed"])
    assert logged() == [TAKEN_OVER] * 3


async def test_a_reload_of_a_broken_file_reports_its_faults(logged, case):
    case.path.write_text(BROKEN)
    done, words = await case.reader.take_now()
    assert not done
    assert words == [
        f"{case.path}:2:1: not valid YAML: while parsing a flow node, did not find expected node content"
    ]
    assert logged() == [TAKEN_OVER, NOT_USED]
    assert case.reader.state.hostnames == 10


@pytest.mark.parametrize("how", ["broken", "binary", "gone", "directory", "pipe", "no descriptor"])
async def test_trouble_changes_nothing_and_is_logged_once_and_when_it_is_over(logged, case, how):
    good, code = case.path.read_text(), UNREADABLE
    case.path.unlink()
    match how:
        case "broken":
            case.path.write_text(BROKEN)
            code = NOT_USED
        case "binary":
            case.path.write_bytes(b"\xff\xfe")
        case "directory":
            case.path.mkdir()
        case "pipe":
            os.mkfifo(case.path)
        case "no descriptor":
            case.path.symlink_to(case.path)  # ELOOP: as little to be had as with EMFILE, at open(2) as well
    assert await case.look() == 10
    assert not case.reader.state.good
    assert logged() == [TAKEN_OVER], "it may be written just now"
    for _ in range(3):
        assert await case.look(1.0) == 10
    assert logged() == [code]
    if how == "directory":
        case.path.rmdir()
    else:
        case.path.unlink(missing_ok=True)
    case.path.write_text(good + text("new.test").partition("\n")[2])
    assert await case.look(1.0) == 11
    assert case.reader.state.good
    assert logged() == [USABLE, TAKEN_OVER]


async def test_the_hold_begins_again_when_hostnames_come_back(logged, case):
    """Nothing is taken over at 30 s, because at 20 s the file was empty."""
    case.path.write_text("")
    await case.look()
    case.path.write_text(BROKEN)
    assert await case.look(20.0) == 10
    case.path.write_text("")
    assert await case.look(1.0) == 10
    assert await case.look(29.0) == 10
    assert await case.look(1.0) == 0


async def test_a_content_of_the_same_length_in_the_same_moment_is_seen(case, monkeypatch):
    """The clock of a file system may tick every ten milliseconds: then only the content differs."""
    case.path.write_text(text(*TEN, "a.test"))
    same = case.path.stat()
    monkeypatch.setattr("edge.run.routes.route_file_on_disk.os.fstat", lambda descriptor: same)
    assert await case.look() == 11
    case.path.write_text(text(*TEN, "b.test"))
    await case.look()
    await case.look(1.0)
    assert len(case.published) == 3


async def test_an_old_file_is_not_read_again_and_again(case, monkeypatch):
    long_ago = 10**18
    os.utime(case.path, ns=(long_ago, long_ago))
    monkeypatch.setattr("edge.run.routes.route_file_on_disk.time.time_ns", lambda: 2 * 10**18)
    await case.look()
    read = []
    monkeypatch.setattr("edge.run.routes.route_file_on_disk.digest_of", lambda data: read.append(data) or b"")
    await case.look()
    assert not read
    os.utime(case.path)
    await case.look()
    assert len(read) == 1


async def test_a_successor_uses_saved_routes_while_the_file_is_broken(logged, case):
    case.path.write_text(BROKEN)
    await case.reader.stop()
    case.published.clear()
    case.new_reader()
    await case.start()
    assert len(case.published) == 1
    assert case.reader.state.hostnames == 10
    case.path.write_text(text(*TEN))
    await case.look()
    assert len(case.published) == 1, "the same again"
    assert logged() == [TAKEN_OVER]


async def test_a_successor_holds_back_what_its_predecessor_held_back(case):
    case.path.write_text("")
    await case.look(29.0)
    await case.reader.stop()
    case.new_reader()
    await case.start()
    assert await case.look(5.0) == 10


async def test_a_failed_save_is_logged_once_and_tried_again(logged, case, tmp_path):
    (tmp_path / "kept").rename(tmp_path / "away")
    case.path.write_text(text(*TEN, "new.test"))
    assert await case.look() == 11
    await case.look(1.0)
    assert logged() == [TAKEN_OVER, TAKEN_OVER, "routes_table_not_saved"]
    (tmp_path / "away").rename(tmp_path / "kept")
    await case.look(1.0)
    assert case.store.read(str(case.path)) == case.published[1]


async def test_many_faults_are_truncated(case, caplog):
    with structlog.testing.capture_logs() as events:
        case.path.write_text(text(*(f"a..{n}" for n in range(25))))
        await case.look()
        await case.look(1.0)
    [event] = events
    assert (len(event["faults"]), event["more"]) == (10, 15)
    assert logging.getLevelName(event["log_level"].upper()) == logging.ERROR


async def test_without_a_file_nothing_is_read(tmp_path):
    case = Case(tmp_path)
    settings = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:1"}}
    case.reader.reconfigure(Settings.model_validate(settings))
    assert await case.reader.take_now() == (True, [])
    assert not case.reader.state.is_read


# read once, at a start and for a reload


@pytest.mark.parametrize("what", ["pipe", "device", "directory"])
def test_only_a_regular_file_is_read_at_a_start(tmp_path, what):
    """A pipe without a writer would block the process, and a device have no end."""
    path = "/dev/zero" if what == "device" else str(tmp_path / "routes.yaml")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        os.mkdir(path)
    with pytest.raises(OSError, match="it is no regular file"):
        RouteFileReader.read_now(path)


def test_no_more_than_the_limit_is_read_at_a_start(tmp_path):
    path = tmp_path / "routes.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte without a block on disk
    with pytest.raises(SettingsError, match="larger than 64 MiB"):
        RouteFileReader.read_now(str(path))
