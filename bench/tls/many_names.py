"""100,000 names from files: how long one worker reads them, and what they take in memory.

`python -m bench.tls.many_names DIRECTORY RESULT`: reads them in a process of its own, so that its memory is theirs.
All certificates are of one authority and, to be made in a minute, of one key; each is checked as if it were not.
"""

import resource
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.lab.load_process import run_task
from bench.lab.programs import BenchFailed
from bench.lab.task_files import play_task
from bench.report import Fact, facts_table, none_missed
from edge.net.certificates.certificate_directory import CertificateDirectory
from edge.net.certificates.certificate_files_reader import CertificateFiles

NAMES = 100_000
MOST_SECONDS = 20.0
KIB = 1 << 10


class NamesTask(msgspec.Struct, frozen=True):
    """What is read."""

    directory: str


class NamesRead(msgspec.Struct, frozen=True, kw_only=True):
    """What it took."""

    names: int
    faults: int
    first: float
    "CPU seconds to read all."
    again: float
    "The same when nothing has changed."
    resident: int
    "Bytes by which VmRSS grew."
    peak: int
    "By which it grew at most."


@dataclass(frozen=True, slots=True)
class ManyNamesReport:
    """What was read, and what it took."""

    read: NamesRead

    def facts(self) -> list[Fact]:
        read = self.read
        return [
            Fact("names", f"{read.names}"),
            Fact("CPU to read all", f"{read.first:.1f} s", f"<= {MOST_SECONDS:g} s", read.first <= MOST_SECONDS),
            Fact("CPU when nothing has changed", f"{read.again:.2f} s"),
            Fact("memory for each", f"{read.resident / read.names / KIB:.2f} KiB"),
            Fact("memory in all", f"{read.resident / KIB / KIB:.0f} MiB, {read.peak / KIB / KIB:.0f} at most"),
        ]

    @property
    def good(self) -> bool:
        return none_missed(self.facts()) and not self.read.faults

    def text(self) -> str:
        return facts_table("certificates from files, one worker", self.facts())


async def play(directory: Path, *, names: int = NAMES) -> ManyNamesReport:
    """Raises BenchFailed."""
    files = directory / "certificates"
    files.mkdir()
    write_certificates(files, names)
    limit = 60 + names / 100  # the machine may be busy: what counts is CPU time
    read = await run_task(__name__, NamesTask(str(files)), NamesRead, directory, time_limit=limit)
    if read.names != names:
        raise BenchFailed(f"{read.names} names instead of {names}")
    return ManyNamesReport(read)


def write_certificates(directory: Path, count: int) -> None:
    """Bundles for so many hostnames; a hundred microseconds each."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "styx bench")])
    now = datetime.now(UTC)
    authority = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    builder = x509.CertificateBuilder().issuer_name(issuer).public_key(key.public_key())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(90))
    for number in range(count):
        name = f"site-{number}.example.org"
        leaf = (
            builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .serial_number(number + 2)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        chain = leaf.public_bytes(Encoding.PEM).decode() + authority
        (directory / f"{name}.pem").write_text(chain + private)


def read_certificates(directory: str) -> NamesRead:
    """Read them as a worker does, twice."""
    before, files = _resident(), CertificateFiles(CertificateDirectory(directory, recent=0.0))
    began = time.process_time()
    files.read_now()
    first, began = time.process_time() - began, time.process_time()
    resident = _resident() - before
    files.read_now()
    return NamesRead(
        names=len(files.certificates),
        faults=files.faults,
        first=first,
        again=time.process_time() - began,
        resident=resident,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB - before,
    )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    play_task(NamesTask, lambda task: read_certificates(task.directory))
