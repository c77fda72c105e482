"""The last good routes of a file on disk."""

import pytest

from edge.rules.route_sets.route_set import NO_ROUTES, route_set
from edge.rules.route_sets.route_set_records import Destination
from edge.run.routes.route_set_store import RouteSetStore


def a_set(version, source="/etc/routes.yaml"):
    named = [(("a.test",), Destination("acme", "live", (), True, None))]
    return route_set(named, NO_ROUTES, version=version, source=source, digest=b"")[0]


def test_the_last_one_that_was_written_is_read(tmp_path):
    store = RouteSetStore(tmp_path)
    assert store.read("/etc/routes.yaml") is None
    for version in (1, 2):
        store.write(a_set(version))
    assert RouteSetStore(tmp_path).read("/etc/routes.yaml") == a_set(2)
    assert {path.name for path in tmp_path.iterdir()} == {"routes.table", "routes.lock"}


def test_one_of_another_file_is_none(tmp_path):
    RouteSetStore(tmp_path).write(a_set(1, "/etc/other.yaml"))
    assert RouteSetStore(tmp_path).read("/etc/routes.yaml") is None


def test_what_is_kept_goes_before_what_it_was_given_at_first(tmp_path):
    store = RouteSetStore(tmp_path, a_set(1))
    assert store.read("/etc/routes.yaml") == a_set(1)
    assert store.read("/etc/other.yaml") is None
    store.write(a_set(2))
    assert store.read("/etc/routes.yaml") == a_set(2)


@pytest.mark.parametrize("content", [b"GIF89a", b"styx route set 1\n\0\0"])
def test_one_that_cannot_be_used_is_told(tmp_path, content, capsys):
    (tmp_path / "routes.table").write_bytes(content)
    assert RouteSetStore(tmp_path, a_set(1)).read("/etc/routes.yaml") == a_set(1)
    assert "routes_table_unreadable" in capsys.readouterr().out


def test_one_that_is_cut_off_while_it_is_written_does_not_hold(tmp_path, monkeypatch):
    store = RouteSetStore(tmp_path)
    store.write(a_set(1))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.run.files.careful_files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(a_set(2))
    assert store.read("/etc/routes.yaml") == a_set(1)
