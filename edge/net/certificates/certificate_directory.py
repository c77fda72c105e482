"""Reads a directory of certificates. Blocking: run in a thread, or before clients are accepted.

100,000 pairs take 15 seconds the first time. Later only the files that have changed are read, which takes a second.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from edge.rules.certificates.certificate_checks import (
    LONGEST_PEM,
    CertificateFault,
    UnusableCertificate,
    check_dates,
    checked_pair,
)
from edge.rules.certificates.certificate_files import (
    NO_CERTIFICATES,
    CertificateSet,
    FoundFiles,
    PairOfFiles,
    certificate_set,
    pairs_in,
)
from edge.rules.certificates.certificates import KeyPair, SharedChains

RECENT: Final = 2.0
"Seconds. A file that was written more recently may be written again with the same time stamp."


class _Status(NamedTuple):
    """What tells that a file has not changed, without reading it."""

    modified: int
    changed: int
    size: int
    inode: int


class FileFault(NamedTuple):
    """Why the certificate in a file is not used, or not the new one."""

    file: str
    fault: str
    "A stable code: of `CertificateFault`, or `unreadable_file`, `key_without_certificate`, `too_many_files`."
    words: str


class DirectoryContent(NamedTuple):
    """The certificates in a directory."""

    certificates: CertificateSet
    faults: list[FileFault]
    read: int
    "Pairs of files that were read this time."


class _Read:
    """What was read from a pair of files."""

    __slots__ = ("fault", "names", "pair", "stamp")

    def __init__(self) -> None:
        self.stamp: int | None = None
        "Hash of the status of both files; None = they must be read again."
        self.pair: KeyPair | None = None
        "The last usable pair. It remains while new files are unusable: one of two may be written already."
        self.names: tuple[str, ...] = ()
        self.fault: FileFault | None = None


class CertificateDirectory:
    """A directory, and what it contained when it was last read."""

    def __init__(self, path: str, *, wall: Callable[[], float] = time.time, recent: float = RECENT) -> None:
        """`wall`: seconds since the epoch."""
        self.path = path
        self._wall = wall
        self._recent = recent
        self._reads: dict[str, _Read] = {}
        self._chains = SharedChains()
        self._last = NO_CERTIFICATES

    def read(self) -> DirectoryContent:
        """Read what has changed. Raises OSError when the directory cannot be read; files that cannot are faults."""
        stamps = self._stamps()
        found = pairs_in(stamps)
        reads: dict[str, _Read] = {}
        count = 0
        for files in found.pairs:
            read = reads[files.name] = self._reads.get(files.name) or _Read()
            both = stamps[files.chain], stamps[files.key]
            stamp = hash(both)
            if read.stamp != stamp:
                count += 1
                self._read_pair(files, read)
                read.stamp = stamp if all(map(self._is_settled, both)) else None
        self._reads = reads
        faults = list(_left_out(found))
        self._last = certificate_set(self._usable(faults), self._last)
        return DirectoryContent(self._last, faults, count)

    def _stamps(self) -> dict[str, _Status]:
        stamps: dict[str, _Status] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except OSError:  # it is gone, or a link that leads nowhere
                    continue
                changed = status.st_mtime_ns, status.st_ctime_ns
                stamps[entry.name] = _Status(*changed, status.st_size, status.st_ino)
        return stamps

    def _is_settled(self, status: _Status) -> bool:
        newest = max(status.modified, status.changed) / 1e9
        return not 0.0 <= self._wall() - newest < self._recent

    def _read_pair(self, files: PairOfFiles, read: _Read) -> None:
        read.fault = None
        try:
            chain = self._content(files.chain)
            key = chain if files.key == files.chain else self._content(files.key)
            checked = checked_pair(chain, key, self._chains)
        except OSError as error:
            read.fault = FileFault(files.chain, "unreadable_file", error.strerror or str(error))
        except UnusableCertificate as error:
            read.fault = FileFault(files.chain, error.fault, str(error))
        else:
            if not checked.names:
                fault = CertificateFault.NAME_NOT_COVERED
                read.fault = FileFault(files.chain, fault, "no hostname in the certificate")
            elif read.pair is None or not read.pair.is_same(checked.pair):
                read.pair, read.names = checked.pair, tuple(sorted(checked.names))

    def _content(self, name: str) -> bytes:
        """The content of a file, with one byte more than is accepted at most. Raises OSError."""
        descriptor = os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, LONGEST_PEM + 1)
        finally:
            os.close(descriptor)

    def _usable(self, faults: list[FileFault]) -> Iterator[tuple[KeyPair, tuple[str, ...]]]:
        """The pairs that may be used now; `faults` gets why the others may not."""
        wall = self._wall()
        for name, read in self._reads.items():
            if read.fault is not None:
                faults.append(read.fault)
            if read.pair is None:
                continue
            try:
                check_dates(read.pair, wall)
            except UnusableCertificate as error:
                if read.fault is None:
                    faults.append(FileFault(f"{name}.pem", error.fault, str(error)))
            else:
                yield read.pair, read.names


def _left_out(found: FoundFiles) -> Iterator[FileFault]:
    for name in found.without_chain:
        yield FileFault(name, "key_without_certificate", "there is no certificate with this name")
    if found.beyond:
        yield FileFault("", "too_many_files", f"{found.beyond} pairs beyond the limit are not read")
