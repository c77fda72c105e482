"""Fuzzes the reader of ClientHellos, and the transport: in this process, without sockets, for so many seconds.

    hello       a real one, mutated and cut: one verdict however it comes, no other exception, bounded, soon, and
                the same name as OpenSSL finds in the same bytes
    transport   records of a client, mutated, in the handshake and after it: the application gets a beginning of
                what was sent and nothing else, the shared BIOs are empty after each call, and others work

The seed is printed; the same seed sends the same. `hello_load` floods a whole styx, this looks at two classes.
"""

import asyncio
import ssl
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from bench.report import table, verdict
from bench.tls.memory_wire import MemoryWire, Party, established
from bench.tls.tls_mutations import mutated
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.tls_contexts import PemPair, TlsProfile, host_context
from edge.platform.pki import Authority
from edge.rules.certificates.certificate_names import hostname_in
from edge.rules.tls.client_hello import LIMIT, BadClientHello, ClientHello, ClientHelloReader, NotTls

NAME = "www.example.org"
KEPT = 20
"Findings that are told; all are counted."
TOLD = 200
"Characters of each on the screen; the file of results has all."
MOST_CPU = 0.5
"Seconds of CPU for one hello or one piece of a connection, many times what any takes."
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
BYTEWISE = 0.05
"Part of the hellos that also come byte by byte, which takes a hundred times as long."
TURN = 64
"Hellos between two connections."

Verdict = tuple[str, object]


@dataclass(slots=True)
class TlsFuzzReport:
    """What was sent, and what was found."""

    seed: int
    seconds: float
    hellos: Counter[str] = field(default_factory=Counter)
    "By what the reader said."
    compared: int = 0
    "Hellos in which OpenSSL has read a name, too."
    connections: Counter[str] = field(default_factory=Counter)
    "By what became of them."
    findings: list[str] = field(default_factory=list)
    found: int = 0

    def find(self, what: str) -> None:
        self.found += 1
        if len(self.findings) < KEPT:
            self.findings.append(what)

    @property
    def good(self) -> bool:
        return not self.found and self.compared > 0 and self.connections["honest"] > 0

    def text(self) -> str:
        rows = [
            ("hellos", _told(self.hellos), "", ""),
            ("names compared with OpenSSL's", str(self.compared), "", ""),
            ("connections", _told(self.connections), "", ""),
            ("findings", str(self.found), "0", verdict(met=not self.found)),
        ]
        heading = (f"TLS fuzz, seed {self.seed}, {self.seconds:.0f} s", "seen", "goal", "")
        return "\n".join((table(heading, rows), *(what[:TOLD] for what in self.findings)))


def _told(counts: Counter[str]) -> str:
    return f"{counts.total()} (" + ", ".join(f"{n} {what}" for what, n in counts.most_common(8)) + ")"


async def play(*, seconds: float, seed: int | None = None) -> TlsFuzzReport:
    """Fuzz for so long."""
    seed = seed or Random().randrange(1, 1 << 31)
    print(f"seed {seed}", flush=True)
    began, report = time.monotonic(), TlsFuzzReport(seed, seconds)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # names that are not ASCII: see client_hello.py
    try:
        fuzz = _Fuzz(report, Random(seed))
        while time.monotonic() < began + seconds:
            for _ in range(TURN):
                fuzz.hello()
            await fuzz.connection()
    finally:
        sys.unraisablehook = hook
    return report


class _Fuzz:
    """One run."""

    def __init__(self, report: TlsFuzzReport, rand: Random) -> None:
        self._report = report
        self._rand = rand
        pair = Authority("fuzz").issue(NAME)
        self._host = host_context(
            [PemPair(pair.chain.encode(), pair.key.encode())], TlsProfile.INTERMEDIATE, ["h2", "http/1.1"]
        )
        self._bios = BioPair()
        self._seeds = [made for version in (None, *VERSIONS) for made in _hellos(version)]
        self._oracle = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._oracle.sni_callback = self._note_name
        self._names: list[str | None] = []
        self._honest: Party | None = None

    def _note_name(self, tls: Any, name: str | None, context: ssl.SSLContext) -> None:
        self._names.append(name)

    # hellos

    def hello(self) -> None:
        """One mutated hello, in three ways of arriving."""
        rand, report = self._rand, self._report
        data = mutated(rand.choice(self._seeds), rand)
        began = time.thread_time()
        whole = self._read(data, [len(data)])
        if time.thread_time() - began > MOST_CPU:
            report.find(f"slow: {data.hex()}")
        cuts = [*sorted(rand.randrange(len(data) + 1) for _ in range(rand.randrange(1, 8))), len(data)]
        bytewise = rand.random() < BYTEWISE
        for way in (cuts, range(1, len(data) + 1)) if bytewise else (cuts,):
            if (other := self._read(data, way)) != whole:
                report.find(f"{whole} whole, {other} in pieces: {data.hex()}")
        report.hellos[whole[0]] += 1
        if isinstance(whole[1], ClientHello):
            self._compare(data, whole[1])

    def _read(self, data: bytes, ends: Any) -> Verdict:
        """What the reader says of bytes that arrive in pieces, which end there."""
        reader, at = ClientHelloReader(), 0
        try:
            hello = None
            for end in ends:
                hello, at = reader.feed(data[at:end]), end
        except BadClientHello as error:
            return f"alert {error.alert}", None
        except NotTls as error:
            return f"not TLS: {error.protocol}", None
        except Exception as error:
            self._report.find(f"{error!r}: {data.hex()}")
        else:
            if len(reader.data) > LIMIT:
                self._report.find(f"{len(reader.data)} bytes are held")
            return ("more", None) if hello is None else ("hello", hello)
        return "exception", None

    def _compare(self, data: bytes, hello: ClientHello) -> None:
        """OpenSSL finds the same name in the same bytes, if it gets so far."""
        self._names.clear()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(data)
        with suppress(ssl.SSLError):
            self._oracle.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
        if not self._names:
            return
        self._report.compared += 1
        name = self._names[0]
        theirs = None if name is None else hostname_in(name)
        if theirs != hello.server_name:
            self._report.find(f"{hello.server_name!r}, and {name!r} in OpenSSL: {data.hex()}")

    # connections

    async def connection(self) -> None:
        """One connection whose client's bytes are mutated, beside an honest one with the same BIOs."""
        rand, report = self._rand, self._report
        if self._honest is None or rand.random() < 0.02:
            self._honest = established(MemoryWire(self._bios, self._host), NAME, rand)
        wire = MemoryWire(self._bios, self._host)
        try:
            how = _attacked(wire, rand)
        except Exception as error:
            report.find(f"{error!r} in a connection")
            self._bios.clear()
            return
        report.connections[how] += 1
        for fault in wire.faults:
            report.find(f"{how}: {fault}")
        await asyncio.sleep(0)  # what a transport leaves to a later turn
        sent = rand.randbytes(rand.randrange(1, 20_000))
        if self._honest.echoes(sent):
            report.connections["honest"] += 1
        else:
            report.find(f"an honest connection does not work after: {how}")
            self._honest = None


def _attacked(wire: MemoryWire, rand: Random) -> str:
    """Mutate what the client sends, in the handshake or after it. Returns what became of the connection."""
    began = time.thread_time()
    party = Party(wire, NAME, rand)
    in_handshake = rand.random() < 0.4
    if in_handshake:
        party.shake_hands(lambda data: mutated(data, rand) if rand.random() < 0.7 else data)
    else:
        party.shake_hands(lambda data: data)
        for _ in range(rand.randrange(1, 6)):
            party.send(rand.randbytes(rand.choice((1, 100, 5000, 40_000))), lambda data: mutated(data, rand))
    if time.thread_time() - began > MOST_CPU:
        wire.faults.append(f"took {time.thread_time() - began:.2f} s")
    party.check()
    where = "in the handshake" if in_handshake else "after it"
    return f"{'ended' if wire.is_ended else 'open'} {where}"


def _hellos(version: ssl.TLSVersion | None) -> list[bytes]:
    """Hellos of Python's ssl with this version at most; none if it has no such version."""
    found = []
    for protocols, name in (
        ([], NAME),
        (["h2", "http/1.1"], NAME),
        (["x" * 200] * 20, "a." * 100 + "test"),
        ([], None),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with suppress(ValueError, ssl.SSLError):
            if version is not None:
                context.minimum_version = version
                context.maximum_version = version
            if protocols:
                context.set_alpn_protocols(protocols)
            outgoing = ssl.MemoryBIO()
            client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            found.append(outgoing.read())
    return [hello for hello in found if hello]
