"""With `user:` set, a master that runs as root touches nothing by its path in a directory of another user.

That user has planted links, hard links and FIFOs where styx has its files: no other file changes its owner, its
content or its place by it, and the edge serves all the same.
"""

import os
import pwd
import stat

import pytest

from edge.rules.routing.route_records import HEADER
from edge.rules.settings import Settings
from edge.run.files.careful_files import FILES
from edge.run.preflight import Finding, findings_of
from edge.run.routes.route_directory import HANDED_OVER, RouteDirectories, prepare_directory
from edge.run.routes.route_store import RouteStore
from edge.run.sockets.listening_sockets import Spare, open_sockets
from tests.run.routes.test_route_store import a_record
from tests.run.test_reload import change, reload
from tests.support.processes.edges import Kept, edge

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
NOBODY = pwd.getpwnam("nobody").pw_uid
CONTENT = "known to root only"


@pytest.fixture
def secret(open_path):
    """A file that only root may read."""
    path = open_path / "secret"
    path.write_text(CONTENT)
    path.chmod(0o600)
    return path


def is_untouched(secret):
    found = secret.stat()
    return (found.st_uid, stat.S_IMODE(found.st_mode), secret.read_text()) == (0, 0o600, CONTENT)


def settings(directory="", **changes):
    return Settings.model_validate(
        {
            "listeners": ({"address": "127.0.0.1:0"},),
            "admin": {"address": "127.0.0.1:0"},
            "core_api": {"url": "http://127.0.0.1:9"},
            "user": "nobody",
            "routes": {"directory": str(directory)},
            **changes,
        }
    )


def plant(kind, place, secret):
    """Put there what an unprivileged user can."""
    if kind == "link":
        place.symlink_to(secret)
    elif kind == "hard link":
        place.hardlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(place, 0o666)
    elif kind == "directory":
        place.mkdir()
    if kind != "hard link":
        os.chown(place, NOBODY, NOBODY, follow_symlinks=False)


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
async def test_files_that_were_planted(theirs, secret, until, run, kind):
    """At a start, a reload and an upgrade."""
    for name in FILES:
        plant(kind, theirs / name, secret)
    async with edge(workers=1, more=f'user: nobody\nroutes: {{directory: "{theirs}"}}') as styx:
        async with Kept(styx.port) as kept:
            assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
        change(styx, "workers: 1", "workers: 2")
        assert (await reload(run, styx)).code == 0
        assert is_untouched(secret)
    assert is_untouched(secret)


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_planted_files_are_replaced_and_routes_survive(theirs, secret, kind):
    """By a child that runs as that user, as the admin process does."""
    for name in FILES:
        plant(kind, theirs / name, secret)
    one, two = a_record("a.test"), a_record("b.test")
    pid = os.fork()
    if not pid:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            store = RouteStore(theirs, capacity=100)
            assert store.read() == {}
            store.mend()
            store.append([one.data])
            store.append([two.data])
            assert store.read() == {"a.test": one, "b.test": two}
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0  # one that opened the FIFO would never end
    assert is_untouched(secret)


@pytest.mark.parametrize("by_root", [True, False], ids=["root", "nobody"])
def test_a_file_of_another_user_is_not_read(open_path, by_root):
    """But a file that an earlier start as root has left is."""
    one = a_record("a.test")
    (open_path / "routes").write_bytes(HEADER + one.data)
    if not by_root:
        os.chown(open_path / "routes", NOBODY, NOBODY)
    assert RouteStore(open_path, capacity=100).read() == ({"a.test": one} if by_root else {})


def test_a_directory_that_is_a_link(theirs, open_path, secret):
    """That user may not write in its target: the target is not given to that user."""
    target = open_path / "target"
    target.mkdir(0o700)
    (target / "routes").write_text("root's")
    (theirs / "routes").symlink_to(target)
    with pytest.raises(OSError, match="it is not root's own"):
        prepare_directory(settings(theirs / "routes"), {})
    (theirs / "parent").symlink_to(open_path)
    with pytest.raises(OSError, match="it is not root's own"):
        prepare_directory(settings(theirs / "parent" / "target"), {})
    with pytest.raises(OSError, match="it is not root's own"):
        prepare_directory(settings(theirs / "parent" / "new"), {})
    assert (target.stat().st_uid, (target / "routes").stat().st_uid) == (0, 0)
    assert not (open_path / "new").exists()


def test_a_directory_of_that_user_is_made_by_that_user(theirs):
    found = prepare_directory(settings(theirs / "a" / "b"), {})
    assert found.path == theirs / "a" / "b"
    assert [path.stat().st_uid for path in (found.path, found.path.parent)] == [NOBODY, NOBODY]
    assert not stat.S_IMODE(found.path.stat().st_mode) & 0o077


def test_what_is_missing_in_a_directory_of_roots_is_made_and_given(theirs, open_path):
    found = prepare_directory(settings(open_path / "var" / "styx" / "routes"), {})
    owners = [path.stat().st_uid for path in (found.path, found.path.parent, found.path.parent.parent)]
    assert owners == [NOBODY, 0, 0]


def test_what_a_start_as_root_has_left_is_given(theirs, open_path, secret):
    """Plain files, in a directory with no others."""
    kept = open_path / "kept"
    kept.mkdir(0o700)
    one = a_record("a.test")
    RouteStore(kept, capacity=100).append([one.data])
    (kept / "routes").symlink_to(secret)
    (kept / "routes.coming").hardlink_to(secret)
    prepare_directory(settings(kept), {})
    owners = {name: (kept / name).lstat().st_uid for name in os.listdir(kept)}
    assert owners == {"routes": 0, "routes.coming": 0, "routes.lock": NOBODY, "routes.new": NOBODY}
    assert kept.stat().st_uid == NOBODY
    assert is_untouched(secret)


@pytest.mark.parametrize("what", ["passwd", "routes.d"])
def test_a_directory_of_roots_with_other_files_is_not_given(theirs, open_path, what):
    system = open_path / "etc"
    system.mkdir(0o755)
    (system / what).write_text("root's")
    with pytest.raises(OSError, match="others have files in it"):
        prepare_directory(settings(system), {})
    assert (system.stat().st_uid, (system / what).stat().st_uid) == (0, 0)


def test_a_temporary_directory_is_made_and_removed_by_that_user(theirs, open_path, monkeypatch):
    """One that was handed over is used if it is that user's alone; what lies in its place is not removed."""
    monkeypatch.setenv("TMPDIR", str(theirs))
    monkeypatch.setattr("tempfile.tempdir", None)
    environ = {}
    directories = RouteDirectories(environ)
    path = directories.prepare(settings())
    assert (path.parent, path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (theirs, NOBODY, 0o700)
    assert environ == {HANDED_OVER: str(path)}
    assert RouteDirectories(environ).prepare(settings()) == path
    for planted in (theirs / "link", theirs / "loose"):
        if planted.name == "link":
            planted.symlink_to(open_path)
        else:
            planted.mkdir(0o777)
        assert prepare_directory(settings(), {HANDED_OVER: str(planted)}).path != planted
    target = open_path / "target"
    target.mkdir()
    (target / "routes").write_text("root's")
    path.rmdir()
    path.symlink_to(target)
    directories.remove_temporary()
    assert (target / "routes").read_text() == "root's"
    path.unlink()
    again = directories.prepare(settings())
    directories.remove_temporary()
    assert not again.exists()


def unix(path):
    return {"listeners": ({"address": f"unix:{path}"},)}


def test_a_unix_socket_in_a_directory_of_that_user(theirs, open_path):
    """Opened and removed by that user. A directory that took the place of the first one is not looked into."""
    sockets = open_sockets(settings(**unix(theirs / "sock")), 1, Spare([]))
    assert (theirs / "sock").stat().st_uid == NOBODY
    other = open_path / "other"
    other.mkdir()
    again = open_sockets(settings(**unix(other / "sock")), 1, Spare([]))
    assert (other / "sock").stat().st_uid == 0, "in a directory of its own root acts by itself"
    theirs.rename(open_path / "moved")
    theirs.symlink_to(other)
    os.chown(theirs, NOBODY, NOBODY, follow_symlinks=False)
    sockets.close_all_but()
    assert (other / "sock").is_socket(), "of another edge"
    again.close_all_but()
    assert not (other / "sock").exists()


def test_an_admin_socket_in_a_directory_of_that_user(theirs):
    """For its owner alone, as everywhere."""
    told = settings(admin={"address": "127.0.0.1:0", "socket": f"{theirs}/admin.sock"})
    sockets = open_sockets(told, 1, Spare([]))
    found = (theirs / "admin.sock").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY, 0o600)
    sockets.close_all_but()
    assert not (theirs / "admin.sock").exists()


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "directory"])
def test_what_lies_where_a_unix_socket_is_to_be_stays(theirs, secret, kind):
    plant(kind, theirs / "sock", secret)
    with pytest.raises(OSError, match="Address already in use"):
        open_sockets(settings(**unix(theirs / "sock")), 1, Spare([]))
    assert os.path.lexists(theirs / "sock")
    assert is_untouched(secret)


def test_files_are_read_by_that_user(theirs, secret):
    """Root would tell in its log what is in a secret file, and wait for somebody who never writes to a FIFO."""
    (theirs / "routes.yaml").symlink_to(secret)
    told_of = settings(core_api={"url": f"file:{theirs}/routes.yaml"})
    [finding] = findings_of(told_of, (), {})
    assert finding == Finding("core_api.url", f"cannot read {theirs}/routes.yaml: Permission denied")
    secret.chmod(0o644)
    [finding, *_] = findings_of(told_of, (), {})
    assert "Permission" not in finding.words, "no routes"


async def test_a_directory_that_cannot_be_given_is_reported_at_the_start(theirs, run, open_path):
    (theirs / "routes").symlink_to("/root")
    config = open_path / "styx.yaml"
    config.write_text(
        "listeners: [{address: 127.0.0.1:0}]\ncore_api: {url: http://127.0.0.1:9}\nadmin: {address: 127.0.0.1:0}\n"
        f"user: nobody\nroutes: {{directory: {theirs}/routes}}\n"
    )
    ran = await run("serve", "-c", config)
    fault = f"{config}:5:21: routes.directory: {theirs}/routes: Permission denied\n"
    assert (ran.code, ran.err) == (2, fault)
    assert os.stat("/root").st_uid == 0
