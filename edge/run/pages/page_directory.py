"""Reads a directory of error pages. Blocking: run in a thread, or in a command.

Links are followed, because Kubernetes mounts files as such, and the directory belongs to the operator. Names in it
come from the file system only: no path is made from what a client or the core API sends.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from edge.rules.pages.page_template import MOST_TEMPLATE_BYTES
from edge.rules.pages.template_files import SITES, SUFFIX, CheckedPages, checked_pages, importance

MOST_ENTRIES: Final = 10_000
"Entries of all folders together that are looked at; a directory with more is not used."
MOST_BYTES_READ: Final = 16 << 20
"Bytes that are read of all templates; they may have a quarter of that."


class Stamp(NamedTuple):
    """The attributes that tell whether a file has changed, without reading it."""

    modified: int
    changed: int
    size: int
    inode: int


def stamps_in(directory: str) -> dict[str, Stamp]:
    """All templates in this directory, by name. Raises OSError when it cannot be read, or has too many entries."""
    found: dict[str, Stamp] = {}
    count = 0
    for prefix in _folders(directory):
        for entry in _entries(f"{directory}/{prefix}", is_needed=not prefix):
            count += 1
            if count > MOST_ENTRIES:
                raise OSError(0, f"more than {MOST_ENTRIES} entries", directory)
            is_template = entry.name.endswith(SUFFIX) and not entry.name.startswith(".")
            if is_template and (stamp := _stamp_of(entry)) is not None:
                found[prefix + entry.name] = stamp
    return found


def read_templates(directory: str, names: Iterable[str]) -> dict[str, bytes | str]:
    """The content of these templates, or why one cannot be read. One that is gone meanwhile is left out. `names`:
    in the order in which they are read, for there are bounds."""
    found: dict[str, bytes | str] = {}
    total = 0
    for name in names:
        try:
            name.encode()
            if total > MOST_BYTES_READ:
                found[name] = f"was not read: those before it are larger than {MOST_BYTES_READ >> 20} MiB"
                continue
            found[name] = content = _content(f"{directory}/{name}")
            total += len(content)
        except FileNotFoundError:
            continue
        except UnicodeEncodeError:
            found[name.encode("utf-8", "replace").decode()] = "its name is not UTF-8"
        except OSError as error:
            found[name] = error.strerror or str(error)
    return found


def _stamp_of(entry: os.DirEntry[str]) -> Stamp | None:
    """The stamp of a file; None = it is gone, or a link that leads nowhere."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return Stamp(0, 0, 0, 0)  # reading it tells why
    return Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _folders(directory: str) -> Iterator[str]:
    """The folders with templates, as prefixes of their names."""
    yield ""
    for entry in _entries(f"{directory}/{SITES}", is_needed=False):
        if not entry.name.startswith(".") and _is_folder(entry):
            yield f"{SITES}/{entry.name}/"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _entries(path: str, *, is_needed: bool) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        if is_needed:
            raise


def _content(path: str) -> bytes:
    """The content of a file, with one byte more than is accepted at most. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "is no file", path)
        return file.read(MOST_TEMPLATE_BYTES + 1)


def read_pages(directory: str, before: Mapping[str, bytes]) -> CheckedPages:
    """Read and check all templates now. `before`: those in use. Raises OSError as `stamps_in`."""
    return checked_pages(read_templates(directory, sorted(stamps_in(directory), key=importance)), before)
