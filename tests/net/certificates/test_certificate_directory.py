"""A directory of certificates: read once, then only what has changed."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from edge.net.certificates.certificate_directory import CertificateDirectory, DirectoryContent
from tests.support.sample_certificates import DAY, WALL, Leaf, authority

CA = authority()


class Directory:
    """A directory of a test. Its clock is `wall`; what is written is old unless it says otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wall = WALL
        self.reader = CertificateDirectory(str(path), wall=lambda: self.wall)
        self.written = 0

    def write(self, name: str, text: str, *, at: float | None = None) -> None:
        self.written += 1
        (self.path / name).write_text(text)
        when = WALL - 1000 + self.written if at is None else at
        os.utime(self.path / name, (when, when))

    def write_pair(self, name: str, leaf: Leaf) -> None:
        self.write(f"{name}.pem", leaf.chain)
        self.write(f"{name}.key", leaf.key)

    def read(self) -> DirectoryContent:
        return self.reader.read()

    def serves(self, hostname: str) -> bool:
        return self.read().certificates.find(hostname, self.wall) is not None

    def faults(self) -> list[tuple[str, str]]:
        return [(fault.file, str(fault.fault)) for fault in self.read().faults]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_pairs_and_bundles(directory: Directory) -> None:
    a, b = CA.leaf("a.test"), CA.leaf("b.test", "*.b.test", kind="rsa")
    directory.write_pair("one", a)
    directory.write("two.pem", b.chain + b.key)
    directory.write("three.pem", b.key + b.chain)
    content = directory.read()
    assert (content.read, content.faults, content.certificates.count) == (3, [], 3)
    assert [directory.serves(name) for name in ("a.test", "b.test", "x.b.test", "c.test")] == [
        True,
        True,
        True,
        False,
    ]


def test_only_what_has_changed_is_read(directory: Directory) -> None:
    for name in ("a", "b"):
        directory.write_pair(name, CA.leaf(f"{name}.test"))
    first = directory.read()
    assert first.read == 2
    assert directory.read().read == 0
    directory.write_pair("a", CA.leaf("a.test", "new.test", number=1))
    after = directory.read()
    assert after.read == 1
    assert directory.serves("new.test")
    assert after.certificates.find("b.test", WALL) is first.certificates.find("b.test", WALL)
    (directory.path / "a.pem").unlink()
    (directory.path / "a.key").unlink()
    assert not directory.serves("a.test")
    assert directory.serves("b.test")


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    """Its time stamp would not show a second change."""
    leaf = CA.leaf("a.test")
    (tmp_path / "a.pem").write_text(leaf.chain + leaf.key)
    wall = (tmp_path / "a.pem").stat().st_mtime + 1.0
    reader = CertificateDirectory(str(tmp_path), wall=lambda: wall)
    assert [reader.read().read for _ in range(2)] == [1, 1]
    wall += 2.1
    assert [reader.read().read for _ in range(2)] == [1, 0]


def test_while_one_of_two_files_is_new(directory: Directory) -> None:
    directory.write_pair("a", CA.leaf("a.test"))
    before = directory.read().certificates.find("a.test", WALL)
    new = CA.leaf("a.test", number=1)
    directory.write("a.pem", new.chain)
    assert directory.faults() == [("a.pem", "key_does_not_fit")]
    assert directory.read().certificates.find("a.test", WALL) is before, "the old pair is served on"
    directory.write("a.key", new.key)
    assert directory.faults() == []
    after = directory.read().certificates.find("a.test", WALL)
    assert after is not None
    assert after is not before


@pytest.mark.parametrize(
    ("gone", "fault"), [("a.pem", ("a.key", "key_without_certificate")), ("a.key", ("a.pem", "unreadable_key"))]
)
def test_while_one_of_two_files_is_gone(directory: Directory, gone: str, fault: tuple[str, str]) -> None:
    directory.write_pair("a", CA.leaf("a.test"))
    before = directory.read().certificates.find("a.test", WALL)
    assert before is not None
    (directory.path / gone).unlink()
    assert directory.faults() == [fault]
    assert directory.read().faults[0].names == ("a.test",)
    assert directory.read().certificates.find("a.test", WALL) is before, "the old pair is served on"
    directory.write_pair("a", CA.leaf("a.test", number=1))
    assert directory.faults() == []
    assert directory.read().certificates.find("a.test", WALL) not in (None, before)
    for file in ("a.pem", "a.key"):
        (directory.path / file).unlink()
    assert not directory.serves("a.test")
    assert directory.faults() == []


def test_certificates_whose_file_is_gone_count_as_pairs(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    directory.reader = CertificateDirectory(str(tmp_path), wall=lambda: WALL, most=2)
    directory.write_pair("a", CA.leaf("a.test"))
    directory.write_pair("b", CA.leaf("b.test"))
    assert directory.read().certificates.count == 2
    for name in "ab":
        (tmp_path / f"{name}.pem").unlink()
    directory.write_pair("c", CA.leaf("c.test"))
    assert [directory.serves(f"{name}.test") for name in "abc"] == [True, False, True]
    assert directory.faults() == [("b.key", "key_without_certificate"), ("a.key", "key_without_certificate")]


def test_files_with_faults(directory: Directory) -> None:
    directory.write("broken.pem", "nonsense")
    directory.write("nameless.pem", (leaf := CA.leaf()).chain + leaf.key)
    directory.write("lonely.key", leaf.key)
    directory.write_pair("old", CA.leaf("old.test", until=timedelta(days=-1)))
    directory.write_pair("early", CA.leaf("early.test", since=timedelta(days=1)))
    directory.write_pair("good", CA.leaf("good.test"))
    (directory.path / "folder.pem").mkdir()
    (directory.path / "dangling.pem").symlink_to("nowhere")
    os.mkfifo(directory.path / "pipe.pem")
    assert sorted(directory.faults()) == [
        ("broken.pem", "unreadable_chain"),
        ("dangling.pem", "unreadable_file"),
        ("early.pem", "not_yet_valid"),
        ("folder.pem", "unreadable_file"),
        ("lonely.key", "key_without_certificate"),
        ("nameless.pem", "name_not_covered"),
        ("old.pem", "expired"),
        ("pipe.pem", "unreadable_chain"),
    ]
    assert directory.serves("good.test")


def test_time_goes_on(directory: Directory) -> None:
    directory.write_pair("a", CA.leaf("a.test", until=timedelta(days=1)))
    directory.write_pair("b", CA.leaf("b.test", since=timedelta(days=2)))
    assert [directory.serves(name) for name in ("a.test", "b.test")] == [True, False]
    directory.wall += 3 * DAY
    assert [directory.serves(name) for name in ("a.test", "b.test")] == [False, True]
    assert directory.read().read == 0


@pytest.mark.parametrize("days", [(-30, -1), (2, 30)], ids=["expired", "not yet valid"])
def test_a_new_certificate_that_is_not_valid_replaces_none(directory: Directory, days: tuple[int, int]) -> None:
    directory.write_pair("a", CA.leaf("a.test", until=timedelta(days=9)))
    before = directory.read().certificates.find("a.test", directory.wall)
    since, until = (timedelta(days=each) for each in days)
    directory.write_pair("a", CA.leaf("a.test", since=since, until=until))
    content = directory.read()
    assert content.certificates.find("a.test", directory.wall) is before is not None
    assert [(fault.file, fault.names) for fault in content.faults] == [("a.pem", ("a.test",))]
    directory.wall += 3 * DAY
    after = directory.read().certificates.find("a.test", directory.wall)
    assert after is not None
    assert (after is before) == (days[0] < 0)
    directory.wall += 7 * DAY
    assert directory.serves("a.test") == (days[0] > 0)


def test_a_link_that_leads_nowhere(directory: Directory) -> None:
    """The certificate that it led to is served on, until the link is removed or leads somewhere again."""
    (directory.path / "there").mkdir()
    leaf = CA.leaf("a.test")
    directory.write("there/a", leaf.chain + leaf.key)
    (directory.path / "a.pem").symlink_to("there/a")
    assert directory.serves("a.test")
    os.rename(directory.path / "there" / "a", directory.path / "there" / "b")
    assert directory.faults() == [("a.pem", "unreadable_file")]
    assert directory.serves("a.test")
    os.rename(directory.path / "there" / "b", directory.path / "there" / "a")
    assert directory.faults() == []
    os.unlink(directory.path / "a.pem")
    assert not directory.serves("a.test")
    assert directory.faults() == []


def test_links_to_a_directory_that_is_replaced(directory: Directory) -> None:
    """As Kubernetes mounts secrets."""
    for number in range(2):
        leaf = CA.leaf(f"{number}.test", number=number)
        (directory.path / f"..{number}").mkdir()
        (directory.path / f"..{number}" / "tls.pem").write_text(leaf.chain + leaf.key)
    (directory.path / "..data").symlink_to("..0")
    (directory.path / "tls.pem").symlink_to("..data/tls.pem")
    assert directory.serves("0.test")
    (directory.path / "..new").symlink_to("..1")
    os.replace(directory.path / "..new", directory.path / "..data")
    assert [directory.serves(name) for name in ("0.test", "1.test")] == [False, True]


def test_a_directory_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CertificateDirectory(str(tmp_path / "none")).read()


def test_a_huge_file_is_not_read_whole(directory: Directory) -> None:
    directory.write("a.pem", "x" * 1_000_000)
    assert directory.faults() == [("a.pem", "unreadable_chain")]
