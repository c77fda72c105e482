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
    KEY,
    MOST_PAIRS,
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

_WITHOUT_CHAIN: Final = ("key_without_certificate", "there is no certificate with this name")


class _Status(NamedTuple):
    """The attributes that tell whether a file has changed, without reading it."""

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
    names: tuple[str, ...] = ()
    "The hostnames of the certificate that was read from this file before."


class DirectoryContent(NamedTuple):
    """The certificates in a directory."""

    certificates: CertificateSet
    faults: list[FileFault]
    read: int
    "Pairs of files that were read this time."


class _Usable(NamedTuple):
    """A certificate that can be used as far as its dates allow, and the hostnames that it covers."""

    pair: KeyPair
    names: tuple[str, ...]


class _Read:
    """What was read from a pair of files."""

    __slots__ = ("fault", "newest", "stamp", "used")

    def __init__(self) -> None:
        self.stamp: int | None = None
        "Hash of the status of both files; None = they must be read again."
        self.newest: _Usable | None = None
        "The last one without faults. It remains while new files are unusable: one of two may be written already."
        self.used: _Usable | None = None
        "The last one whose dates were valid. It remains while those of `newest` are not."
        self.fault: FileFault | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The hostnames of the certificate that is used, or was read last."""
        known = self.used or self.newest
        return () if known is None else known.names


class CertificateDirectory:
    """A directory, and what it contained when it was last read."""

    def __init__(
        self,
        path: str,
        *,
        wall: Callable[[], float] = time.time,
        recent: float = RECENT,
        most: int = MOST_PAIRS,
    ) -> None:
        """`wall`: seconds since the epoch. `most`: pairs of files beyond which others are not used."""
        self.path = path
        self._most = most
        self._wall = wall
        self._recent = recent
        self._reads: dict[str, _Read] = {}
        self._chains = SharedChains()
        self._last = NO_CERTIFICATES

    def read(self) -> DirectoryContent:
        """Read what has changed. Raises OSError when the directory cannot be read; files that cannot are faults."""
        stamps = self._stamps()
        found = pairs_in(stamps, self._most)
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
        self._keep_without_chain(found, reads)
        self._reads = reads
        faults = list(_left_out(found, reads))
        self._last = certificate_set(self._usable(faults), self._last)
        return DirectoryContent(self._last, faults, count)

    def _keep_without_chain(self, found: FoundFiles, reads: dict[str, _Read]) -> None:
        """Keep certificates whose file is gone while that of the key is there: it may be about to be replaced."""
        for file in found.without_chain:
            name = file.removesuffix(KEY)
            read = self._reads.get(name)
            if read is not None and read.newest is not None and len(reads) < self._most:
                read.stamp, read.fault = None, FileFault(file, *_WITHOUT_CHAIN, read.names)
                reads[name] = read

    def _stamps(self) -> dict[str, _Status]:
        stamps: dict[str, _Status] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    status = _status(entry)
                except OSError:  # it is gone
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
            read.fault = FileFault(files.chain, "unreadable_file", error.strerror or str(error), read.names)
        except UnusableCertificate as error:
            read.fault = FileFault(files.chain, error.fault, str(error), read.names)
        else:
            if not checked.names:
                fault = CertificateFault.NAME_NOT_COVERED
                read.fault = FileFault(files.chain, fault, "no hostname in the certificate", read.names)
            else:
                known = (each for each in (read.newest, read.used) if each and each.pair.is_same(checked.pair))
                read.newest = next(known, None) or _Usable(checked.pair, tuple(sorted(checked.names)))

    def _content(self, name: str) -> bytes:
        """The content of a file, with one byte more than is accepted at most. Raises OSError."""
        descriptor = os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, LONGEST_PEM + 1)
        finally:
            os.close(descriptor)

    def _usable(self, faults: list[FileFault]) -> Iterator[_Usable]:
        """Those that may be used now; `faults` gets why the others may not."""
        wall = self._wall()
        for name, read in self._reads.items():
            if read.fault is not None:
                faults.append(read.fault)
            if read.newest is None:
                continue
            error = _date_fault(read.newest.pair, wall)
            if error is None:
                read.used = read.newest
            elif read.fault is None:
                faults.append(FileFault(f"{name}.pem", error.fault, str(error), read.names))
            used = read.used
            if used is not None and (used is not read.newest or error is None) and wall < used.pair.not_after:
                yield used


def _status(entry: "os.DirEntry[str]") -> os.stat_result:
    """Of the file that an entry leads to, or else of the link itself, which then has the fault that it leads
    nowhere. Raises OSError."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def _date_fault(pair: KeyPair, wall: float) -> UnusableCertificate | None:
    """Why a certificate must not be used at `wall`; None = it may."""
    try:
        check_dates(pair, wall)
    except UnusableCertificate as error:
        return error
    return None


def _left_out(found: FoundFiles, reads: dict[str, _Read]) -> Iterator[FileFault]:
    for name in found.without_chain:
        if name.removesuffix(KEY) not in reads:  # else it has this fault itself
            yield FileFault(name, *_WITHOUT_CHAIN)
    if found.beyond:
        yield FileFault("", "too_many_files", f"{found.beyond} pairs beyond the limit are not read")
