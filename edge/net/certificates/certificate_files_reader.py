"""Certificates from a directory of files, for one worker: read in a thread, again when something has changed.

    look ──► unreadable              the certificates in use stay in use; told once
      └────► read ──► in use         from the next handshake on; files with faults are told, each once

It looks every `interval` seconds, because nothing reports that a directory is back or that a certificate has begun
or ended; and at once when the kernel reports a change. A reader of its own in each worker needs no way for private
keys between processes.
"""

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from edge.net.certificates.certificate_directory import CertificateDirectory, DirectoryContent, FileFault
from edge.net.certificates.certificate_question import NoCertificate
from edge.rules.certificates.certificate_files import NO_CERTIFICATES, CertificateSet
from edge.rules.certificates.certificates import Certificate
from edge.rules.certificates.explain_certificate import MOST_ENDING, certificate_status, explain_certificate
from edge.rules.environment_status_records import CertificateStatus
from edge.rules.explain_records import ExplainedCertificate
from edge.rules.tls.client_hello import Alert

INTERVAL: Final = 30.0
"Seconds between two looks, and between two steps of time: a certificate begins or ends."
SETTLE: Final = 2.0
"Seconds after a look at files that were just written, or had faults, until the next one."
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
    ) -> None:
        self._directory = directory
        self._interval = interval
        self._settle = settle
        self._wall = wall
        self._told: frozenset[FileFault] = frozenset()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self.certificates: CertificateSet = NO_CERTIFICATES
        self.faults = 0
        "Files that are not used, or not their newest content."
        self._ending_first: list[Certificate] = []
        self.is_readable = True
        self.looks = 0
        self.results: Counter[str] = Counter()
        "Look-ups by result: fresh, or absent."
        self.wanted: Callable[[str, str], None] = lambda hostname, client: None
        "Called with a hostname without a certificate, and the address of who asked for it."
        self.soonest_not_after: float | None = None
        "The earliest notAfter, in seconds since the epoch; None = there are no certificates."

    # for handshakes

    def find(self, hostname: str) -> Certificate | None:
        """The certificate of a name; None = there is none."""
        found = self.certificates.find(hostname, self._wall())
        if found is not None:
            self.results["fresh"] += 1
        return found

    async def lookup(self, hostname: str, client: str | None, *, deadline: float) -> Certificate:
        """The certificate of a name. Raises NoCertificate. Nothing is waited for: all files have been read."""
        found = self.find(hostname)
        if found is None:
            self.results["absent"] += 1
            if client is not None:
                self.wanted(hostname, client)
            raise NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
        return found

    # for operators and the change stream

    def explain(self, hostname: str) -> ExplainedCertificate | None:
        """What is known of the certificate of a name; None = nothing."""
        wall, file = self._wall(), f"{hostname}.pem"
        return explain_certificate(
            self.certificates.find(hostname, wall),
            state="fresh" if self.is_readable else "stale",
            source=self._directory.path,
            last_error=next((f"{fault.file}: {fault.words}" for fault in self._told if fault.file == file), None),
            wall=wall,
        )

    def ending_first(self) -> list[CertificateStatus]:
        """The certificates that end first."""
        faults = {fault.file: fault.words for fault in self._told}
        return [
            certificate_status(found, self._directory.path, faults.get(f"{found.names[0]}.pem"))
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
            pause = await self.look()
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
        self.certificates, self.is_readable, self.faults = content.certificates, True, len(content.faults)
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
            self._ending_first = content.certificates.ending_first(MOST_ENDING)
            self.soonest_not_after = self._ending_first[0].not_after if self._ending_first else None
            log.info(
                "certificates read",
                extra={
                    "code": "certificate_files_read",
                    "directory": self._directory.path,
                    "pairs": content.certificates.count,
                    "names": len(content.certificates),
                    "read": content.read,
                    "faults": len(content.faults),
                },
            )
