"""File operations of root with the rights of a user: in a child, within a time limit; by root only where it is
safe."""

import os
import pwd
import signal
import socket

import pytest

from edge.run.files.as_user import is_roots_own, socket_from, text_from

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
NOBODY = pwd.getpwnam("nobody")


def test_it_is_done_as_that_user_for_good():
    def who():
        with pytest.raises(PermissionError):
            os.setuid(0)
        return f"{os.getuid()} {os.geteuid()} {os.getgid()} {os.getgroups() == [0]}"

    assert text_from("nobody", who) == f"{NOBODY.pw_uid} {NOBODY.pw_uid} {NOBODY.pw_gid} False"
    assert text_from("", lambda: str(os.geteuid())) == "0"


def test_what_the_user_may_not_do_fails_as_it_does_for_the_user(open_path):
    secret = open_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with pytest.raises(PermissionError) as raised:
        text_from("nobody", secret.read_text)
    assert (raised.value.strerror, raised.value.filename) == ("Permission denied", str(secret))


def test_a_socket_comes_back(theirs):
    def bound():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{theirs}/sock")
        return sock

    with socket_from("nobody", bound) as sock:
        assert sock.getsockname() == f"{theirs}/sock"
    assert (theirs / "sock").stat().st_uid == NOBODY.pw_uid


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the child ended without a result"),
        (lambda: "x" * (2 << 20), "the child ended without a result"),
    ],
)
def test_a_child_that_fails_is_an_error(work, message):
    with pytest.raises(OSError, match=message):
        text_from("nobody", work)


def test_a_missing_user():
    with pytest.raises(OSError, match="there is no user 'mallory'"):
        text_from("mallory", lambda: "")


def test_the_child_has_a_time_limit(theirs):
    """It reads a FIFO without a writer."""
    os.mkfifo(theirs / "fifo", 0o666)
    with pytest.raises(TimeoutError):
        text_from("nobody", (theirs / "fifo").read_text, timeout=0.2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # nothing is left of it


def test_where_root_acts_itself(theirs, open_path):
    ours = open_path / "ours"
    (ours / "below").mkdir(parents=True)
    (theirs / "roots").mkdir()  # root's, but its name is not
    (open_path / "link").symlink_to(ours / "below")
    (theirs / "link").symlink_to(ours)
    os.chown(theirs / "link", NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    (open_path / "to_theirs").symlink_to(theirs / "roots")
    (open_path / "relative").symlink_to("ours/../ours/below")
    (open_path / "loop").symlink_to(open_path / "loop")
    (open_path / "file").write_text("")
    own = {"ours", "ours/below", "link", "relative"}
    others = {"theirs", "theirs/roots", "theirs/link", "to_theirs", "theirs/../ours", "loop", "file", "nowhere"}
    assert {path for path in own | others if is_roots_own(open_path / path)} == own
    for mode, owned in ((0o775, False), (0o777, False), (0o1777, True), (0o755, True)):
        ours.chmod(mode)
        assert is_roots_own(ours / "below") is owned
    os.chown(ours, NOBODY.pw_uid, 0)
    assert not is_roots_own(ours / "below")


def test_a_link_of_another_user_in_a_shared_directory_is_not_followed(open_path):
    shared, ours = open_path / "shared", open_path / "ours"
    shared.mkdir()
    ours.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(ours)
    assert is_roots_own(shared / "link")
    os.chown(shared / "link", NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    assert not is_roots_own(shared / "link")
