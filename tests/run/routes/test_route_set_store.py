"""The last good routes of a pushed source, saved on disk."""

import pytest

from edge.rules.route_sets.route_set import NO_ROUTES, route_set
from edge.rules.route_sets.route_set_records import Destination
from edge.run.routes.route_set_store import RouteSetStore


def a_set(version, source="/etc/routes.yaml"):
    named = [(("a.test",), Destination("acme", "live", (), True, None))]
    return route_set(named, NO_ROUTES, version=version, source=source, digest=b"")[0]


def test_the_last_written_set_is_read(tmp_path):
    store = RouteSetStore(tmp_path)
    assert store.read("/etc/routes.yaml") is None
    for version in (1, 2):
        store.write(a_set(version))
    assert RouteSetStore(tmp_path).read("/etc/routes.yaml") == a_set(2)
    assert {path.name for path in tmp_path.iterdir()} == {"routes.table", "routes.lock"}


def test_routes_of_another_source_are_ignored(tmp_path):
    RouteSetStore(tmp_path).write(a_set(1, "/etc/other.yaml"))
    assert RouteSetStore(tmp_path).read("/etc/routes.yaml") is None


def test_saved_routes_go_before_the_first_ones(tmp_path):
    store = RouteSetStore(tmp_path, a_set(1))
    assert store.read("/etc/routes.yaml") == a_set(1)
    assert store.read("/etc/other.yaml") is None
    store.write(a_set(2))
    assert store.read("/etc/routes.yaml") == a_set(2)


@pytest.mark.parametrize("content", [b"GIF89a", b"styx route set 1\n\0\0"])
def test_a_file_that_cannot_be_used_is_logged(tmp_path, content, capsys):
    (tmp_path / "routes.table").write_bytes(content)
    assert RouteSetStore(tmp_path, a_set(1)).read("/etc/routes.yaml") == a_set(1)
    assert "routes_table_unreadable" in capsys.readouterr().out


def test_an_incomplete_write_changes_nothing(tmp_path, monkeypatch):
    store = RouteSetStore(tmp_path)
    store.write(a_set(1))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.run.files.careful_files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(a_set(2))
    assert store.read("/etc/routes.yaml") == a_set(1)
