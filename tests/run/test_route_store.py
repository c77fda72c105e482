"""The files of routes: bounded, merged, and mended."""

import time

import pytest

from edge.rules.route_records import HEADER, Record, SavedRoute, record_of
from edge.rules.routes import Backend, RouteAnswer
from edge.run import route_store
from edge.run.route_store import RouteStore

NOW = time.time()


def a_record(hostname: str, confirmed: float = NOW, generation: int = 1) -> Record:
    answer = RouteAnswer(hostname, "acme", "live", generation, (Backend("b1", "10.0.0.1", 8000),))
    return record_of(hostname, confirmed, SavedRoute(NOW + 60, NOW + 600, NOW + 9000, None, answer))


@pytest.fixture
def store(tmp_path):
    return RouteStore(tmp_path, capacity=100)


def test_what_is_appended_is_read_in_an_empty_directory_as_well(store):
    assert store.read() == {}
    one, two = a_record("a.test"), a_record("b.test")
    store.append([one.data])
    store.append([two.data])
    assert store.read() == {"a.test": one, "b.test": two}


def test_many_new_records_are_merged_and_the_files_stay_bounded(store, tmp_path, monkeypatch):
    monkeypatch.setattr(route_store, "LEAST_MERGED", 4096)
    largest = 0
    for n in range(1000):
        store.append([a_record(f"host-{n % 300}.test", NOW + n, generation=n).data])
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))
    one = len(a_record("host-100.test").data)
    assert largest < 2 * (100 * one + len(HEADER)) + 4096
    kept = store.read()
    assert {"host-99.test", "host-98.test", "host-97.test"} <= set(kept)
    assert kept["host-99.test"].confirmed == NOW + 999


def test_two_writers_do_not_lose_what_the_other_wrote(store, tmp_path, monkeypatch):
    """While an edge takes over there are two admin processes; a merge of one replaces the file of the other."""
    monkeypatch.setattr(route_store, "LEAST_MERGED", 512)
    other = RouteStore(tmp_path, capacity=100)
    for n in range(40):
        (store if n % 2 else other).append([a_record(f"host-{n}.test").data])
    assert len(store.read()) == 40


@pytest.mark.parametrize("name", ["routes", "routes.new"])
@pytest.mark.parametrize("content", [b"", b"GIF89a", HEADER + b"\xff" * 40, b"styx routes 9\n"])
def test_a_file_that_cannot_be_understood_is_put_right(store, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert store.read() == {}
    store.mend()
    one = a_record("a.test")
    store.append([one.data])
    assert store.read() == {"a.test": one}


def test_what_comes_before_the_damage_is_kept(store, tmp_path):
    one, two = a_record("a.test"), a_record("b.test")
    (tmp_path / "routes.new").write_bytes(HEADER + one.data + two.data[:-1])
    assert store.read() == {"a.test": one}
    store.mend()
    store.append([two.data])
    assert store.read() == {"a.test": one, "b.test": two}
