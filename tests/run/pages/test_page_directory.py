"""Reading a directory of error pages."""

import os

import pytest

from edge.rules.pages.page_template import MOST_TEMPLATE_BYTES
from edge.run.pages.page_directory import MOST_BYTES_READ, MOST_ENTRIES, read_pages, read_templates, stamps_in


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "sites" / "shop").mkdir(parents=True)
    return tmp_path


def read(directory, before=()):
    return read_pages(str(directory), dict(before))


def test_templates_of_all_sites_and_of_one(directory):
    (directory / "404.html").write_text("a")
    (directory / "sites" / "shop" / "error.de.html").write_text("b")
    for other in (
        "style.css",
        ".404.html.swp",
        ".hidden.html",
        "404.html~",
        "sites/error.html",
        "sites/shop/notes",
    ):
        (directory / other).write_text("$nothing")
    (directory / "sites" / "shop" / "deeper").mkdir()
    (directory / "sites" / "shop" / "deeper" / "404.html").write_text("$nothing")
    assert read(directory) == ({"404.html": b"a", "sites/shop/error.de.html": b"b"}, [])


def test_links_are_followed_as_kubernetes_mounts_files(directory):
    """A mounted ConfigMap has links to links: `404.html -> ..data/404.html`, `..data -> ..2026_01_01`."""
    (directory / "..2026_01_01").mkdir()
    (directory / "..2026_01_01" / "404.html").write_text("a")
    (directory / "..data").symlink_to("..2026_01_01")
    (directory / "404.html").symlink_to("..data/404.html")
    (directory / "sites" / "blog").symlink_to(directory / "..data")
    (directory / "5xx.html").symlink_to("nowhere")
    assert read(directory) == ({"404.html": b"a", "sites/blog/404.html": b"a"}, [])


def test_what_is_no_file_is_not_waited_for(directory):
    os.mkfifo(directory / "404.html")
    (directory / "5xx.html").mkdir()
    (directory / "4xx.html").symlink_to("4xx.html")
    checked = read(directory, {"404.html": b"before"})
    assert checked.files == {"404.html": b"before"}
    assert {f.name: f.fault.words for f in checked.faults} == {
        "404.html": "is no file",
        "5xx.html": "Is a directory",
        "4xx.html": "Too many levels of symbolic links",
    }


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        read(tmp_path / "file")
    assert read(tmp_path) == ({}, [])


def test_a_folder_that_cannot_be_read_does_not_count_as_empty(directory):
    (directory / "sites" / "shop").rmdir()
    (directory / "sites").rmdir()
    assert read(directory) == ({}, []), "there need be none"
    (directory / "sites").symlink_to("sites")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        read(directory)


def test_a_name_that_is_not_utf_8_is_a_fault(directory):
    folder = os.path.join(os.fsencode(directory), b"sites", b"\xff")
    os.mkdir(folder)
    with open(os.path.join(folder, b"404.html"), "wb") as file:
        file.write(b"x")
    [fault] = read(directory).faults
    assert (fault.name, fault.fault.words) == ("sites/?/404.html", "its name is not UTF-8")


def test_a_file_is_read_up_to_a_bound(directory):
    (directory / "404.html").write_bytes(b"x" * 10 * MOST_TEMPLATE_BYTES)
    assert len(read_templates(str(directory), ["404.html"])["404.html"]) == MOST_TEMPLATE_BYTES + 1
    assert [fault.fault.words for fault in read(directory).faults] == ["is larger than 128 KiB"]


def test_all_files_together_are_read_up_to_a_bound(directory):
    (directory / "404.html").write_bytes(b"x" * MOST_TEMPLATE_BYTES)
    names = [f"{n}.html" for n in range(2 * MOST_BYTES_READ // MOST_TEMPLATE_BYTES)]
    for name in names:
        (directory / name).symlink_to("404.html")
    found = read_templates(str(directory), names)
    assert sum(len(content) for content in found.values() if isinstance(content, bytes)) <= (
        MOST_BYTES_READ + MOST_TEMPLATE_BYTES
    )
    assert found[names[-1]] == "was not read: those before it are larger than 16 MiB"


def test_a_huge_directory_is_left_alone(directory):
    for n in range(MOST_ENTRIES - 1):  # and one that is there already
        (directory / f"{n}.txt").touch()
    assert stamps_in(str(directory)) == {}
    (directory / "sites" / "shop" / "one.txt").touch()
    with pytest.raises(OSError, match="more than 10000 entries"):
        stamps_in(str(directory))


def test_a_file_that_is_gone_meanwhile_is_left_out(directory):
    (directory / "404.html").write_text("a")
    assert read_templates(str(directory), ["404.html", "5xx.html"]) == {"404.html": b"a"}
