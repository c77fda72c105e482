"""The files of saved routes: bounded, merged, and repaired."""

import fcntl
import resource
import struct
import time
import zlib

import pytest

from edge.rules.routing.route_records import HEADER, Record, record_of
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.saved_route import SavedRoute
from edge.run.routes.route_store import RouteStore

NOW = time.time()


def a_record(hostname: str, confirmed: float = NOW, generation: int = 1, site: str = "acme") -> Record:
    response = RouteResponse(hostname, site, "live", generation, (Backend("b1", "10.0.0.1", 8000),))
    return record_of(hostname, confirmed, SavedRoute(NOW + 60, NOW + 600, NOW + 9000, None, response))


@pytest.fixture
def store(tmp_path):
    return RouteStore(tmp_path, capacity=100)


def test_what_is_appended_is_read_in_an_empty_directory_as_well(store):
    assert store.read() == {}
    one, two = a_record("a.test"), a_record("b.test")
    store.append([one.data])
    store.append([two.data])
    assert store.read() == {"a.test": one, "b.test": two}


def test_many_new_records_are_merged_and_the_files_stay_bounded(tmp_path):
    store = RouteStore(tmp_path, capacity=100, least_merged=4096)
    largest = 0
    for n in range(1000):
        store.append([a_record(f"host-{n % 300}.test", NOW + n, generation=n).data])
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))
    one = len(a_record("host-100.test").data)
    assert largest < 2 * (100 * one + len(HEADER)) + 4096
    kept = store.read()
    assert {"host-99.test", "host-98.test", "host-97.test"} <= set(kept)
    assert kept["host-99.test"].confirmed == NOW + 999


def test_two_writers_do_not_lose_what_the_other_wrote(tmp_path):
    """While an edge takes over there are two admin processes; a merge of one replaces the file of the other."""
    store, other = (RouteStore(tmp_path, capacity=100, least_merged=512) for _ in range(2))
    for n in range(40):
        (store if n % 2 else other).append([a_record(f"host-{n}.test").data])
    assert len(store.read()) == 40


@pytest.mark.parametrize("name", ["routes", "routes.new"])
@pytest.mark.parametrize("content", [b"", b"GIF89a", HEADER + b"\xff" * 40, b"styx routes 9\n"])
def test_a_file_that_cannot_be_decoded_is_repaired(store, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert store.read() == {}
    store.mend()
    one = a_record("a.test")
    store.append([one.data])
    assert store.read() == {"a.test": one}


def test_records_before_the_damage_survive(store, tmp_path):
    one, two = a_record("a.test"), a_record("b.test")
    (tmp_path / "routes.new").write_bytes(HEADER + one.data + two.data[:-1])
    assert store.read() == {"a.test": one}
    store.mend()
    store.append([two.data])
    assert store.read() == {"a.test": one, "b.test": two}


@pytest.fixture
def elsewhere(tmp_path):
    """A file of ours with records, outside the directory of routes."""
    path = tmp_path / "elsewhere"
    path.write_bytes(HEADER + a_record("elsewhere.test").data)
    return path


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "routes").mkdir()
    return tmp_path / "routes"


def test_no_link_is_followed(directory, elsewhere, tmp_path):
    """Neither to read, nor to write, nor to create its target."""
    before = elsewhere.read_bytes()
    for name in ("routes", "routes.new"):
        (directory / name).symlink_to(elsewhere)
    for name in ("routes.lock", "routes.coming"):
        (directory / name).symlink_to(tmp_path / "made")
    store = RouteStore(directory, capacity=100)
    assert store.read() == {}
    store.mend()
    one = a_record("a.test")
    store.append([one.data])
    assert store.read() == {"a.test": one}
    assert elsewhere.read_bytes() == before
    assert not (tmp_path / "made").exists()


def test_a_file_with_another_name_is_replaced_and_not_written_on(directory, elsewhere):
    """Its content is used: the file is ours, and a backup may have linked it."""
    before = elsewhere.read_bytes()
    (directory / "routes.new").hardlink_to(elsewhere)
    store, one = RouteStore(directory, capacity=100), a_record("a.test")
    store.append([one.data])
    assert set(store.read()) == {"a.test", "elsewhere.test"}
    assert elsewhere.read_bytes() == before


def test_a_write_that_fails_leaves_no_half_record(directory):
    """The disk is full in the middle of a record: what is written later can be read."""
    store, one, two = RouteStore(directory, capacity=100), a_record("a.test"), a_record("b.test")
    store.append([one.data])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((directory / "routes.new").stat().st_size + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.append([a_record("lost.test").data])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.append([two.data])
    assert store.read() == {"a.test": one, "b.test": two}


def test_a_held_lock_times_out(directory):
    """A process that may open it could hold it for ever: so no other user may."""
    store = RouteStore(directory, capacity=100, lock_timeout=0.05)
    (directory / "routes.lock").touch(0o666)
    store.append([a_record("a.test").data])
    assert (directory / "routes.lock").stat().st_mode & 0o777 == 0o600
    with (directory / "routes.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"another process has held it for 0\.05 s"):
            store.append([a_record("b.test").data])
    store.append([a_record("c.test").data])
    assert set(store.read()) == {"a.test", "c.test"}


def test_a_record_that_cannot_be_decoded_does_not_keep_others_from_being_merged(directory):
    """Its checksum is right, so it was written so: perhaps by another version."""
    store = RouteStore(directory, capacity=100, least_merged=0)
    rest = struct.pack("!dH", NOW, 8) + b"bad.test" + b"\xc1 no MessagePack"
    bad = struct.pack("!II", len(rest), zlib.crc32(rest)) + rest
    one = a_record("a.test")
    store.append([bad, one.data])
    assert (directory / "routes").read_bytes() == HEADER + one.data
    assert not (directory / "routes.new").exists()
