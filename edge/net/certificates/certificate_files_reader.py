"""Certificates from a directory of files, for one worker: read in a thread, again when something has changed.

    look ──► unreadable              the certificates in use stay in use; told once
      └────► read ──► in use         from the next handshake on; files with faults are told, each once

It looks every `interval` seconds, because nothing reports that a directory is back or that a certificate has begun
or ended; and at once when the kernel reports a change, unless the last look took long. A reader of its own in each
worker needs no way for private keys between processes.
"""

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

from edge.net.certificates.certificate_directory import CertificateDirectory, DirectoryContent, FileFault
from edge.net.certificates.certificate_lookup import NoCertificate
from edge.rules.certificates.certificate_files import CHAIN, KEY, NO_CERTIFICATES, CertificateSet
from edge.rules.certificates.certificate_names import wildcard_of
from edge.rules.certificates.certificates import Certificate
from edge.rules.certificates.explain_certificate import MOST_ENDING, certificate_status, explain_certificate
from edge.rules.environment_status_records import CertificateStatus
from edge.rules.explain_records import ExplainedCertificate
from edge.rules.limits.lookup_queue import Done, WaitingLookup
from edge.rules.tls.client_hello import Alert

INTERVAL: Final = 30.0
"Seconds between two looks, and between two steps of time: a certificate begins or ends."
SETTLE: Final = 2.0
"Seconds after a look at files that were just written, or had faults, until the next one."
REST: Final = 9.0
"So many times as long as a look has taken, there is no other one: a directory of many files takes a second."
MANY_NAMES: Final = 10
"Hostnames that are named when they are no longer served."
MANY_FAULTS: Final = 20
"Faults that are told one by one after a look."

Watch = Callable[[str, Callable[[], None], Callable[[], bool]], Coroutine[Any, Any, None]]
"Calls its second argument when something changes in the directory of the file that the first one names."

log = logging.getLogger("styx.certificates")


class CertificateFiles:
    """The certificates of one worker that come from a directory. A `CertificateFinder`."""

    def __init__(
        self,
        directory: CertificateDirectory,
        *,
        interval: float = INTERVAL,
        settle: float = SETTLE,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._interval = interval
        self._settle = settle
        self._wall = wall
        self._clock = clock
        self._told: frozenset[FileFault] = frozenset()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self.certificates: CertificateSet = NO_CERTIFICATES
        self._faults = 0
        self._ending_first: list[Certificate] = []
        self.is_readable = True
        self.looks = 0
        self.results: Counter[str] = Counter()
        "Lookups by result: fresh, or absent."
        self.wanted: Callable[[str, str], None] = lambda hostname, client: None
        "Called with a hostname without a certificate, and the address of who asked for it."
        self.soonest_not_after: float | None = None
        "The earliest notAfter, in seconds since the epoch; None = there are no certificates."

    @property
    def faults(self) -> int:
        """Files that are not used, or not with their newest content; -1 = the directory cannot be read."""
        return self._faults if self.is_readable else -1

    @property
    def rejected(self) -> Mapping[str, int]:
        """Empty: what is wrong with files is in `faults`."""
        return {}

    # for handshakes

    def find(self, hostname: str) -> Certificate | None:
        """The certificate of a name; None = there is none."""
        found = self.certificates.find(hostname, self._wall())
        if found is not None:
            self.results["fresh"] += 1
        return found

    def refuse(self, hostname: str, client: str | None) -> NoCertificate:
        """There is no certificate of this name, for all files have been read."""
        self.results["absent"] += 1
        if client is not None:
            self.wanted(hostname, client)
        return NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")

    def queue(self, hostname: str, client: str, deadline: float, go_on: Done, refused: Callable[[], None]) -> None:
        """Nothing is waited for."""

    def leave(self, waiting: WaitingLookup) -> None:
        """Nobody waits."""

    async def lookup(self, hostname: str, client: str | None, *, deadline: float) -> Certificate:
        """The certificate of a name. Raises NoCertificate. Nothing is waited for."""
        found = self.find(hostname)
        if found is None:
            raise self.refuse(hostname, client)
        return found

    # for operators and the change stream

    def explain(self, hostname: str) -> ExplainedCertificate | None:
        """Explain the certificate of a name to operators; None = nothing is known."""
        wall = self._wall()
        return explain_certificate(
            self.certificates.find(hostname, wall),
            state="fresh" if self.is_readable else "stale",
            source=self._directory.path,
            last_error=next((_words(fault) for fault in self._told if _concerns(fault, hostname)), None),
            wall=wall,
        )

    def ending_first(self) -> list[CertificateStatus]:
        """The certificates that end first."""
        faults = {name: fault.words for fault in self._told for name in (*fault.names, _stem(fault))}
        return [
            certificate_status(found, self._directory.path, faults.get(found.names[0]))
            for found in self._ending_first
        ]

    def changed(self, name: str) -> None:
        """Something about the certificate of this name has changed: look."""
        self.look_soon()

    def all_changed(self) -> None:
        """Everything may have changed: look."""
        self.look_soon()

    def invalidate(self, name: str) -> bool:
        """Look. Returns whether there is a certificate of this name."""
        self.look_soon()
        return self.certificates.find(name, self._wall()) is not None

    # reading

    def read_now(self) -> None:
        """Read the directory. Blocking: before clients are accepted, and before `read_on`. Raises OSError."""
        was_enabled = gc.isenabled()
        gc.disable()  # it would look through all that was read again and again: a fifth of the time
        try:
            self._take(self._directory.read())
        finally:
            if was_enabled:
                gc.enable()

    async def read_on(self) -> None:
        """Read whenever something has changed, until it is cancelled."""
        while True:
            began = self._clock()
            pause = await self.look()
            await asyncio.sleep(REST * (self._clock() - began))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()

    def watching(self, watch: Watch) -> Callable[[], Awaitable[None]]:
        """The task that makes `read_on` look at once when the kernel reports a change."""
        return lambda: watch(f"{self._directory.path}/any", self.look_soon, lambda: self.is_readable)

    def look_soon(self) -> None:
        """Look now, as after a change or SIGHUP."""
        self._wake.set()

    async def look(self) -> float:
        """Read what has changed. Returns the seconds until the next look."""
        async with self._turn:
            try:
                content = await asyncio.to_thread(self._directory.read)
            except OSError as error:
                if self.is_readable:
                    why = error.strerror or str(error)
                    log.error(
                        "directory of certificates unreadable",
                        extra={
                            "code": "certificate_directory_unreadable",
                            "directory": self._directory.path,
                            "error": why,
                        },
                    )
                self.is_readable = False
                return self._interval
            finally:
                self.looks += 1
            self._take(content)
            return self._settle if content.read else self._interval

    def _take(self, content: DirectoryContent) -> None:
        is_news = content.certificates.count != self.certificates.count or not self.is_readable
        before, self.certificates = self.certificates, content.certificates
        self.is_readable, self._faults = True, len(content.faults)
        faults = frozenset(content.faults)
        for fault in sorted(faults - self._told)[:MANY_FAULTS]:
            log.warning(
                "certificate rejected",
                extra={
                    "code": "certificate_rejected",
                    "certificate": fault.file,
                    "reason": fault.fault,
                    "details": fault.words,
                    "source": self._directory.path,
                    "left_out_before": 0,
                },
            )
        self._told = faults
        if is_news or content.read:
            self._tell_dropped(content.certificates.dropped_since(before))
            self._ending_first = content.certificates.ending_first(MOST_ENDING)
            self.soonest_not_after = self._ending_first[0].not_after if self._ending_first else None
            log.info(
                "certificate files read",
                extra={
                    "code": "certificate_files_read",
                    "directory": self._directory.path,
                    "pairs": content.certificates.count,
                    "names": len(content.certificates),
                    "read": content.read,
                    "faults": len(content.faults),
                },
            )

    def _tell_dropped(self, names: list[str]) -> None:
        """Log hostnames that had a certificate and have none any more: removed, ended, or not in the new one."""
        if names:
            log.warning(
                "hostnames without certificate",
                extra={
                    "code": "certificate_names_dropped",
                    "directory": self._directory.path,
                    "names": len(names),
                    "hostnames": sorted(names)[:MANY_NAMES],
                },
            )


def _stem(fault: FileFault) -> str:
    """The name of a file without its ending, which often is a hostname."""
    return fault.file.removesuffix(CHAIN).removesuffix(KEY)


def _concerns(fault: FileFault, hostname: str) -> bool:
    return hostname == _stem(fault) or hostname in fault.names or wildcard_of(hostname) in fault.names


def _words(fault: FileFault) -> str:
    return f"{fault.file}: {fault.words}"
