"""Lines of a file that grows, is rotated, and is cut."""

import io
from contextlib import suppress

from edge.run.log.log_follower import LogFollower, lines_of


class Done(Exception):
    """There is no further step."""


def steps(*changes):
    """A pause that makes one change of the file each time."""
    left = iter(changes)

    def pause():
        change = next(left, None)
        if change is None:
            raise Done
        change()

    return pause


def followed(path, *changes):
    with LogFollower(str(path), pause=steps(*changes)) as follower:
        return list(until_done(follower.follow()))


def until_done(lines):
    with suppress(Done):
        yield from lines


def append(path, data):
    def change():
        with open(path, "ab") as file:
            file.write(data)

    return change


def test_a_file_that_grows(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"one\ntw")
    assert followed(path, append(path, b"o\nthr"), append(path, b"ee\n")) == [b"one", b"two", b"three"]


def test_a_rotation(tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    path.write_bytes(b"one\n")
    found = followed(
        path, lambda: path.rename(old), append(old, b"late\n"), append(path, b"new\n"), append(path, b"newer\n")
    )
    assert found == [b"one", b"late", b"new", b"newer"]


def test_a_file_that_is_cut(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"a long first line\n")
    assert followed(path, lambda: path.write_bytes(b"new\n")) == [b"a long first line", b"new"]


def test_the_last_lines_of_a_large_file(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"first\n" * 100 + b"a\nbb\nccc\nd")
    with LogFollower(str(path), tail=12) as follower:
        assert list(follower.last()) == [b"a", b"bb", b"ccc"]
        append(path, b"dd\n")()
        assert next(follower.follow()) == b"ddd"


def test_a_line_has_a_bound():
    data = io.BytesIO(b"x" * 35 + b"\nshort\n" + b"end")
    assert list(lines_of(data, longest=10)) == [b"x" * 10, b"short", b"end"]
