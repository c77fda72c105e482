"""The step of the accept chain that terminates TLS: reads the ClientHello, waits for the certificate, performs the
handshake.

    accepted ─► ClientHello ─► certificate ─► handshake ─► the next step, over a TlsTransport
                  │   │           │  └─ not ready: its context is built in a thread
                  │   │           ├─ it, or the listener, has no protocol that the client names: alert
                  │   │           ├─ none for this name: alert unrecognized_name
                  │   │           └─ it could not be asked for: alert internal_error
                  │   └─ too many handshakes of this client, or in all: closed
                  └─ no ClientHello: an alert; a request without TLS: 400

One deadline covers all of it. ClientHellos and handshakes have a budget of time of their own in each turn of the
loop (`TlsService.turns`): hundreds at once, such as those that waited for the same certificate or a flood of them,
are spread over many turns, and requests of established connections are served in between.
"""

import asyncio
import logging
import ssl
import sys
from math import inf
from typing import Final

from edge.net.accept.accept_chain import NewConnection
from edge.net.certificates.certificate_lookup import NoCertificate
from edge.net.h1.h1_connection import H1Connection
from edge.net.tls.certificate_wait import CertificateWait, context_identity
from edge.net.tls.client_verification import ClientVerification, VerifyingContexts
from edge.net.tls.handshake_result import HandshakeResult
from edge.net.tls.tls_service import TlsService
from edge.net.tls.tls_transport import TlsTransport
from edge.net.transport.socket_state import has_input
from edge.net.worker_context import WorkerContext
from edge.rules.certificates.certificates import Certificate
from edge.rules.http.head_validation import Request
from edge.rules.limits.lookup_queue import WaitingLookup
from edge.rules.outcomes import Cause
from edge.rules.tls.client_certificate import NONE_SHOWN, client_certificate
from edge.rules.tls.client_hello import (
    LIMIT,
    Alert,
    BadClientHello,
    ClientHello,
    ClientHelloReader,
    NotTls,
    OtherProtocol,
    alert_record,
)
from edge.rules.tls.request_gate import gate_of_certificate

_EMPTY: Final = ClientHelloReader()
"Takes the place of a reader whose bytes are given away; nothing is fed to it."

log = logging.getLogger("styx.tls")


class TlsAccept:
    """The TLS step of one connection. A member of the deadline sweep."""

    __slots__ = (
        "_began",
        "_certificate",
        "_connection",
        "_context",
        "_encrypted",
        "_held",
        "_hello",
        "_is_over",
        "_lookup",
        "_name",
        "_protocols",
        "_reader",
        "_tls",
        "_tls_object",
        "_transport",
        "_turn",
        "_verification",
        "_verifying",
        "deadline",
    )

    requests = 0
    "No request has come: `IdleConnections`."

    def __init__(
        self,
        context: WorkerContext,
        connection: NewConnection,
        *,
        tls: TlsService,
        protocols: tuple[str, ...],
        verification: ClientVerification | None = None,
    ) -> None:
        """`protocols`: names of the protocols that are offered, as far as the certificate allows them (ALPN).
        `verification`: of the certificates that clients are asked for; None = they are not asked."""
        self._context = context
        self._connection = connection
        self._tls = tls
        self._protocols = protocols
        self._transport = connection.transport
        "The transport of the socket."
        self._encrypted = TlsTransport(connection.transport, None, tls.bios)
        "The one of the next steps."
        self._reader = ClientHelloReader()
        "Holds what has come, until the handshake begins."
        self._held = b""
        "What has come and is left to a later turn of the loop; at most as long as a hello, and one read."
        self._hello: ClientHello | None = None
        self._certificate: Certificate | None = None
        "The one that is served."
        self._name = ""
        "The hostname whose certificate is looked up."
        self._turn: WaitingLookup | None = None
        "Its place in the queue for the limit of unknown hosts."
        self._lookup: asyncio.Task[tuple[Certificate, ssl.SSLContext]] | None = None
        "Waits for the certificate."
        self._verification = verification
        self._verifying: VerifyingContexts | None = None
        "The contexts of `verification` at the ClientHello."
        self._tls_object: ssl.SSLObject | None = None
        self._is_over = False
        "Whether the connection went on to the next step, or is rejected; later bytes are ignored."
        self._began = 0.0
        self.deadline = inf

    def __repr__(self) -> str:
        return f"<TlsAccept {self._connection.info.address} {self._reader!r}>"

    def begin(self, data: bytes) -> None:
        """Begin to read the ClientHello."""
        self._began = self._context.clock()
        self.deadline = self._began + self._context.timeouts.handshake
        self._context.deadline_sweep.add(self)
        self._encrypted.wait(self)
        if data:
            self.data_received(data)

    # asyncio.Protocol, until the handshake begins

    def data_received(self, data: bytes) -> None:
        """Read it in this turn of the loop or, when the time for new clients is used up, in a later one."""
        if self._is_over:
            return
        held = self._held
        if self._hello is not None or (not held and self._tls.turns.begin_behind_deferred()):
            self._read(data)
            return
        self._held = held + data
        if not held:
            self._tls.turns.defer(self._read_held)
        elif len(self._held) > LIMIT:  # too long for a hello: it is refused
            self._read_held()

    def _read_held(self) -> None:
        held, self._held = self._held, b""
        if held and not self._is_over:
            self._read(held)

    def _read(self, data: bytes) -> None:
        try:
            hello = self._reader.feed(data)
        except BadClientHello as error:
            self._alert(error.alert, "bad_hello")
        except NotTls as other:  # (A name of its own: compiled, a variable has one type.)
            self._refuse(other.protocol, data)
        else:
            if hello is not None and self._hello is None:
                self._find_certificate(hello)

    def eof_received(self) -> None:
        """Do nothing: the loop closes the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_over:
            self._fail("client_gone")
        self._end()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Do nothing: at most an alert is written."""

    def resume_writing(self) -> None:
        """Do nothing: at most an alert is written."""

    # the certificate

    def _find_certificate(self, hello: ClientHello) -> None:
        """Go on with the certificate of this name, now or when it has come."""
        self._hello = hello
        tls, info = self._tls, self._connection.info
        if not info.trusted and not tls.client_limit.take(info.address, self._context.clock()):
            self._fail("client_limit")
            self._transport.abort()
            return
        name = tls.default if hello.server_name is None else hello.server_name
        if name is None:
            self._alert(Alert.UNRECOGNIZED_NAME, "no_name")
            return
        if self._verification is not None:
            self._verifying = self._verification.contexts
        self._name = name
        certificate = tls.certificates.find(name)
        if certificate is not None:
            self._serve(certificate)
        else:
            self._context.deferred_queue.add(self._not_found)

    def _serve(self, certificate: Certificate) -> None:
        """Go on with this certificate when its context is ready."""
        self._certificate, tls = certificate, self._tls
        authorities = None if self._verifying is None else self._verifying.authorities
        context = tls.hosts.find(context_identity(certificate, self._protocols, authorities))
        if context is not None:
            self._go_on(context)
        else:
            tls.handshakes.ask(self)
            self._look_up(None)

    def _not_found(self) -> None:
        """Refuse the handshake, or wait for its certificate; a few of these in each turn of the loop, however many
        hellos for made-up names have come."""
        if self._is_over:
            return
        tls, name, client = self._tls, self._name, self._connection.info.address
        refusal = tls.certificates.refuse(name, client)
        if refusal is None:
            tls.handshakes.ask(self)
            self._turn = tls.certificates.queue(name, client, self.deadline, self._turn_has_come, self._refused)
            if self._turn is None:
                self._look_up(client)
        elif refusal.alert is not Alert.UNRECOGNIZED_NAME or tls.default is None or tls.default == name:
            self._alert(refusal.alert, refusal.reason)
        else:
            self._name = tls.default
            certificate = tls.certificates.find(tls.default)
            if certificate is not None:
                self._serve(certificate)
            else:
                tls.handshakes.ask(self)
                self._look_up(None)

    def _turn_has_come(self, _: object) -> None:
        """Go on after the wait for the limit of unknown hosts."""
        self._turn = None
        if not self._is_over:
            self._look_up(self._connection.info.address)

    def _refused(self) -> None:
        """The client has named too many unknown hosts."""
        self._turn = None
        self._alert(Alert.INTERNAL_ERROR, "refused")

    def _look_up(self, client: str | None) -> None:
        """Wait for the certificate and its context. `client`: who is charged if there is none; None = nobody."""
        authorities = None if self._verifying is None else self._verifying.authorities
        wait = CertificateWait(self._tls, self._name, client, self._protocols, authorities, self.deadline)
        self._lookup = task = self._context.loop.create_task(wait.run(self._certificate), name="certificate")
        task.add_done_callback(self._certificate_found)

    def _certificate_found(self, done: asyncio.Task[tuple[Certificate, ssl.SSLContext]]) -> None:
        """Go on with what was waited for, or refuse the handshake."""
        if done.cancelled():
            return
        self._lookup = None
        error = done.exception()
        if isinstance(error, NoCertificate):
            self._alert(error.alert, error.reason)
        else:
            self._certificate, context = done.result()
            self._go_on(context)

    # the handshake

    def _go_on(self, context: ssl.SSLContext) -> None:
        """Shake hands in a later turn of the loop, one in each: a handshake uses up the time that a turn has."""
        if not self._is_over:
            self._tls.turns.defer(lambda: self._shake_hands(context))

    def _shake_hands(self, context: ssl.SSLContext) -> None:
        hello, certificate, tls = self._hello, self._certificate, self._tls
        if self._is_over or hello is None or certificate is None or self._transport.is_closing():
            return
        served = [protocol for protocol in certificate.alpn if protocol in self._protocols]
        if served and not hello.shares_protocol(served):  # OpenSSL would go on without a protocol
            self._alert(Alert.NO_APPLICATION_PROTOCOL, "no_protocol")
            return
        if not tls.handshakes.enter(self, self._context.clock()):
            self._fail("limit")
            self._transport.abort()
            return
        base = (tls.bases if self._verifying is None else self._verifying.bases).choose(hello.ticket)
        self._tls_object = wrapped = base.wrap_bio(tls.bios.incoming, tls.bios.outgoing, server_side=True)
        wrapped.host_context = context  # type: ignore[attr-defined]  # a HostSslObject, which the base context makes
        held, self._reader = bytes(self._reader.data), _EMPTY
        self._connection.transport = self._encrypted  # type: ignore[assignment]  # it has what the next steps need
        self._encrypted.begin(self, held, wrapped)
        if not self._is_over:
            tls.handshakes.wait_for_client(self, self._context.clock())

    def handshake_done(self, early: bytes) -> None:
        """Begin the next step, with plaintext that came along with the end of the handshake."""
        assert self._tls_object is not None
        assert self._hello is not None
        if self._verifying is not None and (fault := self._identify(self._tls_object, self._verifying)):
            self._connection.transport.set_protocol(self)  # type: ignore[arg-type]  # to learn of its end
            self._fail(fault)
            self._connection.transport.abort()
            return
        self._end()
        result = self._tls.record(self._tls_object, self._hello.server_name, self._context.clock() - self._began)
        self._tls_object = None
        self._connection.tls = result
        self._describe(result)
        self._connection.begin_next(early)

    def _describe(self, result: HandshakeResult) -> None:
        """Record in the information about the client what was agreed on, and for which hostnames it is good."""
        info, certificate = self._connection.info, self._certificate
        assert certificate is not None
        info.tls = sys.intern(result.version.removeprefix("TLSv"))  # one string for all connections
        info.resumed = result.resumed
        info.sni = result.server_name or ""
        info.gate = gate_of_certificate(result.server_name, self._tls.default, certificate.names)

    def _identify(self, tls: ssl.SSLObject, verifying: VerifyingContexts) -> str:
        """Record who the client is by its certificate. Returns why it may not go on; empty = it may. (OpenSSL has
        verified the certificate, but not whether it is revoked, and at the first handshake of a session only.)"""
        shown = tls.getpeercert(True)
        if shown is None:
            self._connection.info.identify(NONE_SHOWN, "")
            return "no_client_certificate" if verifying.authorities.is_required else ""
        certificate = client_certificate(shown)
        if tls.session_reused and certificate.not_after <= self._tls.wall():
            return "bad_client_certificate"
        if verifying.revocations is not None and (why := verifying.revocations.rejection(shown, self._tls.wall())):
            return why
        self._connection.info.identify(certificate.lines, certificate.subject)
        return ""

    def handshake_failed(self, error: Exception) -> None:
        """Count the failure. The connection is closed when the alert is sent."""
        reason = getattr(error, "reason", None) or ""
        if isinstance(error, ssl.SSLCertVerificationError):
            self._fail("bad_client_certificate")
        elif reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            self._fail("no_client_certificate")
        elif "ALERT" in reason:
            self._fail("rejected_by_client")
        else:
            self._fail("failed")
        log.debug(
            "TLS handshake failed",
            extra={"code": "tls_handshake_failed", "client": self._connection.info.address, "error": str(error)},
        )

    def handshake_lost(self, exc: Exception | None) -> None:
        """The connection has ended before the handshake was complete."""
        self.connection_lost(exc)

    # the limits

    def deadline_passed(self, now: float) -> None:
        """Close a connection whose handshake takes too long. Called by the deadline sweep."""
        self.deadline = inf
        if not self._is_over:
            self._fail("timeout")
        self._transport.abort()

    def give_up(self) -> None:
        """Close the connection, because a new handshake needs its place. Called by `Handshakes`."""
        self._fail("given_up")
        self._transport.abort()

    def idle_since(self) -> float | None:
        """When it began to wait for a ClientHello; None = some of it has come. Called by `IdleConnections`."""
        has_come = bool(self._held or self._reader.data) or self._hello is not None
        return None if has_come or self._is_over else self._began

    def close_idle(self) -> bool:
        """Close the connection to make room. False = a ClientHello has just arrived. By `IdleConnections`."""
        if self._held or has_input(self._transport):
            return False
        self._fail("given_up")
        self._transport.abort()
        return True

    def stop(self) -> None:
        """Close the connection because the edge stops, unless bytes of a ClientHello are there: then it goes on."""
        if self._hello is None and not (self._is_over or self._held or has_input(self._transport)):
            self._fail("edge_stopped")
            self._transport.close()

    def drop(self) -> None:
        """Close the connection at once because the edge stops."""
        self._transport.abort()

    def _refuse(self, protocol: OtherProtocol, data: bytes) -> None:
        """Answer a request without TLS with 400, as nginx does; close what is neither."""
        if protocol is not OtherProtocol.HTTP:
            self._fail("not_tls")
            self._transport.abort()
            return
        self._tls.failures["plain_http"] += 1
        self._end()
        connection = H1Connection(self._context, self._connection)
        self._encrypted.give_back(connection)
        connection.begin(b"")
        connection.refuse(Cause.BAD_REQUEST, "a request without TLS on a TLS listener", Request.refused(data=data))

    def _alert(self, alert: Alert, reason: str) -> None:
        """Send a fatal alert, and close. OpenSSL is not needed for it: nothing is encrypted yet."""
        if self._is_over:
            return
        self._tls.alerts[alert] += 1
        self._fail(reason)
        self._transport.write(alert_record(alert))
        self._transport.close()

    def _fail(self, reason: str) -> None:
        """Count a handshake that has failed. The deadline stays, for a client that does not take the alert."""
        if self._is_over:
            return
        self._tls.failures[reason] += 1
        self._is_over = True
        self._reader, self._held = _EMPTY, b""
        self._leave()

    def _leave(self) -> None:
        self._tls.handshakes.leave(self)
        if self._turn is not None:
            self._tls.certificates.leave(self._turn)
            self._turn = None
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            lookup.cancel()

    def _end(self) -> None:
        self._context.deadline_sweep.discard(self)
        self._is_over = True
        self.deadline = inf
        self._leave()
